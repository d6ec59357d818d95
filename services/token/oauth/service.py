"""The rules of the machines' endpoints: what a client gets by itself, and what it may ask about."""

from __future__ import annotations

from collections.abc import Mapping

from authservice_validator import VerifiedClaims
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.events import Actor, ActorType
from chassis.outbox import Outbox
from contracts import events
from contracts.clients import ClientDirectory
from contracts.token_use import ENROLLMENT
from services.token.errors import InvalidScope
from services.token.oauth.models import AuthenticatedAccount, MachineToken
from services.token.service_accounts.models import ServiceAccount
from services.token.signing.access_tokens import AccessTokens, Machine
from services.token.signing.keyring import Keyring
from services.token.validation.service import ValidationService

MACHINE_TOKENS = Counter("machine_tokens_total", "Tokens of service accounts.", ["outcome"])
INTROSPECTIONS = Counter("introspections_total", "Introspections, by what they found.", ["active"])


class OAuthService:
    """Gives service accounts tokens, and tells them about tokens of their tenant."""

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        *,
        clients: ClientDirectory,
        keyring: Keyring,
        access_tokens: AccessTokens,
        validation: ValidationService,
    ) -> None:
        """Take who knows tenants, and what tokens are made of and judged by."""
        self._outbox = outbox
        self._clock = clock
        self._clients = clients
        self._keyring = keyring
        self._access_tokens = access_tokens
        self._validation = validation

    async def client_credentials(
        self, caller: CallerContext, client: AuthenticatedAccount, scope: str | None
    ) -> MachineToken:
        """Give an account a token (RFC 6749 §4.4): with the scopes it asks for, or with all it has.

        Raises:
            InvalidScope: it asks for more than it has, or not in the form of RFC 6749 §3.3.
            Unavailable: the key cannot be loaded now.
        """
        account = client.account
        granted = _granted(account, scope)
        tenant = await self._clients.get(account.client_id)
        signer = await self._keyring.signer(tenant)
        machine = Machine(account.client_id, account.id, account.name, client.credential_id, granted)
        token = self._access_tokens.sign_machine(signer, machine, self._clock.now())
        issued = events.MachineTokenIssued(
            target_id=account.id,
            scope=" ".join(granted),
            key_id=str(client.credential_id),
            method=client.method,
        )
        actor = Actor(ActorType.SERVICE_ACCOUNT, str(account.id))
        await self._outbox.append(issued, caller, actor=actor, client_id=account.client_id)
        MACHINE_TOKENS.labels("issued").inc()
        return MachineToken(token.token, token.expires_in, " ".join(granted))

    async def introspect(self, client: AuthenticatedAccount, token: str) -> Mapping[str, object]:
        """Say what a token of the account's own tenant is worth now (RFC 7662 §2.2).

        Whatever is not a good access token of that tenant, another tenant's above all, is the same
        `{"active": false}`, so that nothing can be learned from it (§4).

        Raises:
            Unavailable: it cannot be told now.
        """
        tenant = await self._clients.get(client.account.client_id)
        verdict = (await self._validation.validate(tenant, [token]))[0]
        is_active = isinstance(verdict, VerifiedClaims) and verdict.token_use != ENROLLMENT
        INTROSPECTIONS.labels(str(is_active).lower()).inc()
        if not isinstance(verdict, VerifiedClaims) or not is_active:
            return {"active": False}
        username = {"username": verdict.email} if verdict.email else {}
        return {**verdict.claims, "active": True, "token_type": "Bearer", **username}


def _granted(account: ServiceAccount, scope: str | None) -> tuple[str, ...]:
    if scope is None:
        return account.scopes
    asked = scope.split(" ")
    if not all(asked) or not set(asked) <= set(account.scopes):
        raise InvalidScope
    return tuple(sorted(set(asked)))
