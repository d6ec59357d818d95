"""What each page shows; whoever answers with one fills it in, and `render` puts it into words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Form:
    """What the page's form sends, and where.

    `fields` are hidden ones. `target` is the URI that the answer may lead on to, such as the app's redirect
    URI: browsers count it as part of the submission (CSP `form-action`), so that without it they stop there.
    """

    action: str
    fields: Mapping[str, str] = field(default_factory=dict)
    target: str = ""


class Fault(StrEnum):
    """What was wrong with a form the last time."""

    INVALID_CREDENTIALS = "invalid_credentials"
    INVALID_EMAIL = "invalid_email"
    INVALID_CODE = "invalid_code"
    LOGIN_EXPIRED = "login_expired"
    LOCKED = "locked"
    UNAVAILABLE = "unavailable"
    CAPTCHA = "captcha"
    BLOCKED = "blocked"
    PASSKEY = "passkey"
    USER_CODE = "user_code"
    LINK = "link"
    EMAIL_TAKEN = "email_taken"
    EMAIL_BLOCKED = "email_blocked"
    WEAK_PASSWORD = "weak_password"  # noqa: S105 - a fault's name
    INVALID_FIELDS = "invalid_fields"


class Notice(StrEnum):
    """What was done before the page is shown."""

    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a notice's name
    ACCOUNT_CREATED = "account_created"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A fault, and for `LOCKED` the seconds until a further attempt makes sense."""

    fault: Fault
    retry_after: int = 0

    @property
    def minutes(self) -> int:
        """The same in minutes, at least one."""
        return max(1, -(-self.retry_after // 60))


@dataclass(frozen=True, slots=True)
class Captcha:
    """The widget that a login or a sign-up needs solved."""

    provider: str
    site_key: str


@dataclass(frozen=True, slots=True)
class PasskeyCalls:
    """Where the page's script begins and finishes a ceremony, and the members that it sends with both."""

    begin: str
    finish: str
    request: str
    form_token: str


@dataclass(frozen=True, slots=True)
class LoginPage:
    """Email and password, or a passkey.

    `signed_in_as` is who is logged in already: it must do so again, or with `may_continue` may go on as it is
    (a button sends `action=continue`). `other` is the page with nobody filled in.
    `cancel_action` gets the same form when the user gives up. `notice` names what is told before anything is
    asked. `forgot` is the page for who has forgotten the password, `sign_up` for who has no account,
    `mail_link` for who wants to log in by mail; each is empty where there is none.
    """

    form: Form
    app_name: str
    cancel_action: str = ""
    email: str = ""
    has_password: bool = True
    passkey: PasskeyCalls | None = None
    captcha: Captcha | None = None
    signed_in_as: str = ""
    may_continue: bool = False
    other: str = ""
    refusal: Refusal | None = None
    notice: Notice | None = None
    forgot: str = ""
    sign_up: str = ""
    mail_link: str = ""
    name: ClassVar[str] = "login"


@dataclass(frozen=True, slots=True)
class SignUpPage:
    """A new account: email, password, and a name if the user likes; `login` is for who has one.

    `min_length` is of the password, in characters; `rules` are those that the last one broke.
    """

    form: Form
    app_name: str
    login: str
    min_length: int
    cancel_action: str = ""
    email: str = ""
    display_name: str = ""
    captcha: Captcha | None = None
    rules: tuple[str, ...] = ()
    refusal: Refusal | None = None
    name: ClassVar[str] = "sign_up"


@dataclass(frozen=True, slots=True)
class ForgotPage:
    """The address that a link to choose another password goes to; `back` is the login page."""

    form: Form
    back: str
    email: str = ""
    refusal: Refusal | None = None
    name: ClassVar[str] = "forgot"


@dataclass(frozen=True, slots=True)
class MailLinkPage:
    """The address that a link to log in by goes to; `back` is the login page."""

    form: Form
    back: str
    email: str = ""
    refusal: Refusal | None = None
    name: ClassVar[str] = "mail_link"


@dataclass(frozen=True, slots=True)
class FollowLinkPage:
    """A person, and no scanner of mails, follows the link; the form has its token."""

    form: Form
    app_name: str
    cancel_action: str = ""
    name: ClassVar[str] = "follow_link"


@dataclass(frozen=True, slots=True)
class LinkElsewherePage:
    """The link was asked for in another browser, or its page waits no more: nobody is logged in."""

    name: ClassVar[str] = "link_elsewhere"


@dataclass(frozen=True, slots=True)
class MailedPage:
    """There is mail, for who has an account; the same for everybody. `back` is the login page."""

    back: str
    name: ClassVar[str] = "mailed"


@dataclass(frozen=True, slots=True)
class PasswordChangedPage:
    """The password is changed, and no page of this browser waits for the login with it."""

    name: ClassVar[str] = "password_changed"


@dataclass(frozen=True, slots=True)
class SecondFactorPage:
    """A code, or a passkey; `chosen` of `factors` is asked for, and `choose` leads to another of them.

    `remember_days` above 0 offers that the device be trusted. `restart` is the login page.
    """

    form: Form
    factors: tuple[str, ...]
    chosen: str
    choose: Mapping[str, str]
    restart: str
    cancel_action: str = ""
    remember_days: int = 0
    passkey: PasskeyCalls | None = None
    refusal: Refusal | None = None
    name: ClassVar[str] = "second_factor"


@dataclass(frozen=True, slots=True)
class EnrollmentPage:
    """An authenticator app must be set up before there is a login; the form sends `code`.

    `qr_svg` and `secret` are what the app needs. Both are empty for who has scanned them, and typed a wrong
    code; `renew` shows others.
    """

    form: Form
    qr_svg: str = ""
    secret: str = ""
    renew: str = ""
    cancel_action: str = ""
    refusal: Refusal | None = None
    name: ClassVar[str] = "enrollment"


@dataclass(frozen=True, slots=True)
class RecoveryPage:
    """The recovery codes that come with a new authenticator app, shown once; `next` is where it goes on."""

    codes: tuple[str, ...]
    next: str
    name: ClassVar[str] = "recovery"


@dataclass(frozen=True, slots=True)
class ConsentPage:
    """Whether an app may do what it asks; the form sends `decision`, `approve` or `deny`.

    `host` is where the answer goes. Of logos and other addresses of the app nothing is loaded.
    """

    form: Form
    app_name: str
    host: str
    email: str
    scopes: tuple[str, ...]
    resources: tuple[str, ...] = ()
    policy_uri: str = ""
    tos_uri: str = ""
    name: ClassVar[str] = "consent"


@dataclass(frozen=True, slots=True)
class DevicePage:
    """The code that a device shows; the form sends `user_code`."""

    form: Form
    user_code: str = ""
    refusal: Refusal | None = None
    name: ClassVar[str] = "device"


@dataclass(frozen=True, slots=True)
class DeviceConfirmPage:
    """Whether a device may do what it asks; the form sends `decision`, `approve` or `deny`.

    `place` is from where it asked: a place, or an address.
    """

    form: Form
    app_name: str
    email: str
    user_code: str
    scopes: tuple[str, ...]
    place: str = ""
    resources: tuple[str, ...] = ()
    name: ClassVar[str] = "device_confirm"


@dataclass(frozen=True, slots=True)
class DeviceDonePage:
    """The device has its access."""

    name: ClassVar[str] = "device_done"


@dataclass(frozen=True, slots=True)
class DeviceDeniedPage:
    """The device has none."""

    name: ClassVar[str] = "device_denied"


@dataclass(frozen=True, slots=True)
class LogoutPage:
    """Whether to log out; the form sends `decision`, `logout` or `stay`."""

    form: Form
    email: str
    app_name: str = ""
    name: ClassVar[str] = "logout"


@dataclass(frozen=True, slots=True)
class SignedOutPage:
    """The user is logged out; `back` is a registered URI of the app, or empty."""

    app_name: str = ""
    back: str = ""
    name: ClassVar[str] = "signed_out"


@dataclass(frozen=True, slots=True)
class SignedInPage:
    """The user chose to stay logged in."""

    name: ClassVar[str] = "signed_in"


@dataclass(frozen=True, slots=True)
class FormPostPage:
    """Carries an answer to the app (OAuth 2.0 Form Post Response Mode); a script sends the form at once."""

    form: Form
    app_name: str
    name: ClassVar[str] = "form_post"


class ErrorReason(StrEnum):
    """Why there is a page and no redirect."""

    INVALID_REQUEST = "invalid_request"
    UNKNOWN_APP = "unknown_app"
    REDIRECT_URI = "redirect_uri"
    EXPIRED = "expired"
    LOCKED = "locked"
    FORBIDDEN = "forbidden"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """What must not be told by redirect; `detail` is in English, for the maker of the app."""

    reason: ErrorReason
    detail: str = ""
    reference: str = ""
    retry_after: int = 0
    name: ClassVar[str] = "error"

    @property
    def minutes(self) -> int:
        """When to try again, in minutes."""
        return max(1, -(-self.retry_after // 60))


Page = (
    LoginPage
    | SignUpPage
    | ForgotPage
    | MailLinkPage
    | FollowLinkPage
    | LinkElsewherePage
    | MailedPage
    | PasswordChangedPage
    | SecondFactorPage
    | EnrollmentPage
    | RecoveryPage
    | ConsentPage
    | DevicePage
    | DeviceConfirmPage
    | DeviceDonePage
    | DeviceDeniedPage
    | LogoutPage
    | SignedOutPage
    | SignedInPage
    | FormPostPage
    | ErrorPage
)
"""Any page."""
