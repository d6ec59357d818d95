"""A server app that lets AuthService log its users in, with Authlib: login, userinfo, refresh, logout.

    CLIENT_ID=<the app's id> CLIENT_SECRET=<its secret> python examples/server_app/main.py

`AUTHSERVICE_URL` (default http://localhost:8080) is the issuer; all else is found by discovery. One user at a
time: a real app keeps tokens with each user's session.
"""

from __future__ import annotations

import os
from urllib.parse import urlencode

import uvicorn
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.integrations.starlette_client import OAuth
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

PORT = int(os.environ.get("PORT", "8000"))
ISSUER = os.environ.get("AUTHSERVICE_URL", "http://localhost:8080")
OWN = f"http://127.0.0.1:{PORT}"

oauth = OAuth()
oauth.register(
    "authservice",
    server_metadata_url=f"{ISSUER}/.well-known/openid-configuration",
    client_id=os.environ["CLIENT_ID"],
    client_secret=os.environ["CLIENT_SECRET"],
    client_kwargs={"scope": "openid profile email offline_access", "code_challenge_method": "S256"},
)
provider = oauth.create_client("authservice")
kept: dict[str, dict[str, object]] = {}


async def login(request: Request) -> Response:
    """Send the browser to the provider."""
    answer: Response = await provider.authorize_redirect(request, f"{OWN}/callback", prompt="consent")
    return answer


async def callback(request: Request) -> Response:
    """Redeem the code; Authlib verifies the ID token and its nonce."""
    token = await provider.authorize_access_token(request)
    kept["token"] = token
    userinfo = await provider.userinfo(token=token)
    return JSONResponse({"claims": token["userinfo"], "userinfo": userinfo, "scope": token["scope"]})


async def refresh(_request: Request) -> Response:
    """Renew the tokens."""
    before = kept["token"]
    metadata = await provider.load_server_metadata()
    async with AsyncOAuth2Client(provider.client_id, provider.client_secret) as client:
        token = await client.refresh_token(metadata["token_endpoint"], before["refresh_token"])
    kept["token"] = {**before, **token}
    userinfo = await provider.userinfo(token=kept["token"])
    rotated = kept["token"]["refresh_token"] != before["refresh_token"]
    return JSONResponse({"userinfo": userinfo, "rotated": rotated})


async def logout(_request: Request) -> Response:
    """Send the browser to the provider to log out."""
    metadata = await provider.load_server_metadata()
    query = {
        "id_token_hint": kept["token"]["id_token"],
        "post_logout_redirect_uri": f"{OWN}/bye",
        "state": "done",
    }
    return RedirectResponse(f"{metadata['end_session_endpoint']}?{urlencode(query)}", status_code=303)


async def bye(request: Request) -> Response:
    """Where the provider sends the browser after a logout."""
    return JSONResponse({"bye": request.query_params.get("state")})


app = Starlette(
    routes=[
        Route("/login", login),
        Route("/callback", callback),
        Route("/refresh", refresh),
        Route("/logout", logout),
        Route("/bye", bye),
    ],
    middleware=[Middleware(SessionMiddleware, secret_key=os.urandom(32).hex())],
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning")
