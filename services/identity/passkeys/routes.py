"""HTTP face of passkeys."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from pydantic import Field, model_validator

from chassis.context import Access
from chassis.http import KIB, Caller, Router, StepUpToken
from chassis.models import AnswerModel, RequestModel
from chassis.paging import Page
from contracts.session import (
    ModeParameter,
    RefreshCookie,
    SessionOpened,
    Time,
    TransportParameter,
    TransportRequest,
    chosen_transport,
)
from services.identity.devices.cookie import DeviceCookie, browser_of
from services.identity.logins.answers import LoginAnswer, login_answer, opened_answer
from services.identity.passkeys.authenticators import authenticator_name
from services.identity.passkeys.credentials import NewCredential, ShownCredential, encode, wrapped
from services.identity.passkeys.logins import PasskeyLogins
from services.identity.passkeys.models import Passkey
from services.identity.passkeys.registrations import (
    Attachment,
    Begun,
    PasskeyRegistrations,
    ResidentKey,
    Wish,
)
from services.identity.passkeys.service import PasskeyService
from services.identity.second_factors.fresh_proof import Shown
from services.identity.second_factors.requests import AnyCode, Password
from services.identity.users.email import MAX_TYPED_LENGTH
from services.identity.users.fields import DisplayName

_MAX_TOKEN = 128
_BODY = 32 * KIB

_REDIS: dict[int | str, dict[str, Any]] = {503: {"description": "`feature_unavailable`: Redis is away"}}
_FRESH = "`step_up_required`, `wrong_code`, `wrong_password`"
_LOCKED: dict[int | str, dict[str, Any]] = {429: {"description": "`account_locked`: see `Retry-After`"}}

SessionParameter = Annotated[
    str | None, Query(max_length=_MAX_TOKEN, description="`session_id` of the answer of `begin`.")
]
PasskeyName = Annotated[DisplayName, Field(min_length=1, max_length=64)]


class ProofRequest(RequestModel):
    """What shows that it is the user, and not only the session: a code of the app, or else the password."""

    code: AnyCode | None = None
    password: Password | None = None

    def shown(self, step_up_token: str | None) -> Shown:
        """The proof, or the token of one."""
        return Shown(self.password, self.code, step_up_token)


class RegisterBeginRequest(ProofRequest):
    """What kind of passkey is wanted; without any, one that is found without an address (discoverable)."""

    resident_key: ResidentKey = ResidentKey.REQUIRED
    authenticator_attachment: Attachment | None = None


class CeremonyAnswer(AnswerModel):
    """A ceremony: hand `options` to the browser, and its answer to `finish` with the `session_id`."""

    session_id: str
    expires_in: int = Field(description="Seconds the ceremony waits.")
    options: dict[str, Any] = Field(
        description="For `PublicKeyCredential.parseCreationOptionsFromJSON` or `parseRequestOptionsFromJSON`."
    )


class RegisterFinishRequest(TransportRequest):
    """The new credential as `credential.toJSON()` gives it; it may also be the body itself."""

    credential: NewCredential
    session_id: Annotated[str, Field(max_length=_MAX_TOKEN)] | None = None
    name: PasskeyName | None = None

    @model_validator(mode="before")
    @classmethod
    def _wrap(cls, body: object) -> object:
        return wrapped(body)


class LoginBeginRequest(RequestModel):
    """Nobody (the authenticator finds the user), an email, or the login whose second factor it is."""

    email: str | None = Field(None, max_length=MAX_TYPED_LENGTH)
    mfa_token: str | None = Field(None, max_length=_MAX_TOKEN)
    user_verification: bool = Field(
        default=False, description="Demand that the authenticator verifies the user, as a step-up does."
    )


class LoginFinishRequest(RequestModel):
    """The credential as `credential.toJSON()` gives it; it may also be the body itself."""

    credential: ShownCredential
    remember_device: bool = False

    @model_validator(mode="before")
    @classmethod
    def _wrap(cls, body: object) -> object:
        return wrapped(body)


class RenameRequest(RequestModel):
    """A name."""

    name: PasskeyName


class RemoveRequest(ProofRequest):
    """Which passkey to remove."""

    id: UUID


class PasskeyView(AnswerModel):
    """A passkey as its owner sees it."""

    id: UUID
    credential_id: str
    name: str
    aaguid: UUID
    aaguid_name: str | None = Field(description="Maker or model of the authenticator, where it is known.")
    transports: list[str]
    backup_eligible: bool = Field(description="It may be copied between the user's devices.")
    backed_up: bool
    user_verified: bool = Field(description="It has verified its user, and so counts as a second factor.")
    clone_suspected_at: Time | None = Field(description="When its counter last went back.")
    created_at: Time
    last_used_at: Time | None

    @classmethod
    def of(cls, passkey: Passkey) -> PasskeyView:
        """Render a passkey."""
        return cls(
            id=passkey.id,
            credential_id=encode(passkey.credential_id),
            name=passkey.name,
            aaguid=passkey.aaguid,
            aaguid_name=authenticator_name(passkey.aaguid),
            transports=list(passkey.transports),
            backup_eligible=passkey.backup_eligible,
            backed_up=passkey.backed_up,
            user_verified=passkey.user_verified,
            clone_suspected_at=passkey.clone_suspected_at,
            created_at=passkey.created_at,
            last_used_at=passkey.last_used_at,
        )


class PasskeyPage(Page[PasskeyView]):
    """All passkeys; `passkeys` is the same list under its older name."""

    passkeys: list[PasskeyView]


class PasskeyRegistered(AnswerModel):
    """The kept passkey; `session` only for a caller who had to set up a second factor."""

    passkey: PasskeyView
    session: SessionOpened | None = Field(None, exclude_if=lambda session: session is None)


def routes(
    registrations: PasskeyRegistrations,
    logins: PasskeyLogins,
    passkeys: PasskeyService,
    cookie: RefreshCookie,
) -> Router:
    """The slice's routes."""
    router = Router(tag="Passkeys")
    _declare_registration(router, registrations, cookie)
    _declare_login(router, logins, cookie)
    _declare_own(router, passkeys)
    return router


def _ceremony(begun: Begun) -> CeremonyAnswer:
    return CeremonyAnswer(
        session_id=begun.session_id, expires_in=int(begun.ttl.total_seconds()), options=begun.options
    )


def _declare_registration(router: Router, registrations: PasskeyRegistrations, cookie: RefreshCookie) -> None:
    @router.post(
        "/api/auth/passkey/register/begin",
        access=Access.USER,
        limit="sensitive",
        body_limit=4 * KIB,
        enrollment=True,
        responses={
            403: {"description": _FRESH},
            409: {
                "description": "`too_many_passkeys`; `mfa_already_enabled`: the enrollment token is for a "
                "first factor only"
            },
            **_LOCKED,
            **_REDIS,
        },
    )
    async def register_begin(
        caller: Caller, step_up_token: StepUpToken, body: RegisterBeginRequest | None = None
    ) -> CeremonyAnswer:
        """Begin to register a passkey: answers the options of `navigator.credentials.create()`.

        With an authenticator app set up, `code` must be one of it, or a recovery code. Without, `password` is
        needed, unless the login was in the last 15 minutes. The ceremony waits five minutes.
        """
        asked = body or RegisterBeginRequest()
        wish = Wish(asked.resident_key, asked.authenticator_attachment)
        return _ceremony(await registrations.begin(caller, wish, asked.shown(step_up_token)))

    @router.post(
        "/api/auth/passkey/register/finish",
        access=Access.USER,
        limit="sensitive",
        body_limit=_BODY,
        enrollment=True,
        idempotent=True,
        status_code=201,
        responses={
            400: {
                "description": "`invalid_passkey_registration`: malformed; `passkey_session_unknown`: no "
                "registration waits for it"
            },
            403: {"description": "`passkey_refused`: a check failed, `detail` says which"},
            409: {"description": "`passkey_known`, `too_many_passkeys`, `mfa_already_enabled`"},
            **_REDIS,
        },
    )
    async def register_finish(
        body: RegisterFinishRequest,
        caller: Caller,
        response: Response,
        device_token: DeviceCookie,
        session_id: SessionParameter = None,
        token_transport: TransportParameter = None,
        session_mode: ModeParameter = None,
    ) -> PasskeyRegistered:
        """Check what the authenticator made, and keep it under the `name`, or its maker's.

        A challenge is good for one answer. What a client demands of origin, user verification and attestation
        is in its `webauthn_*` settings. A caller with an enrollment token also gets the session.
        """
        transport = chosen_transport(body, token_transport, session_mode)
        finished = await registrations.finish(
            caller,
            body.credential,
            browser_of(device_token, transport),
            session_id=session_id or body.session_id,
            name=body.name,
        )
        opened = finished.opened
        return PasskeyRegistered(
            passkey=PasskeyView.of(finished.passkey),
            session=opened_answer(opened, transport, cookie, response) if opened else None,
        )


def _declare_login(router: Router, logins: PasskeyLogins, cookie: RefreshCookie) -> None:
    @router.post(
        "/api/auth/passkey/login/begin",
        access=Access.API_KEY,
        body_limit=4 * KIB,
        responses={
            401: {"description": "`invalid_mfa_token`: no login waits behind it"},
            422: {"description": "`invalid_email`, `validation_failed`"},
            **_REDIS,
        },
    )
    async def login_begin(caller: Caller, body: LoginBeginRequest | None = None) -> CeremonyAnswer:
        """Begin a login by passkey: answers the options of `navigator.credentials.get()`.

        Without `email` the authenticator finds the user, also by autofill (conditional UI). With it the
        answer names four credentials, for an address without an account too. With the `mfa_token` of a login
        that waits for a second factor, the passkey will be that factor, and must verify the user.
        """
        asked = body or LoginBeginRequest()
        begun = await logins.begin(
            caller,
            typed_email=asked.email,
            mfa_token=asked.mfa_token,
            needs_user_verification=asked.user_verification,
        )
        return _ceremony(begun)

    @router.post(
        "/api/auth/passkey/login/finish",
        access=Access.API_KEY,
        limit="login",
        body_limit=_BODY,
        responses={
            400: {"description": "`invalid_passkey_answer`: malformed"},
            401: {
                "description": "`invalid_passkey_session`: no login waits for it; `invalid_passkey`: "
                "refused; `invalid_mfa_token`: the login whose second factor it is does not wait any more"
            },
            403: {"description": "`login_blocked`: the client's policy refuses logins as risky as this one"},
            **_REDIS,
        },
    )
    async def login_finish(
        body: LoginFinishRequest,
        caller: Caller,
        response: Response,
        device_token: DeviceCookie,
        session_id: Annotated[str, Query(max_length=_MAX_TOKEN, description="Of the answer of `begin`.")],
        token_transport: TransportParameter = None,
        session_mode: ModeParameter = None,
    ) -> LoginAnswer:
        """Log in with what the authenticator answered; each `session_id` is good for one answer.

        A passkey that verified its user (PIN, finger, face) counts as two factors. One that did not is one
        factor: where a second is due, the answer has an `mfa_token`. An unknown passkey, a wrong answer and a
        suspended user are the same 401 `invalid_passkey`.
        """
        transport = chosen_transport(None, token_transport, session_mode)
        browser = browser_of(device_token, transport, remember=body.remember_device)
        outcome = await logins.finish(caller, session_id, body.credential, browser)
        return login_answer(outcome, transport, cookie, response)


def _declare_own(router: Router, passkeys: PasskeyService) -> None:
    missing = {"description": "`passkey_not_found`"}
    refused = {
        "description": f"{_FRESH}; `mfa_required_by_policy`: it is the last second factor, one is required"
    }

    @router.get("/api/auth/passkeys", access=Access.USER)
    async def list_passkeys(caller: Caller) -> PasskeyPage:
        """List the own passkeys, the oldest first; there are at most 25, on one page."""
        views = [PasskeyView.of(passkey) for passkey in await passkeys.list(caller)]
        return PasskeyPage(items=views, passkeys=views)

    @router.patch(
        "/api/auth/passkeys/{passkey_id}", access=Access.USER, body_limit=4 * KIB, responses={404: missing}
    )
    async def rename_passkey(passkey_id: UUID, body: RenameRequest, caller: Caller) -> PasskeyView:
        """Give an own passkey another `name`."""
        return PasskeyView.of(await passkeys.rename(caller, passkey_id, body.name))

    @router.delete(
        "/api/auth/passkeys/{passkey_id}",
        access=Access.USER,
        limit="sensitive",
        status_code=204,
        responses={403: refused, 404: missing, **_LOCKED},
    )
    async def remove_passkey(
        passkey_id: UUID, caller: Caller, step_up_token: StepUpToken, body: ProofRequest | None = None
    ) -> None:
        """Remove an own passkey; sessions go on.

        With an authenticator app set up, `code` must be one of it, or a recovery code. Without, `password` is
        needed, unless the login was in the last 15 minutes.
        """
        await passkeys.remove(caller, passkey_id, (body or ProofRequest()).shown(step_up_token))

    @router.delete(
        "/api/auth/passkeys",
        access=Access.USER,
        limit="sensitive",
        status_code=204,
        responses={403: refused, 404: missing, **_LOCKED},
    )
    async def remove_named_passkey(body: RemoveRequest, caller: Caller, step_up_token: StepUpToken) -> None:
        """Remove the own passkey whose `id` is in the body: the older form of the route with the path."""
        await passkeys.remove(caller, body.id, body.shown(step_up_token))
