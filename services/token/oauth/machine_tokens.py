"""Client credentials (RFC 6749 §4.4): what a machine gets by itself, for no user."""

from __future__ import annotations

from uuid import UUID

from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.events import Actor, ActorType
from chassis.outbox import Outbox
from contracts import events
from contracts.apps import CLIENT_CREDENTIALS
from contracts.clients import ClientDirectory
from services.token.errors import InvalidClient, InvalidScope, InvalidTarget, UnauthorizedClient
from services.token.oauth.models import (
    Authenticated,
    AuthenticatedAccount,
    AuthenticatedApp,
    TokenAnswer,
    token_type,
)
from services.token.oauth.parameters import Parameters, read_scope
from services.token.service_accounts.models import ServiceAccount
from services.token.signing.access_tokens import AccessTokens, Machine
from services.token.signing.keyring import Keyring

MACHINE_TOKENS = Counter("machine_tokens_total", "Tokens given to machines, by their kind.", ["kind"])
_OF_USERS = frozenset({"openid", "profile", "email", "offline_access", "org"})


class MachineTokens:
    """Gives service accounts and confidential apps tokens of their own."""

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        *,
        clients: ClientDirectory,
        keyring: Keyring,
        access_tokens: AccessTokens,
    ) -> None:
        """Take who knows tenants, and what tokens are made of."""
        self._outbox = outbox
        self._clock = clock
        self._clients = clients
        self._keyring = keyring
        self._access_tokens = access_tokens

    async def give(
        self, caller: CallerContext, client: Authenticated, parameters: Parameters, jkt: str | None = None
    ) -> TokenAnswer:
        """Give a client a token of its own; with a `jkt` it is bound to that key (RFC 9449).

        Raises:
            InvalidClient: an app that is public, which has proven nothing (RFC 6749 §4.4.2).
            UnauthorizedClient: an app that has not this grant type.
            InvalidScope, InvalidTarget: it asks for more than it may have.
            Unavailable: the key cannot be loaded now.
        """
        if isinstance(client, AuthenticatedAccount):
            return await self._for_account(caller, client, parameters, jkt)
        if not client.is_confidential:
            raise InvalidClient
        if CLIENT_CREDENTIALS not in client.app.grant_types:
            raise UnauthorizedClient
        return await self._for_app(caller, client, parameters, jkt)

    async def _for_account(
        self, caller: CallerContext, client: AuthenticatedAccount, parameters: Parameters, jkt: str | None
    ) -> TokenAnswer:
        """Give an account a token: with the scopes it asks for, or with all it has.

        Raises:
            InvalidScope: it asks for more than it has, or not in the form of RFC 6749 §3.3.
            InvalidTarget: it names a resource: an account's tokens are for its tenant (RFC 8707 §2).
            Unavailable: the key cannot be loaded now.
        """
        if parameters.several("resource"):
            raise InvalidTarget
        account = client.account
        granted = _granted(account, parameters.get("scope"))
        tenant = await self._clients.get(account.client_id)
        signer = await self._keyring.signer(tenant)
        machine = Machine(account.client_id, account.id, account.name, client.credential_id, granted, jkt=jkt)
        token = await self._access_tokens.sign_machine(signer, machine, self._clock.now())
        issued = events.MachineTokenIssued(
            target_id=account.id,
            scope=" ".join(granted),
            key_id=str(client.credential_id),
            method=client.method,
        )
        actor = Actor(ActorType.SERVICE_ACCOUNT, str(account.id))
        await self._outbox.append(issued, caller, actor=actor, client_id=account.client_id)
        MACHINE_TOKENS.labels("service_account").inc()
        return TokenAnswer(token.token, token_type(jkt), token.expires_in, " ".join(granted))

    async def _for_app(
        self, caller: CallerContext, client: AuthenticatedApp, parameters: Parameters, jkt: str | None
    ) -> TokenAnswer:
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
        token = await self._access_tokens.sign_machine(signer, machine, self._clock.now())
        MACHINE_TOKENS.labels("app").inc()
        issued = events.AppTokenIssued(target_id=app.id, scope=" ".join(granted), method=client.method)
        await self._outbox.append(
            issued, caller, actor=Actor(ActorType.CLIENT, app.id), client_id=app.client.id
        )
        return TokenAnswer(token.token, token_type(jkt), token.expires_in, " ".join(granted))


def _granted(account: ServiceAccount, scope: str | None) -> tuple[str, ...]:
    asked = read_scope(scope)
    if asked is None:
        return account.scopes
    if not set(asked) <= set(account.scopes):
        raise InvalidScope
    return tuple(sorted(asked))
