"""HTTP face of a user's say over the account."""

from __future__ import annotations

from uuid import UUID

from fastapi import Response

from chassis.context import Access
from chassis.http import Caller, Router, StepUpToken
from chassis.models import AnswerModel
from contracts.session import Time, UserView, from_micros, user_view
from contracts.step_up import REFUSALS
from services.identity.account.models import Export
from services.identity.account.service import AccountService
from services.identity.users.encoding import encode_user

_UNAVAILABLE = {"description": "`feature_unavailable`, `unavailable`"}


class ExportedSession(AnswerModel):
    """A live session."""

    id: UUID
    created_at: Time
    last_used_at: Time
    expires_at: Time
    ip: str
    user_agent: str


class ExportedDevice(AnswerModel):
    """A remembered device."""

    id: UUID
    name: str | None
    user_agent: str
    ip: str
    created_at: Time
    last_seen_at: Time
    trusted_until: Time | None


class ExportedPasskey(AnswerModel):
    """A passkey, without its key."""

    id: UUID
    name: str
    aaguid: UUID
    transports: list[str]
    created_at: Time
    last_used_at: Time | None


class ExportedLogin(AnswerModel):
    """A login of the last 90 days; of the address only the network is kept."""

    at: Time
    method: str
    network: str
    user_agent: str
    country: str | None
    risk_level: str
    signals: list[str]


class ExportedFactors(AnswerModel):
    """What proves the user, and since when; the secrets cannot be read."""

    password_changed_at: Time | None
    totp_enabled_at: Time | None
    recovery_codes_remaining: int
    passkeys: list[ExportedPasskey]


class ExportAnswer(AnswerModel):
    """Everything that is held on a user."""

    exported_at: Time
    user: UserView
    factors: ExportedFactors
    sessions: list[ExportedSession]
    devices: list[ExportedDevice]
    login_history: list[ExportedLogin]


def routes(accounts: AccountService) -> Router:
    """The slice's routes."""
    router = Router(tag="Profile")

    @router.get(
        "/api/auth/me/export",
        access=Access.USER,
        limit="sensitive",
        impersonation=False,
        responses={**REFUSALS, 503: _UNAVAILABLE},
    )
    async def export(caller: Caller, step_up_token: StepUpToken, response: Response) -> ExportAnswer:
        """Answer everything that is held on the user, as JSON (GDPR art. 15 and 20). Needs a step-up."""
        made = await accounts.export(caller, step_up_token)
        response.headers["cache-control"] = "no-store"
        response.headers["content-disposition"] = 'attachment; filename="account.json"'
        return _answer(made)

    @router.delete(
        "/api/auth/me",
        access=Access.USER,
        limit="sensitive",
        status_code=204,
        responses={**REFUSALS, 503: _UNAVAILABLE},
    )
    async def delete(caller: Caller, step_up_token: StepUpToken) -> None:
        """Delete the own account for ever (GDPR art. 17): data, factors and sessions. Needs a step-up.

        The address may sign up again; it gets another id, and nothing of what was deleted.
        """
        await accounts.delete(caller, step_up_token)

    return router


def _answer(made: Export) -> ExportAnswer:
    held = made.holdings
    return ExportAnswer(
        exported_at=made.made_at,
        user=user_view(encode_user(held.user)),
        factors=ExportedFactors(
            password_changed_at=held.password_changed_at,
            totp_enabled_at=held.totp_enabled_at,
            recovery_codes_remaining=held.recovery_codes.remaining,
            passkeys=[
                ExportedPasskey(
                    id=passkey.id,
                    name=passkey.name,
                    aaguid=passkey.aaguid,
                    transports=list(passkey.transports),
                    created_at=passkey.created_at,
                    last_used_at=passkey.last_used_at,
                )
                for passkey in held.passkeys
            ],
        ),
        sessions=[
            ExportedSession(
                id=UUID(session.id),
                created_at=from_micros(session.created_at),
                last_used_at=from_micros(session.last_used_at),
                expires_at=from_micros(session.expires_at),
                ip=session.ip,
                user_agent=session.user_agent,
            )
            for session in made.sessions
        ],
        devices=[
            ExportedDevice(
                id=device.id,
                name=device.name,
                user_agent=device.user_agent,
                ip=device.ip,
                created_at=device.created_at,
                last_seen_at=device.last_seen_at,
                trusted_until=device.trusted_until,
            )
            for device in held.devices
        ],
        login_history=[
            ExportedLogin(
                at=login.at,
                method=login.method,
                network=login.network,
                user_agent=login.user_agent,
                country=login.country,
                risk_level=login.risk_level,
                signals=list(login.signals),
            )
            for login in held.logins
        ],
    )
