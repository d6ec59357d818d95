"""A native app: opens the system's browser, and gets the answer on a loopback port (RFC 8252).

    CLIENT_ID=<the app's id> python examples/native_app/main.py

`AUTHSERVICE_URL` (default http://localhost:8080) is the issuer. Standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import Request, urlopen

ISSUER = os.environ.get("AUTHSERVICE_URL", "http://localhost:8080")
CLIENT_ID = os.environ["CLIENT_ID"]


class Answer(BaseHTTPRequestHandler):
    """Takes the browser's way back."""

    parameters: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        """Keep the answer and say that all is done."""
        query = parse_qs(urlsplit(self.path).query)
        Answer.parameters = {name: values[0] for name, values in query.items()}
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<p>Signed in. You may close this window.</p>")

    def log_message(self, *_: object) -> None:
        """Log nothing: the URL holds the code."""


def call(url: str, form: dict[str, str] | None = None, bearer: str | None = None) -> dict[str, Any]:
    """Call an endpoint and return its JSON."""
    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
    data = urlencode(form).encode() if form else None
    with urlopen(Request(url, data, headers), timeout=30) as answer:  # noqa: S310 - the issuer's own URLs
        document: dict[str, Any] = json.load(answer)
        return document


def main() -> None:
    """Log the user in and say who it is."""
    provider = call(f"{ISSUER}/.well-known/openid-configuration")
    if provider["issuer"] != ISSUER:
        raise SystemExit("the metadata is another issuer's")
    server = HTTPServer(("127.0.0.1", 0), Answer)
    redirect_uri = f"http://127.0.0.1:{server.server_port}/callback"
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "client_id": CLIENT_ID,
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "scope": "openid email",
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    webbrowser.open(f"{provider['authorization_endpoint']}?{urlencode(query)}")
    while not Answer.parameters:
        server.handle_request()
    answer = Answer.parameters
    # Another page of this machine may have called the port (RFC 9207 §2.4 and RFC 6749 §10.12).
    if (answer.get("state"), answer.get("iss")) != (state, ISSUER):
        raise SystemExit("this is not the answer to our request")
    if "code" not in answer:
        raise SystemExit(f"refused: {answer['error']}")
    form = {
        "grant_type": "authorization_code",
        "code": answer["code"],
        "redirect_uri": redirect_uri,
        "client_id": CLIENT_ID,
        "code_verifier": verifier,
    }
    tokens = call(provider["token_endpoint"], form)
    user = call(provider["userinfo_endpoint"], bearer=tokens["access_token"])
    print(f"signed in as {user['email']}")


if __name__ == "__main__":
    main()
