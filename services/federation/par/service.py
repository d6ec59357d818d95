"""The rules of pushed authorization requests: who may push, and that nothing wrong is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from prometheus_client import Counter

from chassis.context import CallerContext
from chassis.errors import InvalidRequest
from contracts.dpop import DpopProofs
from services.federation.authorize.answers import AuthorizationRefused
from services.federation.authorize.parameters import Parameters
from services.federation.authorize.pushed import Pushed, PushedRequests
from services.federation.authorize.service import AuthorizationService
from services.federation.grants import Grants

PUSHED = Counter("pushed_requests_total", "Pushed authorization requests.", ["outcome"])

PATH: Final = "/par"
_CREDENTIALS: Final = frozenset({"client_secret", "client_assertion", "client_assertion_type"})


class ParService:
    """Takes requests that apps send ahead."""

    def __init__(
        self, grants: Grants, authorization: AuthorizationService, pushed: PushedRequests, proofs: DpopProofs
    ) -> None:
        """Take who knows apps, who judges requests and proofs, and where requests are kept."""
        self._grants = grants
        self._authorization = authorization
        self._pushed = pushed
        self._proofs = proofs

    async def authenticate(self, caller: CallerContext, authorization: str, parameters: Parameters) -> str:
        """Return the app that a request has proven to come from.

        Raises:
            RemoteError: `invalid_client`: it has not.
        """
        return await self._grants.authenticate_app(caller, authorization, parameters)

    async def push(
        self, caller: CallerContext, authorization: str, proofs: Sequence[str], parameters: Parameters
    ) -> str:
        """Return what stands for a request that is acceptable as a whole.

        Raises:
            RemoteError: `invalid_client`: the app has not proven who it is.
            InvalidRequest: it names another app, or a pushed request, or an address that is not the app's.
            InvalidDpopProof: it came with a proof that is not good (RFC 9449 §10.1).
            UseDpopNonce: with one that is good, but for its nonce.
            AuthorizationRefused: as `/authorize` would say.
        """
        app_id = await self.authenticate(caller, authorization, parameters)
        kept = {name: value for name, value in parameters.values.items() if name not in _CREDENTIALS}
        if kept.setdefault("client_id", app_id) != app_id:
            raise InvalidRequest("The client_id is not that of the app that sends the request.")
        if "request_uri" in kept:
            raise InvalidRequest("A pushed request has no request_uri.")  # RFC 9126 §2.1
        asked = await self._authorization.read(caller, replace(parameters, values=kept))
        jkt = await self._proofs.check(proofs, "POST", PATH) if proofs else ""
        try:
            await self._authorization.check(replace(asked, is_pushed=True, dpop_jkt=jkt))
        except AuthorizationRefused:
            PUSHED.labels("refused").inc()
            raise
        PUSHED.labels("kept").inc()
        return await self._pushed.keep(asked.app, Pushed(asked.parameters, jkt))
