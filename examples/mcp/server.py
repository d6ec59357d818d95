"""An MCP server that lets AuthService's users in, and tells others where to get a token (RFC 9728).

    CLIENT_ID=<your client's id> python examples/mcp/server.py

`AUTHSERVICE_URL` (default http://localhost:8080) is the issuer, `PORT` (default 8000) where this serves.
"""

from __future__ import annotations

import os

from authservice_validator import JwksKeys, TokenError, TokenVerifier
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer

ISSUER = os.environ.get("AUTHSERVICE_URL", "http://localhost:8080")
CLIENT_ID = os.environ["CLIENT_ID"]
PORT = int(os.environ.get("PORT", "8000"))
RESOURCE = f"http://127.0.0.1:{PORT}/mcp"


class Tokens:
    """Verifies tokens that were issued for this server, and for no other."""

    def __init__(self) -> None:
        """Take the client's public keys."""
        keys = JwksKeys(f"{ISSUER}/.well-known/jwks.json?client_id={CLIENT_ID}")
        self._verifier = TokenVerifier(
            keys, issuer=ISSUER, audience=RESOURCE, client_id=CLIENT_ID, token_uses={"oauth"}
        )

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what a token says; None for one that is not good."""
        try:
            claims = await self._verifier.verify(token)
        except TokenError:
            return None
        return AccessToken(
            token=token,
            client_id=str(claims.claims["azp"]),
            scopes=str(claims.claims["scope"]).split(),
            expires_at=claims.exp,
            resource=RESOURCE,
            subject=claims.sub,
            claims={"iss": ISSUER},
        )


server = MCPServer(
    "Notes",
    token_verifier=Tokens(),
    # As text: a URL object would end in a slash, and the issuer must be letter for letter what it says it is.
    auth=AuthSettings.model_validate({"issuer_url": ISSUER, "resource_server_url": RESOURCE}),
)


@server.tool()
async def whoami() -> str:
    """Tell whose notes these are."""
    token = get_access_token()
    return f"user {token.subject if token else 'unknown'}"


if __name__ == "__main__":
    server.run("streamable-http", host="127.0.0.1", port=PORT)
