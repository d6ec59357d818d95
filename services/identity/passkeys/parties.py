"""The relying party of a caller's client."""

from __future__ import annotations

import structlog
from pydantic import ValidationError

from chassis.context import CallerContext
from contracts.clients import ClientDirectory
from contracts.relying_party import RelyingParty, RelyingPartyDefaults
from services.identity.errors import PasskeysMisconfigured

log = structlog.get_logger()


class RelyingParties:
    """Resolves clients' settings."""

    def __init__(self, clients: ClientDirectory, defaults: RelyingPartyDefaults) -> None:
        """Take who knows the clients, and the installation's relying party."""
        self._clients = clients
        self._defaults = defaults

    async def of(self, caller: CallerContext) -> RelyingParty:
        """Return the relying party of the caller's client.

        Raises:
            PasskeysMisconfigured: its settings, written before they were checked, cannot work.
        """
        client = await self._clients.get(caller.require_client())
        try:
            return RelyingParty.of(client.settings, self._defaults)
        except ValidationError as error:
            log.warning("passkey settings unusable", client_id=str(client.id), faults=error.error_count())
            raise PasskeysMisconfigured from None
