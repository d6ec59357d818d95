"""Who a client of the OAuth endpoints is: a service account, an app, or the tenant as one."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from prometheus_client import Counter

from chassis.context import CallerContext, KeyKind
from chassis.last_used import LastUsed
from chassis.outbox import Outbox
from contracts import events
from contracts.apps import App, AppDirectory, is_document_url
from contracts.clients import Client, ClientDirectory, ClientNotFound, InvalidApiKey
from services.token.errors import InvalidClient
from services.token.oauth.assertions import Assertions, Signatory
from services.token.oauth.documents import DocumentTenants
from services.token.oauth.models import (
    Authenticated,
    AuthenticatedAccount,
    AuthenticatedApp,
    AuthMethod,
    Presented,
)
from services.token.service_accounts.directory import KnownAccount, ServiceAccountDirectory
from services.token.signing.client_secrets import ClientSecrets

AUTHENTICATIONS = Counter(
    "oauth_client_authentications_total",
    "Clients of the OAuth endpoints that proved themselves, or did not.",
    ["kind", "outcome"],
)

_SECRET_METHOD = "client_secret_basic"  # noqa: S105 - a method's name


class ClientAuthentication:
    """Authenticates the clients of every OAuth endpoint."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        documents: DocumentTenants,
        clients: ClientDirectory,
        accounts: ServiceAccountDirectory,
        apps: AppDirectory,
        assertions: Assertions,
        secrets: ClientSecrets,
        usage: LastUsed,
    ) -> None:
        """Take who knows tenants, accounts and apps, and what proves them."""
        self._outbox = outbox
        self._documents = documents
        self._clients = clients
        self._accounts = accounts
        self._apps = apps
        self._assertions = assertions
        self._secrets = secrets
        self._usage = usage

    async def authenticate(self, caller: CallerContext, presented: Presented) -> Authenticated:
        """Return the active client, of an active tenant, that a request has proven to be.

        A public app proves nothing: whoever names it is it, as far as its grants demand no more. Why not is
        never said: unknown, disabled and wrong are one refusal (RFC 6749 §5.2).

        Raises:
            InvalidClient: it is none.
            Unavailable: it cannot be told now.
        """
        known = await self._account(presented.client_id)
        if known is not None:
            return await self._authenticate_account(caller, known, presented)
        app = await self._app(presented)
        if app is None:
            AUTHENTICATIONS.labels("unknown", "refused").inc()
            raise InvalidClient
        return await self._authenticate_app(caller, app, presented)

    async def _app(self, presented: Presented) -> App | None:
        if not is_document_url(presented.client_id):
            return await self._apps.find(presented.client_id)
        # Of no tenant by itself: the tenant is that of what it shows, or of the resources that it names.
        tenant = await self._documents.tenant_of(presented.shown)
        return await self._apps.find(presented.client_id, client_id=tenant, resources=presented.resources)

    async def _authenticate_account(
        self, caller: CallerContext, known: KnownAccount, presented: Presented
    ) -> AuthenticatedAccount:
        account = known.account
        try:
            proven = await self._proven_account(known, presented)
        except InvalidClient:
            AUTHENTICATIONS.labels("service_account", "refused").inc()
            refused = events.MachineTokenRefused(target_id=account.id, reason=InvalidClient.code)
            await self._outbox.append(refused, caller, client_id=account.client_id)
            raise
        AUTHENTICATIONS.labels("service_account", "accepted").inc()
        return proven

    async def _authenticate_app(
        self, caller: CallerContext, app: App, presented: Presented
    ) -> AuthenticatedApp:
        try:
            await self._prove_app(app, presented)
        except InvalidClient:
            AUTHENTICATIONS.labels("app", "refused").inc()
            refused = events.AppRefused(target_id=app.id, reason=InvalidClient.code, method=presented.method)
            await self._outbox.append(refused, caller, client_id=app.client.id)
            raise
        AUTHENTICATIONS.labels("app", "accepted").inc()
        return AuthenticatedApp(app, presented.method)

    async def _account(self, client_id: str) -> KnownAccount | None:
        try:
            account_id = UUID(client_id)
        except ValueError:
            return None
        return await self._accounts.find(account_id) if str(account_id) == client_id else None

    async def _proven_account(self, known: KnownAccount, presented: Presented) -> AuthenticatedAccount:
        account = known.account
        if not account.is_active or not (await self._tenant(account.client_id)).is_active:
            raise InvalidClient
        if presented.method is AuthMethod.PRIVATE_KEY_JWT:
            signatory = Signatory(account.client_id, str(account.id), account.jwks_json or "")
            await self._assertions.check(signatory, presented.assertion)
            return AuthenticatedAccount(account, account.id, presented.method)
        key = self._accounts.live_key(known, presented.secret)
        if key is None:
            raise InvalidClient
        self._usage.note(key.id)
        return AuthenticatedAccount(account, key.id, presented.method)

    async def _prove_app(self, app: App, presented: Presented) -> None:
        """Check an app's proof.

        Raises:
            InvalidClient: it is not active, or not proven in the way that it is registered with.
        """
        if not app.is_active or not app.client.is_active:
            raise InvalidClient
        match presented.method:
            case AuthMethod.NONE:
                is_proven = app.is_public
            case AuthMethod.PRIVATE_KEY_JWT:
                is_proven = app.auth_method == presented.method
                if is_proven:
                    signatory = Signatory(app.client.id, app.id, app.jwks_json)
                    await self._assertions.check(signatory, presented.assertion)
            case AuthMethod.BASIC | AuthMethod.POST if app.is_tenant:
                is_proven = await self._is_tenants_secret(app.client.id, presented.secret)
            case AuthMethod.BASIC | AuthMethod.POST:
                is_proven = app.auth_method == _SECRET_METHOD and self._is_secret_of(app, presented.secret)
        if not is_proven:
            raise InvalidClient

    async def _is_tenants_secret(self, client_id: UUID, secret: str) -> bool:
        """Whether a text is a secret API key of the tenant, or its JWT secret; never a publishable key."""
        if await self._secrets.matches(client_id, secret):
            return True
        try:
            key = await self._clients.resolve_key(secret)
        except InvalidApiKey:
            return False
        return key.kind is KeyKind.SECRET and key.client.id == client_id

    def _is_secret_of(self, app: App, secret: str) -> bool:
        found = app.live_secret(secret)
        if found is None:
            return False
        self._apps.note_use(found)
        return True

    async def _tenant(self, client_id: UUID) -> Client:
        try:
            return await self._clients.get(client_id)
        except ClientNotFound:
            raise InvalidClient from None


def acting_in(caller: CallerContext, client_id: UUID) -> CallerContext:
    """Return the caller of an OAuth request as one in the tenant that its client is of."""
    return replace(caller, client_id=client_id)
