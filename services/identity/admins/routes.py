"""HTTP face of admins: their logins, and who is one."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator

from chassis.context import ALL, CLIENT_SCOPE, Access
from chassis.http import KIB, LISTED, Caller, Router
from chassis.models import AnswerModel, RequestModel
from chassis.paging import DEFAULT_LIMIT, CursorParameter, LimitParameter, Page
from contracts.admin_roles import Role, permissions_of
from contracts.session import Time
from services.identity.admins.login import AdminLogin
from services.identity.admins.models import Admin, AdminStatus, Granted, SsoIdentity, Waiting
from services.identity.admins.service import AdminChange, AdminService, NewAdmin
from services.identity.admins.step_up import AdminStepUp
from services.identity.step_up.models import StepUpFactor
from services.identity.step_up.routes import StepUpAnswer
from services.identity.totp.codes import CODE_PATTERN
from services.identity.users.email import MAX_TYPED_LENGTH
from services.identity.users.fields import DisplayName

_MAX_SCOPES = 50
_MAX_PASSWORD = 1024
_SCOPE = re.compile(rf"{ALL}|({CLIENT_SCOPE}|organization:)[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}")


def _distinct(values: list[Any]) -> list[Any]:
    return sorted(set(values))


def _check_scope(scope: str) -> str:
    if not _SCOPE.fullmatch(scope):
        raise ValueError("must be `all`, `client:<id>` or `organization:<id>`")
    return scope


Scope = Annotated[str, Field(max_length=64), AfterValidator(_check_scope)]
Roles = Annotated[list[Role], Field(min_length=1, max_length=len(Role)), AfterValidator(_distinct)]
Scopes = Annotated[
    list[Scope],
    Field(min_length=1, max_length=_MAX_SCOPES, examples=[[ALL]]),
    AfterValidator(_distinct),
]
Email = Annotated[str, Field(max_length=MAX_TYPED_LENGTH, examples=["ada@example.com"])]
Password = Annotated[str, Field(min_length=1, max_length=_MAX_PASSWORD)]
MfaToken = Annotated[str, Field(max_length=128, description="Of the login that waits.")]
Code = Annotated[str, Field(pattern=CODE_PATTERN, description="Six digits, as the app shows them.")]


class SsoIdentityBody(RequestModel):
    """Who the admin is at an identity provider."""

    issuer: Annotated[str, Field(min_length=1, max_length=512)]
    subject: Annotated[str, Field(min_length=1, max_length=512)]

    def value(self) -> SsoIdentity:
        """Return it as the slice's value."""
        return SsoIdentity(self.issuer, self.subject)


class AdminLoginRequest(RequestModel):
    """An admin's address and password."""

    email: Email
    password: Password


class AssertionRequest(RequestModel):
    """What an identity provider says of an admin."""

    assertion: Annotated[
        str, Field(min_length=1, max_length=16 * KIB, description="An ID token for the console's client.")
    ]


class WaitingLoginRequest(RequestModel):
    """The login that waits."""

    mfa_token: MfaToken


class CodeRequest(WaitingLoginRequest):
    """A code of the authenticator app for the login that waits."""

    code: Code


class CreateAdminRequest(RequestModel):
    """A new admin; without a password it can log in once it has an identity at a provider."""

    email: Email
    roles: Roles
    scopes: Scopes
    display_name: DisplayName = ""
    password: Password | None = None
    mfa_required: bool = True
    sso_identity: SsoIdentityBody | None = None

    def value(self) -> NewAdmin:
        """Return it as the slice's value."""
        return NewAdmin(
            email=self.email,
            display_name=self.display_name,
            password=self.password,
            roles=tuple(self.roles),
            scopes=tuple(self.scopes),
            mfa_required=self.mfa_required,
            sso=self.sso_identity.value() if self.sso_identity else None,
        )


class UpdateAdminRequest(RequestModel):
    """The members to change; those left out stay, and `sso_identity` may be null."""

    display_name: DisplayName | None = None
    roles: Roles | None = None
    scopes: Scopes | None = None
    status: AdminStatus | None = None
    mfa_required: bool | None = None
    password: Password | None = None
    sso_identity: SsoIdentityBody | None = None
    reset_mfa: bool = Field(False, description="Take the authenticator app away; the next login sets one up.")

    @model_validator(mode="after")
    def _refuse_nothing(self) -> UpdateAdminRequest:
        change = self.change()
        if not (change.fields or change.password or change.reset_mfa):
            raise ValueError("name at least one member to change")
        return self

    def change(self) -> AdminChange:
        """Return it as the slice's value; null means "leave it" where null cannot be stored."""
        fields: dict[str, Any] = {}
        for name in ("display_name", "status", "mfa_required"):
            if (value := getattr(self, name)) is not None:
                fields[name] = value
        if self.roles is not None:
            fields["roles"] = tuple(self.roles)
        if self.scopes is not None:
            fields["scopes"] = tuple(self.scopes)
        if "sso_identity" in self.model_fields_set:
            fields["sso"] = self.sso_identity.value() if self.sso_identity else None
        return AdminChange(fields, self.password, self.reset_mfa)


class SsoIdentityView(AnswerModel):
    """Who the admin is at an identity provider."""

    issuer: str
    subject: str


class AdminView(AnswerModel):
    """An admin, without secrets; `permissions` is what its roles add up to."""

    id: UUID
    email: str
    display_name: str
    roles: list[Role]
    scopes: list[str]
    permissions: list[str]
    status: AdminStatus
    mfa_required: bool
    mfa_enabled: bool
    has_password: bool
    sso_identity: SsoIdentityView | None
    created_at: Time
    updated_at: Time
    last_login_at: Time | None

    @classmethod
    def of(cls, admin: Admin) -> AdminView:
        """Show an admin."""
        sso = admin.sso
        return cls(
            id=admin.id,
            email=admin.email,
            display_name=admin.display_name,
            roles=list(admin.roles),
            scopes=list(admin.scopes),
            permissions=sorted(permissions_of(admin.roles)),
            status=admin.status,
            mfa_required=admin.mfa_required,
            mfa_enabled=admin.totp_secret is not None,
            has_password=admin.password_hash is not None,
            sso_identity=SsoIdentityView(issuer=sso.issuer, subject=sso.subject) if sso else None,
            created_at=admin.created_at,
            updated_at=admin.updated_at,
            last_login_at=admin.last_login_at,
        )


class AdminTokenAnswer(AnswerModel):
    """A token for admin routes."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a scheme's name
    expires_in: int = Field(description="Seconds the token lives.")
    admin: AdminView

    @classmethod
    def of(cls, granted: Granted) -> AdminTokenAnswer:
        """Show what a login gives."""
        return cls(
            access_token=granted.access_token,
            expires_in=granted.expires_in,
            admin=AdminView.of(granted.admin),
        )


class AdminMfaRequired(AnswerModel):
    """The login waits for a code: send it with the `mfa_token` to `/api/admin/auth/mfa/verify`."""

    mfa_required: Literal[True] = True
    mfa_token: str
    expires_in: int = Field(description="Seconds the login waits.")
    factors: list[str]


class AdminEnrollmentRequired(AnswerModel):
    """An authenticator app must be set up first, by `/api/admin/auth/totp/setup` and `…/enable`."""

    mfa_enrollment_required: Literal[True] = True
    mfa_token: str
    expires_in: int = Field(description="Seconds the login waits.")
    factors: list[str]


class AdminTotpSetup(AnswerModel):
    """What an authenticator app needs; it cannot be read again."""

    secret: str = Field(description="160 bits in base32, for typing.")
    otpauth_url: str = Field(description="The same as a URL, for a link.")
    qr_svg: str = Field(description="The URL as a QR code, an SVG document.")


_NO_ADMIN: dict[int | str, dict[str, Any]] = {
    404: {"description": "`admin_not_found`: there is none in your scope"}
}
_NOT_WAITING: dict[int | str, dict[str, Any]] = {
    401: {"description": "`invalid_mfa_token`, `invalid_mfa_code`"},
    429: {"description": "`account_locked`, `rate_limited`"},
    503: {"description": "`feature_unavailable`: Redis is away, or no secret for admin tokens is set"},
}


class AdminStepUpRequest(RequestModel):
    """The challenge, and a code of the authenticator app."""

    challenge_token: str = Field(min_length=1, max_length=128)
    factor: Literal[StepUpFactor.TOTP] = StepUpFactor.TOTP
    code: Code


def routes(login: AdminLogin, admins: AdminService, step_up: AdminStepUp) -> Router:
    """The slice's routes."""
    router = Router(tag="Administration: admins")
    _declare_login(router, login)
    _declare_reading(router, admins)
    _declare_changes(router, admins)
    _declare_step_up(router, step_up)
    return router


def _declare_login(router: Router, login: AdminLogin) -> None:
    @router.post(
        "/api/admin/auth/login",
        access=Access.PUBLIC,
        limit="login",
        body_limit=4 * KIB,
        responses={**_NOT_WAITING, 401: {"description": "`invalid_credentials`"}},
    )
    async def log_admin_in(
        body: AdminLoginRequest, caller: Caller
    ) -> AdminTokenAnswer | AdminMfaRequired | AdminEnrollmentRequired:
        """Log an admin in by password: a token, or what is still in the way of one.

        The token opens the admin routes that the admin's roles allow, as `Authorization: Bearer …`.
        """
        return _login_answer(await login.log_in(caller, body.email, body.password))

    @router.post(
        "/api/admin/auth/sso",
        access=Access.PUBLIC,
        limit="login",
        body_limit=20 * KIB,
        responses={
            401: {"description": "`invalid_assertion`: forged, used, too old, or about no admin"},
            503: {"description": "`feature_unavailable`: no provider is set, or it is away"},
        },
    )
    async def log_admin_in_by_sso(
        body: AssertionRequest, caller: Caller
    ) -> AdminTokenAnswer | AdminMfaRequired | AdminEnrollmentRequired:
        """Log an admin in by an ID token of the provider that ADMIN_SSO_ISSUER names.

        The token must be for ADMIN_SSO_CLIENT_ID alone, at most five minutes old, and is good once. Its
        `iss` and `sub` are the `sso_identity` of the admin. Where its `amr` has `mfa` no code is asked for.
        """
        return _login_answer(await login.log_in_by_assertion(caller, body.assertion))

    @router.post(
        "/api/admin/auth/mfa/verify",
        access=Access.PUBLIC,
        limit="login",
        body_limit=4 * KIB,
        responses=_NOT_WAITING,
    )
    async def verify_admin_code(body: CodeRequest, caller: Caller) -> AdminTokenAnswer:
        """Complete an admin's login by a code of the authenticator app. A code is good once."""
        return AdminTokenAnswer.of(await login.verify(caller, body.mfa_token, body.code))

    @router.post(
        "/api/admin/auth/totp/setup",
        access=Access.PUBLIC,
        limit="login",
        body_limit=4 * KIB,
        responses=_NOT_WAITING,
    )
    async def set_up_admin_totp(body: WaitingLoginRequest) -> AdminTotpSetup:
        """Make a secret for the authenticator app of an admin who must have one and has none yet."""
        made = await login.set_up(body.mfa_token)
        return AdminTotpSetup(secret=made.secret, otpauth_url=made.otpauth_url, qr_svg=made.qr_svg)

    @router.post(
        "/api/admin/auth/totp/enable",
        access=Access.PUBLIC,
        limit="login",
        body_limit=4 * KIB,
        responses=_NOT_WAITING,
    )
    async def enable_admin_totp(body: CodeRequest, caller: Caller) -> AdminTokenAnswer:
        """Turn the authenticator app on by a code that it shows, and complete the login."""
        return AdminTokenAnswer.of(await login.enable(caller, body.mfa_token, body.code))


def _login_answer(
    outcome: Granted | Waiting,
) -> AdminTokenAnswer | AdminMfaRequired | AdminEnrollmentRequired:
    if isinstance(outcome, Granted):
        return AdminTokenAnswer.of(outcome)
    answer = AdminEnrollmentRequired if outcome.to_enroll else AdminMfaRequired
    return answer(mfa_token=outcome.mfa_token, expires_in=outcome.expires_in, factors=["totp"])


def _declare_step_up(router: Router, step_up: AdminStepUp) -> None:
    @router.post(
        "/api/admin/step-up/verify",
        access=Access.ADMIN,
        permission="self:prove",
        scope=LISTED,
        limit="login",
        body_limit=4 * KIB,
        responses={
            403: {
                "description": "`invalid_challenge`: send the protected request again; `wrong_code`: show "
                "another, five times at most"
            },
            429: {"description": "`account_locked`: see `Retry-After`"},
            503: {"description": "`feature_unavailable`"},
        },
    )
    async def verify_admin_step_up(body: AdminStepUpRequest, caller: Caller) -> StepUpAnswer:
        """Answer the challenge of a protected admin request by a code, for a proof that opens it once.

        The proof is bound to the admin, the action and what the action is done to. Send it with the request
        that was refused, as `X-Step-Up-Token`.
        """
        granted = await step_up.verify(caller, body.challenge_token, body.code)
        return StepUpAnswer(
            step_up_token=granted.step_up_token, expires_in=granted.expires_in, action=granted.action
        )


def _declare_reading(router: Router, admins: AdminService) -> None:
    @router.get(
        "/api/admin/users",
        access=Access.ADMIN,
        permission="admins:read",
        scope=LISTED,
        limit="admin",
        responses={400: {"description": "`invalid_cursor`: not a cursor of this list"}},
    )
    async def list_admins(
        caller: Caller, limit: LimitParameter = DEFAULT_LIMIT, cursor: CursorParameter = None
    ) -> Page[AdminView]:
        """List admins, the newest first; only those who administer nothing beyond your own scope."""
        found, following = await admins.page(caller, limit=limit, cursor=cursor)
        return Page(items=[AdminView.of(admin) for admin in found], next_cursor=following)

    @router.get(
        "/api/admin/users/{admin_id}",
        access=Access.ADMIN,
        permission="admins:read",
        scope=LISTED,
        limit="admin",
        responses=_NO_ADMIN,
    )
    async def get_admin(admin_id: UUID, caller: Caller) -> AdminView:
        """Answer an admin."""
        return AdminView.of(await admins.get(caller, admin_id))


def _declare_changes(router: Router, admins: AdminService) -> None:
    @router.post(
        "/api/admin/users",
        access=Access.ADMIN,
        permission="admins:write",
        scope=LISTED,
        limit="admin",
        idempotent=True,
        status_code=201,
        responses={
            403: {"description": "`rights_too_narrow`: nobody gives rights that it has not"},
            409: {"description": "`admin_exists`: another one has the address or the identity"},
        },
    )
    async def create_admin(body: CreateAdminRequest, caller: Caller) -> AdminView:
        """Add an admin. The first one is an owner, added with the break-glass key.

        Unless `mfa_required` is false, its first login sets up an authenticator app.
        """
        return AdminView.of(await admins.create(caller, body.value()))

    @router.patch(
        "/api/admin/users/{admin_id}",
        access=Access.ADMIN,
        permission="admins:write",
        scope=LISTED,
        limit="admin",
        responses={
            **_NO_ADMIN,
            403: {"description": "`rights_too_narrow`: it has, or would have, rights that you have not"},
            409: {"description": "`last_owner`; `admin_exists`: another one has the identity"},
        },
    )
    async def update_admin(admin_id: UUID, body: UpdateAdminRequest, caller: Caller) -> AdminView:
        """Change an admin: members that are not sent stay as they are.

        Its tokens follow from the moment of this answer; a new password, the loss of the authenticator app
        and a suspension end them. `id` and `email` cannot be changed and are ignored.
        """
        return AdminView.of(await admins.change(caller, admin_id, body.change()))

    @router.delete(
        "/api/admin/users/{admin_id}",
        access=Access.ADMIN,
        permission="admins:write",
        scope=LISTED,
        limit="admin",
        status_code=204,
        responses={
            **_NO_ADMIN,
            403: {"description": "`rights_too_narrow`: it has rights that you have not"},
            409: {"description": "`last_owner`"},
        },
    )
    async def delete_admin(admin_id: UUID, caller: Caller) -> None:
        """Remove an admin: its tokens are dead from the moment of this answer."""
        await admins.delete(caller, admin_id)
