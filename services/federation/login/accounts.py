"""The rules of what stands beside the login: a forgotten password, and the way back from its mail."""

from __future__ import annotations

from typing import Final

from chassis.errors import AppError
from contracts.apps import AppDirectory
from contracts.clients import Client
from services.federation.login.faults import refusal_of
from services.federation.login.identity import IdentityLogins
from services.federation.login.service import FORGOT, LOGIN, PAGES, Moved, Next, Visit, form_of
from services.federation.pages.contents import Fault, ForgotPage, MailedPage, Notice, Refusal

MAILED: Final = "/login/mailed"

_NOT_OFFERED: Final = "not_offered"


class HostedAccounts:
    """Takes a browser from the login page to its mail and back; what logs in is the login's."""

    def __init__(self, identity: IdentityLogins, apps: AppDirectory) -> None:
        """Take who knows accounts, and who knows tenants."""
        self._identity = identity
        self._apps = apps

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
            return _forgot(visit, email, _refusal("forgot", error))
        PAGES.labels("forgot", "asked").inc()
        return Moved(visit.url(MAILED))

    def mailed(self, visit: Visit) -> MailedPage:
        """Return the page that tells of the mail."""
        return MailedPage(visit.url(LOGIN))

    def changed(self, visit: Visit) -> Moved:
        """Lead back to the login after a reset."""
        return Moved(visit.url(LOGIN, notice=Notice.PASSWORD_CHANGED))

    async def tenant(self, client_id: str) -> Client | None:
        """Return the tenant in whose name a page speaks whose request is gone; None for none of ours."""
        app = await self._apps.find(client_id) if client_id else None
        return app.client if app is not None and app.is_tenant and app.is_usable else None


def _forgot(visit: Visit, email: str, refusal: Refusal | None = None) -> ForgotPage:
    return ForgotPage(form_of(visit, FORGOT), visit.url(LOGIN), email, refusal)


def _refusal(step: str, error: AppError) -> Refusal:
    """Return what the user is told, or let the error be one."""
    refusal = refusal_of(error)
    if refusal is None:
        raise error
    if refusal.fault is Fault.INVALID_CREDENTIALS:
        # What cannot be an address at all.
        refusal = Refusal(Fault.INVALID_EMAIL)
    PAGES.labels(step, refusal.fault).inc()
    return refusal
