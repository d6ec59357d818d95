"""Who is calling: one resolver per credential class, in one table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from authservice_validator import VerifiedClaims

from chassis.context import Access, CallerContext, KeyKind
from chassis.errors import Forbidden, Unauthenticated
from chassis.events import AccessRefused
from contracts.clients import ApiKey, Client, ClientDirectory, InvalidApiKey
from contracts.events import CredentialRefused
from contracts.session import OriginNotAllowed
from contracts.token_use import ENROLLMENT, IMPERSONATION_ACR
from gateway.admin_key import AdminKey, InvalidAdminKey
from gateway.admins import Admins
from gateway.contract import Operation
from gateway.guesses import Guess, Guesses
from gateway.inbound import Inbound
from gateway.origins import Origins, Verdict
from gateway.refusals import AuditQueue
from gateway.revocations import Revocations
from gateway.tokens import InvalidToken, Tokens


@dataclass(slots=True)
class Known:
    """What is known of the caller so far; a refusal on the way keeps what was found before it."""

    client: Client | None = None
    verdict: Verdict = Verdict.NOT_SENT


Resolver = Callable[[Inbound, Known], Awaitable[CallerContext]]


class Callers:
    """Turns credentials into a caller, or refuses them."""

    def __init__(
        self,
        directory: ClientDirectory,
        tokens: Tokens,
        revocations: Revocations,
        admin_key: AdminKey,
        admins: Admins,
        origins: Origins,
        audit: AuditQueue,
        guesses: Guesses,
    ) -> None:
        """Take what the resolvers ask."""
        self._directory = directory
        self._tokens = tokens
        self._revocations = revocations
        self._admin_key = admin_key
        self._admins = admins
        self._origins = origins
        self._audit = audit
        self._guesses = guesses
        self._resolvers: dict[Access, Resolver] = {
            Access.PUBLIC: self._public,
            Access.API_KEY: self._api_key,
            Access.USER: self._user,
            Access.ADMIN: self._admin,
            Access.OAUTH: self._oauth,
        }

    @property
    def classes(self) -> frozenset[Access]:
        """The credential classes that can be resolved."""
        return frozenset(self._resolvers)

    async def resolve(
        self, access: Access, request: Inbound, known: Known, *, for_enrollment: bool = False
    ) -> CallerContext:
        """Return the caller of a request to a route of this class.

        `for_enrollment` says that the route takes a token which is for the set-up of a second factor only.

        Raises:
            Unauthenticated: the credential is missing or not good (`InvalidApiKey`, `InvalidToken`, …).
            Forbidden: a publishable key with an origin that its client does not allow.
            RateLimited: the credential is not known, and its address gave too many bad ones.
            Unavailable: what is needed to know is away.
        """
        known.verdict = self._origins.judge(request.origin, None)
        try:
            caller = await self._resolvers[access](request, known)
            _check_use(caller, for_enrollment=for_enrollment)
        except (InvalidApiKey, InvalidToken) as error:
            presented = request.headers.keys() & {b"x-api-key", b"authorization"}
            if presented:
                self._audit.record(
                    CredentialRefused(reason=error.code, method=request.method, path=_shown(request)),
                    self._anonymous(request, known),
                )
            raise
        return caller

    def check_admin(self, caller: CallerContext, operation: Operation, request: Inbound) -> None:
        """Check that an admin may do this, and, where it is of the whole installation, may do it there.

        Raises:
            Forbidden: it may not; that it asked is on record.
        """
        try:
            caller.check_permission(operation.permission)
            if operation.for_whole:
                caller.check_client_scope(None)
        except Forbidden as error:
            refused = AccessRefused(reason=error.code, method=request.method, path=_shown(request))
            self._audit.record(refused, caller)
            raise

    async def _public(self, request: Inbound, known: Known) -> CallerContext:
        """Nobody; an API key may narrow the request to its client, and must then be good."""
        if b"x-api-key" in request.headers:
            key = await self._key(request, known)
            return self._context(Access.PUBLIC, request, known, key)
        return self._anonymous(request, known)

    async def _oauth(self, request: Inbound, known: Known) -> CallerContext:
        """A client of OAuth: its credentials are in a header or in the body, and the owner's to check."""
        return self._context(Access.OAUTH, request, known, None)

    async def _api_key(self, request: Inbound, known: Known) -> CallerContext:
        key = await self._key(request, known)
        return self._context(Access.API_KEY, request, known, key)

    async def _user(self, request: Inbound, known: Known) -> CallerContext:
        key = await self._key(request, known)
        token = request.bearer
        if not token:
            raise InvalidToken(missing=token is None)
        self._revocations.require_synced()
        claims = await self._verify(token, key, request.ip)
        if claims.acr == IMPERSONATION_ACR and claims.act:
            await self._admins.check_actor(str(claims.act.get("sub")), key.client.id)
        return _with_user(self._context(Access.USER, request, known, key), claims)

    async def _verify(self, token: str, key: ApiKey, ip: str) -> VerifiedClaims:
        """Verify a token; a forged one counts as a guess under the key's client, as all its users' do.

        One that has ended or was revoked is no guess: it was signed by us. A secret key's server passes on
        what many people bring.
        """
        self._guesses.check(
            Guess.TOKEN,
            ip,
            client_id=key.client.id,
            of_server=key.kind is KeyKind.SECRET,
            is_known=lambda: self._tokens.knows(token, key.client),
        )
        try:
            return await self._tokens.verify(token, key.client)
        except InvalidToken as error:
            if error.code == InvalidToken.code:
                self._guesses.count(Guess.TOKEN, ip, client_id=key.client.id)
            raise

    async def _admin(self, request: Inbound, known: Known) -> CallerContext:
        """An admin by its token, or whoever holds the break-glass key, which counts where both are sent."""
        presented = request.text(b"x-admin-key")
        caller = self._anonymous(request, known)
        if presented is None:
            token = request.bearer
            if not token:
                raise InvalidAdminKey
            return await self._admins.resolve(token, caller)
        await self._admin_key.check(presented, caller, request.method, _shown(request))
        return self._context(Access.ADMIN, request, known, None)

    async def _key(self, request: Inbound, known: Known) -> ApiKey:
        raw = request.text(b"x-api-key")
        if raw is None:
            raise InvalidApiKey
        self._guesses.check(Guess.KEY, request.ip, is_known=lambda: self._directory.knows_key(raw))
        try:
            key = await self._directory.resolve_key(raw)
        except InvalidApiKey:
            self._guesses.count(Guess.KEY, request.ip)
            raise
        known.client = key.client
        known.verdict = self._origins.judge(request.origin, key.client)
        if key.kind is KeyKind.PUBLISHABLE and known.verdict is Verdict.REFUSED:
            raise OriginNotAllowed("This client does not allow requests from this origin.")
        return key

    def _anonymous(self, request: Inbound, known: Known) -> CallerContext:
        return self._context(Access.PUBLIC, request, known, None)

    def _context(self, access: Access, request: Inbound, known: Known, key: ApiKey | None) -> CallerContext:
        return CallerContext(
            access=access,
            request_id=request.request_id,
            ip=request.ip,
            user_agent=request.user_agent,
            origin=request.origin if known.verdict is Verdict.EXACT else None,
            client_id=key.client.id if key else known.client.id if known.client else None,
            key_id=key.id if key else None,
            key_kind=key.kind if key else None,
        )


def _check_use(caller: CallerContext, *, for_enrollment: bool) -> None:
    if caller.is_enrolling and not for_enrollment:
        raise InvalidToken


def _with_user(context: CallerContext, claims: VerifiedClaims) -> CallerContext:
    """Add what the token says. `dataclasses.replace` would cost as much as the rest of the resolution."""
    try:
        user_id = _parse_id(claims.sub)
        session_id = _parse_id(claims.sid) if claims.sid else None
        impersonator_id = str(claims.act["sub"]) if claims.act else None
    except (ValueError, KeyError):
        raise Unauthenticated from None
    return CallerContext(
        access=context.access,
        request_id=context.request_id,
        ip=context.ip,
        user_agent=context.user_agent,
        origin=context.origin,
        client_id=context.client_id,
        key_id=context.key_id,
        key_kind=context.key_kind,
        user_id=user_id,
        session_id=session_id,
        email=claims.email,
        role=claims.role,
        auth_time=claims.auth_time,
        amr=claims.amr,
        is_enrolling=claims.token_use == ENROLLMENT,
        impersonator_id=impersonator_id,
    )


@lru_cache(maxsize=8192)
def _parse_id(text: str) -> UUID:
    """An id of a verified token; the same few are asked for again and again."""
    return UUID(text)


def _shown(request: Inbound) -> str:
    """The path as it may be recorded: without the query, which may hold a token, and bounded."""
    return request.path[:256].decode("latin-1")
