"""The rules of logging in by a mailed link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import structlog

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import AppError
from chassis.events import Actor, ActorType
from chassis.ids import new_id
from chassis.outbox import Outbox
from contracts import events
from contracts.clients import Client, ClientDirectory
from contracts.gen.internal.token.v1 import exchange_pb2
from contracts.hosted_pages import LOGIN_LINK, way_back
from services.identity.email_tokens.mailbox import MailboxProofs
from services.identity.email_tokens.models import LiveToken, TokenKind
from services.identity.email_tokens.service import TTL, EmailTokens
from services.identity.errors import InvalidLink, ProofOutdated
from services.identity.logins.answers import waiting_answer
from services.identity.logins.models import Browser, Method, Opened, Outcome, Proof
from services.identity.logins.service import LoginGate
from services.identity.magic_links.targets import check_target, with_code
from services.identity.mail.models import MailKind
from services.identity.mail.service import Mailer
from services.identity.mail_requests.models import MailRequest, RequestKind
from services.identity.mail_requests.service import MailRequests
from services.identity.sessions.client import SessionClient
from services.identity.sessions.duties import SessionDuties
from services.identity.sessions.models import DutyKind
from services.identity.users import store as users
from services.identity.users.email import DomainBlocklist, Email, EmailHasher
from services.identity.users.models import NewUser, User, UserId

log = structlog.get_logger()

_PATH = "/api/auth/magic-link/verify"
_REDIRECT = "redirect_url"
_CREATE = "create_user"
_REQUEST = "request"
_AMR = ("email",)  # RFC 8176 has no value for it


@dataclass(frozen=True, slots=True)
class Followed:
    """A link that could be followed now: its token, its client, and where the login returns to."""

    token: LiveToken
    client: Client
    target: str | None

    @property
    def needs_confirmation(self) -> bool:
        """Whether the client wants a person to confirm, so that no scanner of mails logs anybody in."""
        return self.client.settings.get("magic_link_confirm") is True


class MagicLinkService:
    """Mails links, and logs in who follows one."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        clients: ClientDirectory,
        tokens: EmailTokens,
        mailer: Mailer,
        requests: MailRequests,
        proofs: MailboxProofs,
        emails: EmailHasher,
        blocklist: DomainBlocklist,
        gate: LoginGate,
        sessions: SessionClient,
        duties: SessionDuties,
        base_url: str,
    ) -> None:
        """Take the parts; links begin with `base_url`, whatever a request says of its host."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._clients = clients
        self._tokens = tokens
        self._mailer = mailer
        self._requests = requests
        self._proofs = proofs
        self._emails = emails
        self._blocklist = blocklist
        self._gate = gate
        self._sessions = sessions
        self._duties = duties
        self._base_url = base_url.rstrip("/")
        requests.on(RequestKind.MAGIC_LINK, self.send)

    async def ask(
        self,
        caller: CallerContext,
        typed_email: str,
        *,
        redirect_url: str | None = None,
        create_user: bool = False,
        request: str = "",
    ) -> None:
        """Have a link mailed to an address; nothing here depends on whether it has an account.

        With `request` the link logs in on the hosted login page of that name, and nowhere else.

        Raises:
            InvalidEmail: no account can have this address.
            EmailDomainBlocked: none may be created with it.
            RedirectNotAllowed: the client does not allow the page to return to.
            FeatureUnavailable: no mail can be sent.
        """
        self._mailer.require()
        email = Email.parse(typed_email)
        if create_user:
            self._blocklist.check(email)
        if redirect_url is not None:
            check_target(redirect_url, await self._clients.get(caller.require_client()))
        asked = events.MagicLinkRequested(email_hash=self._emails.hash(email).hex())
        wishes = {_REDIRECT: redirect_url, _CREATE: create_user, _REQUEST: request}
        await self._requests.note(caller, RequestKind.MAGIC_LINK, email, asked, wishes)

    async def send(self, tx: Tx, request: MailRequest) -> None:
        """Mail the link that was asked for; quietly nothing for a stranger, or who got enough of them."""
        user = await users.find_by_email(tx, request.email.normalized)
        if user is None and request.wishes[_CREATE]:
            user = await self._create(tx, request)
        if user is None or not user.is_active:
            return
        if await self._tokens.is_throttled(tx, user, TokenKind.MAGIC_LINK):
            return
        ttl = TTL[TokenKind.MAGIC_LINK]
        page = request.wishes.get(_REQUEST, "")
        payload = {_REDIRECT: request.wishes[_REDIRECT], _REQUEST: page}
        token = await self._tokens.issue(tx, user, TokenKind.MAGIC_LINK, payload)
        path = way_back(LOGIN_LINK, user.client_id, page, token=token) if page else f"{_PATH}?token={token}"
        variables = {
            "link": f"{self._base_url}{path}",
            "minutes": str(ttl // timedelta(minutes=1)),
        }
        until = self._clock.now() + ttl
        await self._mailer.send(tx, request.caller, user, MailKind.MAGIC_LINK, variables, useful_until=until)

    async def look(self, caller: CallerContext, raw_token: str, *, request: str = "") -> Followed:
        """Look at a link without using it; `request` names the hosted login page that it is followed on.

        Raises:
            InvalidLink: it logs nobody in, or nobody any more, or not here.
            RedirectNotAllowed: the client does not allow its page any more.
        """
        token = await self._tokens.find(caller, raw_token, TokenKind.MAGIC_LINK)
        client = await self._clients.get(token.client_id)
        if not client.is_active or token.payload.get(_REQUEST, "") != request:
            raise InvalidLink
        target = _target(token.payload)
        return Followed(token, client, check_target(target, client) if target else None)

    async def follow(self, caller: CallerContext, followed: Followed, browser: Browser) -> Outcome:
        """Use a link up and pass its user through the gate.

        Raises:
            InvalidLink: another request was first.
            LoginBlocked, FeatureUnavailable, Unavailable: as the gate; the link is used up.
        """
        caller = replace(caller, client_id=followed.client.id)
        async with self._db.tenant(followed.client.id) as tx:
            user = await self._tokens.redeem(tx, followed.token)
            user, owed = await self._proofs.take_back(tx, caller, user)
        for duty in owed:
            try:
                await self._duties.fulfil(duty, caller)
            except AppError as error:
                # Sessions of before must be over before there is a new one, which they would end.
                if duty.kind is DutyKind.END_SESSIONS:
                    raise
                log.warning("token service not told of a verified address", code=error.code)
        try:
            return await self._gate.admit(caller, user, Proof(Method.MAGIC_LINK, _AMR), browser)
        except ProofOutdated:
            raise InvalidLink from None

    async def carry(self, followed: Followed, outcome: Outcome) -> str:
        """Return the URL that carries an outcome to the page it returns to, as a one-time code.

        Raises:
            Unavailable: the token service is away.
        """
        if isinstance(outcome, Opened):
            kept = exchange_pb2.LoginOutcome(session=outcome.session)
        else:
            kept = exchange_pb2.LoginOutcome(answer_json=waiting_answer(outcome).model_dump_json())
        code = await self._sessions.make_code(followed.client.id, kept)
        return with_code(followed.target or "", code)

    async def _create(self, tx: Tx, request: MailRequest) -> User | None:
        new = NewUser(
            id=UserId(new_id()),
            email=request.email.address,
            email_normalized=request.email.normalized,
            display_name="",
            metadata_json="{}",
            now=self._clock.now(),
        )
        user = await users.insert(tx, new)
        if user is None:
            return await users.find_by_email(tx, request.email.normalized)
        created = events.UserCreated(target_id=user.id, method=Method.MAGIC_LINK)
        actor = Actor(ActorType.CLIENT, str(request.client_id))
        await self._outbox.emit(tx, created, request.caller, actor=actor)
        return user


def _target(payload: Mapping[str, Any]) -> str | None:
    target = payload.get(_REDIRECT)
    return target if isinstance(target, str) else None
