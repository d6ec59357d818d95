"""The rules of the machines' endpoints: what a client gets by itself, and what it may ask about."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from authservice_validator import VerifiedClaims
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.events import Actor, ActorType
from chassis.outbox import Outbox
from contracts import events
from contracts.clients import ClientDirectory
from contracts.token_use import ENROLLMENT
from services.token.errors import InvalidScope, InvalidTarget
from services.token.oauth.models import AuthenticatedAccount, AuthenticatedApp, MachineToken
from services.token.oauth.parameters import Parameters, read_scope
from services.token.service_accounts.models import ServiceAccount
from services.token.signing.access_tokens import AccessTokens, Machine
from services.token.signing.keyring import Keyring
from services.token.validation.service import ValidationService

MACHINE_TOKENS = Counter("machine_tokens_total", "Tokens of service accounts.", ["outcome"])
_OF_USERS = frozenset({"openid", "profile", "email", "offline_access", "org"})

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
        self, caller: CallerContext, client: AuthenticatedAccount, scope: str | None, jkt: str | None = None
    ) -> MachineToken:
        """Give an account a token (RFC 6749 §4.4): with the scopes it asks for, or with all it has.

        With a `jkt` it is bound to that key (RFC 9449).

        Raises:
            InvalidScope: it asks for more than it has, or not in the form of RFC 6749 §3.3.
            Unavailable: the key cannot be loaded now.
        """
        account = client.account
        granted = _granted(account, scope)
        tenant = await self._clients.get(account.client_id)
        signer = await self._keyring.signer(tenant)
        machine = Machine(account.client_id, account.id, account.name, client.credential_id, granted, jkt=jkt)
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

    async def app_credentials(
        self, caller: CallerContext, client: AuthenticatedApp, parameters: Parameters, jkt: str | None
    ) -> MachineToken:
        """Give a confidential app a token of its own (RFC 6749 §4.4), for no user.

        Scopes that are about a user are none of a machine's.

        Raises:
            InvalidScope, InvalidTarget: it asks for more than it may have.
            Unavailable: the key cannot be loaded now.
        """
        app = client.app
        own = tuple(scope for scope in app.scopes if scope not in _OF_USERS)
        scopes, resources = read_scope(parameters.get("scope")), parameters.several("resource")
        if scopes is not None and not set(scopes) <= set(own):
            raise InvalidScope
        if not set(resources) <= set(app.audiences):
            raise InvalidTarget
        granted = own if scopes is None else scopes
        signer = await self._keyring.signer(app.client)
        machine = Machine(
            app.client.id, UUID(app.id), app.name, UUID(app.id), granted, resources, jkt=jkt, is_app=True
        )
        token = self._access_tokens.sign_machine(signer, machine, self._clock.now())
        issued = events.AppTokenIssued(target_id=app.id, scope=" ".join(granted), method=client.method)
        await self._outbox.append(
            issued, caller, actor=Actor(ActorType.CLIENT, app.id), client_id=app.client.id
        )
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
    asked = read_scope(scope)
    if asked is None:
        return account.scopes
    if not set(asked) <= set(account.scopes):
        raise InvalidScope
    return tuple(sorted(asked))
