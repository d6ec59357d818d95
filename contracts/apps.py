"""Apps: the OAuth and OpenID Connect clients of tenants, as the provider and the token endpoint know them.

On the wire an app is the `client_id`; here a *client* is always the tenant. The tenant itself is an app too,
under its own id (`App.is_tenant`): its secrets are its secret API keys (`ClientDirectory.resolve_key`).

An app may also be a *client id metadata document* (draft-ietf-oauth-client-id-metadata-document): its id is
then the https URL at which it describes itself. Such an app is of no tenant by itself; who looks it up says
of which tenant it is asked for, see `AppDirectory.find`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from prometheus_client import Counter

from chassis.bus import Bus
from chassis.errors import AppError, Kind, Unavailable
from chassis.rpc import Channel
from contracts import clients
from contracts.clients import Client, decode_client
from contracts.gen.internal.orgs.v1 import apps_pb2
from contracts.gen.internal.orgs.v1.apps_pb2_grpc import AppServiceStub
from contracts.remembered import Remembered

INVALIDATE = "invalidate.app"
"""Plain subject; the text is the id of the app that changed."""

AUTHORIZATION_CODE = "authorization_code"
REFRESH_TOKEN = "refresh_token"  # noqa: S105 - a grant type
CLIENT_CREDENTIALS = "client_credentials"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a grant type
GRANT_TYPES: Final = frozenset(
    {AUTHORIZATION_CODE, REFRESH_TOKEN, CLIENT_CREDENTIALS, DEVICE_CODE, TOKEN_EXCHANGE}
)

DEFAULT_SCOPES: Final = ("openid", "profile", "email", "offline_access", "org")
"""What apps of a tenant may ask for, unless its `oidc_allowed_scopes` says otherwise."""

SECRET_PREFIX = "acs_"  # noqa: S105 - what every secret of an app begins with

_MAX_URL_LENGTH = 2048
_MAX_RESOURCES = 10
_MAX_SECRET_LENGTH = 128
_USES_SECONDS = 60.0
_LOOPBACK = re.compile(
    r"http://(?P<host>127\.0\.0\.1|\[::1\])(?::(?P<port>[1-9][0-9]{0,4}))?(?P<rest>(?:[/?][!-\"$-\[\]-~]*)?)"
)
_LOCALHOST = re.compile(
    r"http://(?P<host>localhost)(?::(?P<port>[1-9][0-9]{0,4}))?(?P<rest>(?:[/?][!-\"$-\[\]-~]*)?)"
)
_MAX_PORT = 65535

LOOKUPS = Counter("app_cache_lookups_total", "Look-ups of OAuth apps.", ["result"])


@dataclass(frozen=True, slots=True)
class AppSecret:
    """A secret of an app that is not revoked; `expires_at` is in Unix seconds, 0 without an end."""

    id: UUID
    sha256: bytes
    expires_at: int


@dataclass(frozen=True, slots=True)
class App:
    """An OAuth client of a tenant. Neither it nor its tenant need be active: see `is_usable`."""

    id: str
    client: Client
    name: str
    is_active: bool
    is_tenant: bool
    auth_method: str
    secrets: tuple[AppSecret, ...]
    jwks_json: str
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...]
    grant_types: frozenset[str]
    scopes: tuple[str, ...]
    audiences: tuple[str, ...]
    is_trusted: bool
    requires_consent: bool
    requires_pkce: bool
    requires_par: bool
    is_dpop_bound: bool
    backchannel_logout_uri: str
    id_token_alg: str
    logo_uri: str
    client_uri: str
    policy_uri: str
    tos_uri: str

    @property
    def is_public(self) -> bool:
        """Whether it cannot keep a secret, and proves itself by PKCE alone (RFC 6749 §2.1)."""
        return self.auth_method == "none"

    @property
    def is_usable(self) -> bool:
        """Whether the app and its tenant are active."""
        return self.is_active and self.client.is_active

    @property
    def is_document(self) -> bool:
        """Whether its id is the URL of a client id metadata document; a consent page shows its `host`."""
        return is_document_url(self.id)

    @property
    def host(self) -> str:
        """The host that vouches for a document; "" for every other app."""
        return (urlsplit(self.id).hostname or "") if self.is_document else ""

    def allows_redirect(self, given: str) -> bool:
        """Whether an authorization answer may go to a URI; also when it is the only one, it must be given.

        A document may say `http://localhost/…` without a port for any port: MCP clients on people's machines
        do, and cannot know theirs beforehand.
        """
        return any(
            redirect_uri_matches(registered, given)
            or (self.is_document and _is_same_but_for_port(_LOCALHOST, registered, given))
            for registered in self.redirect_uris
        )

    def live_secret(self, secret: str) -> AppSecret | None:
        """Return the live secret that a text is; None when it is none, in the same time.

        A tenant's secrets are its API keys and are not found here.
        """
        if not secret.startswith(SECRET_PREFIX) or len(secret) > _MAX_SECRET_LENGTH:
            return None
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        found = [known for known in self.secrets if hmac.compare_digest(known.sha256, digest)]
        return found[0] if found and not 0 < found[0].expires_at <= time.time() else None


class AppDirectory:
    """Finds apps; remembered as `Remembered` says, dropped at once when an app or its tenant changes."""

    def __init__(self, channel: Channel, bus: Bus) -> None:
        """Take the way to `orgs`, and the bus that tells of changes."""
        self._stub = AppServiceStub(channel.for_stubs)
        self._apps: Remembered[App] = Remembered("app", LOOKUPS)
        self._uses: set[UUID] = set()
        bus.on(INVALIDATE, self._app_changed)
        bus.on(clients.INVALIDATE, self._client_changed)

    async def find(
        self, app_id: str, *, client_id: UUID | None = None, resources: Sequence[str] = ()
    ) -> App | None:
        """Return an app, active or not; None for an unknown or malformed id.

        The last two are for documents alone and ignored for every other app. `client_id` is the tenant where
        it is known already (from a code, a refresh token, a session). Otherwise `resources` are the request's
        (RFC 8707), and the one active tenant whose `oidc_audiences` has one of them is meant; without any, or
        with those of two tenants, there is no such app. A tenant has documents only when its setting
        `oidc_client_id_metadata_documents` is true.

        Raises:
            Unavailable: `orgs` is away and the app is not remembered.
        """
        if is_document_url(app_id):
            named = sorted(set(resources))
            if client_id is None and not 0 < len(named) <= _MAX_RESOURCES:
                return None
            if not all(map(_is_plain, (app_id, *named))):
                return None
            name = " ".join([str(client_id), app_id] if client_id else ["", app_id, *named])
            return await self._apps.get(
                name, lambda waits: self._ask_for_document(app_id, client_id, named, waits)
            )
        try:
            canonical = str(UUID(app_id))
        except ValueError:
            return None
        if canonical != app_id:
            return None
        return await self._apps.get(app_id, lambda waits: self._ask(app_id, waits))

    def note_use(self, secret: AppSecret) -> None:
        """Remember that a secret was used; `run` tells `orgs`, which shows it to admins."""
        self._uses.add(secret.id)

    async def run(self) -> None:
        """Tell `orgs` once a minute which secrets were used, for ever; a job of who notes uses."""
        while True:
            await asyncio.sleep(_USES_SECONDS)
            uses, self._uses = self._uses, set()
            if not uses:
                continue
            try:
                await self._stub.NoteSecretUses(
                    apps_pb2.NoteSecretUsesRequest(secret_ids=[str(used) for used in uses])
                )
            except Unavailable:
                self._uses |= uses

    async def _ask(self, app_id: str, waits: bool) -> App | None:
        try:
            found = await self._stub.GetApp(apps_pb2.GetAppRequest(app_id=app_id), wait_for_ready=waits)
        except AppError as error:
            if error.kind is Kind.NOT_FOUND:
                return None
            raise
        return decode_app(found)

    async def _ask_for_document(
        self, url: str, client_id: UUID | None, resources: Sequence[str], waits: bool
    ) -> App | None:
        request = apps_pb2.FindDocumentRequest(
            url=url, client_id=str(client_id or ""), resources=() if client_id else resources
        )
        try:
            return decode_app(await self._stub.FindDocument(request, wait_for_ready=waits))
        except AppError as error:
            if error.kind is Kind.NOT_FOUND:
                return None
            raise

    async def _app_changed(self, text: str) -> None:
        self._apps.drop((lambda app: app.id == text) if text else None)

    async def _client_changed(self, text: str) -> None:
        self._apps.drop((lambda app: str(app.client.id) == text) if text else None)


def is_document_url(app_id: str) -> bool:
    """Whether an app id is a URL rather than a UUID; says nothing of whether there is such an app."""
    return app_id.startswith("https://") and len(app_id) <= _MAX_URL_LENGTH


def _is_plain(uri: str) -> bool:
    """Whether a text could be a URI at all: whatever else is sent need not go any further."""
    return 0 < len(uri) <= _MAX_URL_LENGTH and uri.isascii() and uri.isprintable() and " " not in uri


def redirect_uri_matches(registered: str, given: str) -> bool:
    """Whether a given redirect URI is a registered one: letter for letter (RFC 9700 §4.1.3).

    The one exception is the port of `http://127.0.0.1` and `http://[::1]` (RFC 8252 §7.3): an app on
    somebody's machine listens on whichever is free. What is registered was checked when it was.
    """
    return given == registered or _is_same_but_for_port(_LOOPBACK, registered, given)


def _is_same_but_for_port(pattern: re.Pattern[str], registered: str, given: str) -> bool:
    known, found = pattern.fullmatch(registered), pattern.fullmatch(given)
    if known is None or found is None or int(found["port"] or 80) > _MAX_PORT:
        return False
    if pattern is _LOCALHOST and known["port"]:
        return False
    return known["host"] == found["host"] and known["rest"] == found["rest"]


def decode_app(message: apps_pb2.App) -> App:
    """Return the app that a message of `orgs` tells of."""
    return App(
        id=message.id,
        client=decode_client(message.client),
        name=message.name,
        is_active=message.is_active,
        is_tenant=message.is_tenant,
        auth_method=message.auth_method,
        secrets=tuple(AppSecret(UUID(one.id), one.sha256, one.expires_at) for one in message.secrets),
        jwks_json=message.jwks_json,
        redirect_uris=tuple(message.redirect_uris),
        post_logout_redirect_uris=tuple(message.post_logout_redirect_uris),
        grant_types=frozenset(message.grant_types),
        scopes=tuple(message.scopes),
        audiences=tuple(message.audiences),
        is_trusted=message.is_trusted,
        requires_consent=message.requires_consent,
        requires_pkce=message.requires_pkce,
        requires_par=message.requires_par,
        is_dpop_bound=message.is_dpop_bound,
        backchannel_logout_uri=message.backchannel_logout_uri,
        id_token_alg=message.id_token_alg,
        logo_uri=message.logo_uri,
        client_uri=message.client_uri,
        policy_uri=message.policy_uri,
        tos_uri=message.tos_uri,
    )
