"""The grant types of the token endpoint: who may use which, and what each is given."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.apps import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, DEVICE_CODE, REFRESH_TOKEN, TOKEN_EXCHANGE
from services.token.device_codes.service import DeviceCodes
from services.token.errors import UnauthorizedClient
from services.token.grants.codes import CodeRedemption
from services.token.grants.refreshing import GrantRefreshing
from services.token.grants.routes import GrantHandler
from services.token.oauth.endpoint import OAuthRequest
from services.token.oauth.machine_tokens import MachineTokens
from services.token.oauth.models import AuthenticatedApp, TokenAnswer
from services.token.token_exchange.service import TokenExchange


class GrantHandlers:
    """Hands requests of the token endpoint to the grant types."""

    def __init__(
        self,
        codes: CodeRedemption,
        refreshing: GrantRefreshing,
        machines: MachineTokens,
        device_codes: DeviceCodes,
        exchange: TokenExchange,
    ) -> None:
        """Take the rules of each."""
        self._codes = codes
        self._refreshing = refreshing
        self._machines = machines
        self._device_codes = device_codes
        self._exchange = exchange

    def by_type(self) -> Mapping[str, GrantHandler]:
        """Return what answers each grant type."""
        return {
            AUTHORIZATION_CODE: self._authorization_code,
            REFRESH_TOKEN: self._refresh_token,
            CLIENT_CREDENTIALS: self._client_credentials,
            DEVICE_CODE: self._device_code,
            TOKEN_EXCHANGE: self._token_exchange,
        }

    async def _authorization_code(self, request: OAuthRequest, jkt: str | None) -> TokenAnswer:
        client = _app_of(request, AUTHORIZATION_CODE)
        return await self._codes.redeem(request.caller, client.app, request.parameters, jkt)

    async def _refresh_token(self, request: OAuthRequest, jkt: str | None) -> TokenAnswer:
        client = _app_of(request, REFRESH_TOKEN)
        return await self._refreshing.refresh(request.caller, client, request.parameters, jkt)

    async def _client_credentials(self, request: OAuthRequest, jkt: str | None) -> TokenAnswer:
        return await self._machines.give(request.caller, request.client, request.parameters, jkt)

    async def _device_code(self, request: OAuthRequest, jkt: str | None) -> TokenAnswer:
        client = _app_of(request, DEVICE_CODE)
        code = request.parameters.get("device_code")
        return await self._device_codes.redeem(request.caller, client.app, code, jkt)

    async def _token_exchange(self, request: OAuthRequest, jkt: str | None) -> TokenAnswer:
        client = _app_of(request, TOKEN_EXCHANGE)
        if not client.is_confidential:
            raise UnauthorizedClient
        return await self._exchange.exchange(request.caller, client.app, request.parameters, jkt)


def _app_of(request: OAuthRequest, grant_type: str) -> AuthenticatedApp:
    """Return the app of a request that may use a grant type.

    Raises:
        UnauthorizedClient: the client is no app, or one without this grant type.
    """
    client = request.client
    if not isinstance(client, AuthenticatedApp) or grant_type not in client.app.grant_types:
        raise UnauthorizedClient
    return client
