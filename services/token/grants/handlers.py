"""The grant types of the token endpoint: who may use which, and what each is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.token.errors import UnauthorizedClient
from services.token.grants.codes import CodeRedemption
from services.token.grants.routes import GrantHandler
from services.token.grants.tokens import TokenAnswer
from services.token.oauth.endpoint import OAuthRequest
from services.token.oauth.models import AuthenticatedApp

AUTHORIZATION_CODE: Final = "authorization_code"


class GrantHandlers:
    """Hands requests of the token endpoint to the grant types."""

    def __init__(self, codes: CodeRedemption) -> None:
        """Take the rules of each."""
        self._codes = codes

    def by_type(self) -> Mapping[str, GrantHandler]:
        """Return what answers each grant type."""
        return {AUTHORIZATION_CODE: self._authorization_code}

    async def _authorization_code(self, request: OAuthRequest) -> TokenAnswer:
        client = app_of(request, AUTHORIZATION_CODE)
        return await self._codes.redeem(request.caller, client.app, request.parameters, None)


def app_of(request: OAuthRequest, grant_type: str) -> AuthenticatedApp:
    """Return the app of a request that may use a grant type.

    Raises:
        UnauthorizedClient: the client is no app, or one without this grant type.
    """
    client = request.client
    if not isinstance(client, AuthenticatedApp) or grant_type not in client.app.grant_types:
        raise UnauthorizedClient
    return client
