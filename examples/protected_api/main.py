"""A service of your own that lets only AuthService users in; all it shares with AuthService are public keys.

    CLIENT_ID=<your client's id> PORT=8000 python examples/protected_api/main.py

`AUTHSERVICE_URL` (default http://localhost:8080) is where AuthService is, and the issuer of its tokens.
"""

from __future__ import annotations

import os
from typing import Annotated

import uvicorn
from authservice_validator import JwksKeys, TokenVerifier, VerifiedClaims
from authservice_validator.fastapi import install_problem_handler, require_user
from fastapi import Depends, FastAPI

ISSUER = os.environ.get("AUTHSERVICE_URL", "http://localhost:8080")
CLIENT_ID = os.environ["CLIENT_ID"]

keys = JwksKeys(f"{ISSUER}/.well-known/jwks.json?client_id={CLIENT_ID}")
# Issuer, audience and client are exact: a token of another tenant of the same issuer opens nothing here.
verifier = TokenVerifier(keys, issuer=ISSUER, audience=CLIENT_ID, client_id=CLIENT_ID)
app = FastAPI(title="Protected API")
install_problem_handler(app)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Tell that the process lives; open to everybody."""
    return {"status": "ok"}


@app.get("/orders")
async def orders(user: Annotated[VerifiedClaims, Depends(require_user(verifier))]) -> dict[str, object]:
    """List the orders of the user who asks; 401 for everybody else."""
    return {"user_id": user.sub, "email": user.email, "items": [{"id": 1, "what": "a lamp"}]}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")), log_level="warning")
