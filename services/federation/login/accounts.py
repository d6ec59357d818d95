"""The rules of what stands beside the login: new accounts, forgotten passwords, links by mail."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from chassis.errors import AppError
from contracts.apps import AppDirectory
from contracts.clients import Client
from contracts.hosted_pages import LOGIN_LINK
from services.federation.login.faults import refusal_of
from services.federation.login.identity import IdentityLogins
from services.federation.login.service import (
    CANCEL,
    FORGOT,
    LOGIN,
    MAIL_LINK,
    PAGES,
    SIGN_UP,
    HostedLogin,
    Moved,
    Next,
    Visit,
    form_of,
    offers_sign_up,
)
from services.federation.pages.contents import (
    Captcha,
    Fault,
    FollowLinkPage,
    ForgotPage,
    MailedPage,
    MailLinkPage,
    Notice,
    Refusal,
    SignUpPage,
)

MAILED: Final = "/login/mailed"

_NOT_OFFERED: Final = "not_offered"
_NO_SESSION: Final = "session_unavailable"


class HostedAccounts:
    """Takes a browser from the login page to its mail and back; what logs in is the login's."""

    def __init__(self, identity: IdentityLogins, login: HostedLogin, apps: AppDirectory) -> None:
        """Take who knows accounts, who goes on with a login, and who knows tenants."""
        self._identity = identity
        self._login = login
        self._apps = apps

    async def sign_up(
        self,
        visit: Visit,
        email: str | None = None,
        display_name: str = "",
        refusal: Refusal | None = None,
        rules: tuple[str, ...] = (),
    ) -> SignUpPage | Moved:
        """Return the page for a new account, with what was typed the last time; else the login page."""
        options = await self._identity.options(visit.client_id)
        if not offers_sign_up(options):
            return Moved(visit.url(LOGIN))
        hint = visit.waiting.login_hint
        captcha = Captcha(options.sign_up_captcha_provider, options.sign_up_captcha_site_key)
        return SignUpPage(
            form=form_of(visit, SIGN_UP),
            app_name=visit.waiting.app_name,
            login=visit.url(LOGIN),
            min_length=options.min_password_length,
            cancel_action=CANCEL,
            email=email if email is not None else hint if "@" in hint else "",
            display_name=display_name,
            captcha=captcha if captcha.provider else None,
            rules=rules,
            refusal=refusal,
        )

    async def create(
        self, visit: Visit, email: str, password: str, display_name: str, captcha_token: str
    ) -> Next:
        """Make an account and go on as its user; a refusal is the page again."""
        try:
            outcome = await self._identity.sign_up(
                visit.visitor(), email, password, display_name, captcha_token
            )
        except AppError as error:
            if error.code == _NOT_OFFERED:
                return Moved(visit.url(LOGIN))
            if error.code == _NO_SESSION:
                PAGES.labels("sign_up", error.code).inc()
                return Moved(visit.url(LOGIN, notice=Notice.ACCOUNT_CREATED))
            found = error.extra.get("rules")
            rules = tuple(map(str, found)) if isinstance(found, list) else ()
            refusal = _refusal("sign_up", error, malformed=Fault.INVALID_FIELDS)
            return await self.sign_up(visit, email, display_name, refusal, rules)
        return await self._login.settle(visit, "sign_up", outcome)

    async def forgot(self, visit: Visit) -> ForgotPage | Moved:
        """Return the page that asks for the address; the login page where no link could be mailed."""
        if not (await self._identity.options(visit.client_id)).has_password_reset:
            return Moved(visit.url(LOGIN))
        hint = visit.waiting.login_hint
        return _forgot(visit, hint if "@" in hint else "")

    async def ask_reset(self, visit: Visit, email: str) -> Next:
        """Have a link mailed; what follows is the same whether or not the address has an account."""
        try:
            await self._identity.ask_reset(visit.visitor(), email, visit.waiting.handle)
        except AppError as error:
            if error.code == _NOT_OFFERED:
                return Moved(visit.url(LOGIN))
            return _forgot(visit, email, _refusal("forgot", error, malformed=Fault.INVALID_EMAIL))
        PAGES.labels("forgot", "asked").inc()
        return Moved(visit.url(MAILED))

    async def mail_link(self, visit: Visit) -> MailLinkPage | Moved:
        """Return the page that asks where a link to log in by is to go; else the login page."""
        if not (await self._identity.options(visit.client_id)).has_magic_link:
            return Moved(visit.url(LOGIN))
        hint = visit.waiting.login_hint
        return _mail_link(visit, hint if "@" in hint else "")

    async def ask_link(self, visit: Visit, email: str) -> Next:
        """Have a link mailed; what follows is the same whether or not the address has an account."""
        try:
            await self._identity.ask_link(visit.visitor(), email, visit.waiting.handle)
        except AppError as error:
            if error.code == _NOT_OFFERED:
                return Moved(visit.url(LOGIN))
            return _mail_link(visit, email, _refusal("mail_link", error, malformed=Fault.INVALID_EMAIL))
        PAGES.labels("mail_link", "asked").inc()
        return Moved(visit.url(MAILED))

    def look(self, visit: Visit, token: str) -> FollowLinkPage:
        """Return the page on which a person follows a link; looking at it uses nothing up."""
        return FollowLinkPage(form_of(visit, LOGIN_LINK, token=token), visit.waiting.app_name, CANCEL)

    async def by_link(self, visit: Visit, token: str) -> Next:
        """Log in by a link that this very page has asked for; a refusal is the login page."""
        try:
            outcome = await self._identity.by_link(visit.visitor(), visit.waiting.handle, token)
        except AppError as error:
            refusal = _refusal("magic_link", error, malformed=Fault.LINK)
            return await self._login.show(visit, as_other=True, refusal=refusal)
        return await self._login.settle(visit, "magic_link", outcome)

    def mailed(self, visit: Visit) -> MailedPage:
        """Return the page that tells of the mail."""
        return MailedPage(visit.url(LOGIN))

    def changed(self, visit: Visit) -> Moved:
        """Lead back to the login after a reset."""
        return Moved(visit.url(LOGIN, notice=Notice.PASSWORD_CHANGED))

    async def tenant(self, client_id: str) -> Client | None:
        """Return the tenant in whose name a page speaks whose request is gone; None for none of ours."""
        try:
            app = await self._apps.find(str(UUID(client_id)))
        except ValueError:
            return None
        return app.client if app is not None and app.is_tenant and app.is_usable else None


def _forgot(visit: Visit, email: str, refusal: Refusal | None = None) -> ForgotPage:
    return ForgotPage(form_of(visit, FORGOT), visit.url(LOGIN), email, refusal)


def _mail_link(visit: Visit, email: str, refusal: Refusal | None = None) -> MailLinkPage:
    return MailLinkPage(form_of(visit, MAIL_LINK), visit.url(LOGIN), email, refusal)


def _refusal(step: str, error: AppError, *, malformed: Fault) -> Refusal:
    """Return what the user is told, or let the error be one; `malformed` is for what no field may hold."""
    refusal = refusal_of(error)
    if refusal is None:
        raise error
    if refusal.fault is Fault.INVALID_CREDENTIALS:
        refusal = Refusal(malformed)
    PAGES.labels(step, refusal.fault).inc()
    return refusal
