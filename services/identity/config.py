"""Identity's settings."""

from __future__ import annotations

import re
from datetime import timedelta
from email.utils import parseaddr
from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, FilePath, SecretStr, model_validator

from chassis.settings import CommaList, Duration, Environment, ForeignSecret, ServiceSettings
from contracts.admin_tokens import AdminLoginSettings
from contracts.relying_party import check_origin, check_rp_id, fits
from contracts.session import CookieSettings
from services.identity.captcha.service import CaptchaProvider


class IdentitySettings(ServiceSettings, CookieSettings, AdminLoginSettings):
    """What identity is told beside what every service is."""

    service: ClassVar[str] = "identity"

    token_grpc: str = Field(
        "localhost:9090", description="gRPC address of token, comma separated for several."
    )
    orgs_grpc: str = Field("localhost:9090", description="gRPC address of orgs, comma separated for several.")

    admin_sso_issuer: str | None = Field(
        None, description="Issuer of the ID tokens by which admins may log in; needs ADMIN_SSO_CLIENT_ID."
    )
    admin_sso_client_id: str | None = Field(
        None, description="The admin console's client at that issuer: the only audience that is taken."
    )

    password_hash: Literal["bcrypt", "argon2id"] = Field(
        "bcrypt",
        description="Scheme of new hashes; older ones are replaced at login, and until all are, a wrong "
        "password costs both.",
    )
    bcrypt_cost: int = Field(12, ge=10, le=16, description="Two to this power rounds of bcrypt.")
    hash_workers: int = Field(
        0,
        ge=0,
        le=256,
        description="Processes that hash passwords; 0: one per core, shared by WEB_CONCURRENCY.",
    )
    hash_queue: int = Field(
        64, ge=1, le=10_000, description="Passwords that may wait to be hashed; more are refused with 503."
    )
    hash_niceness: int = Field(
        10, ge=0, le=19, description="By how much hashing yields to everything else on the machine."
    )
    password_min_length: int = Field(8, ge=6, le=64, description="Least characters of a new password.")
    password_max_length: int = Field(
        72, ge=64, le=72, description="Most bytes of a new password; bcrypt reads no more than 72."
    )
    password_min_unique: int = Field(
        4, ge=1, le=16, description="Least different characters, spaces not counted."
    )
    password_block_common: bool = Field(True, description="Refuse well-known passwords.")
    password_block_user_info: bool = Field(
        True, description="Refuse passwords that contain the user's email name or display name."
    )
    blocked_email_domains: CommaList | None = Field(
        None, description="Domains that may not sign up, instead of the built-in list of disposable ones."
    )
    lockout_threshold: int = Field(
        5, ge=1, le=100, description="Wrong passwords for one address from one IP before it is locked there."
    )
    lockout_account_threshold: int = Field(
        50, ge=1, le=10_000, description="Wrong passwords for one address from anywhere before it is locked."
    )
    lockout_spray_threshold: int = Field(
        100,
        ge=2,
        le=100_000,
        description="Addresses of one client at which passwords from one IP may fail before it is refused "
        "there; secret keys and the client's `trusted_ip_cidrs` are exempt.",
    )
    lockout_window: Duration = Field(
        timedelta(minutes=15), description="Time in which wrong passwords are counted together."
    )
    lockout_shortest: Duration = Field(
        timedelta(minutes=1), description="The first lock; each further one doubles."
    )
    lockout_longest: Duration = Field(timedelta(minutes=15), description="No lock is longer.")

    captcha_provider: CaptchaProvider | None = Field(
        None, description="Whose CAPTCHA guards sign-up and login: turnstile, hcaptcha or recaptcha."
    )
    captcha_secret: SecretStr | None = Field(None, description="The secret that the provider gave.")
    captcha_site_key: str | None = Field(None, description="The public key that pages show the widget with.")
    captcha_verify_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="An own verifier of the same form, instead of the provider's.",
    )
    captcha_timeout: Duration = Field(
        timedelta(seconds=5), description="How long its answer may take; then 503 `captcha_unavailable`."
    )
    captcha_signup_required: bool = Field(False, description="Sign-ups need a solved CAPTCHA.")
    captcha_login_required: bool = Field(False, description="Password logins need a solved CAPTCHA.")
    captcha_hostnames: CommaList | None = Field(
        None, description="Hosts of the pages that CAPTCHAs may be solved on; any when not set."
    )
    captcha_min_score: float = Field(
        0.5, ge=0, le=1, description="Least score, where the provider gives one (reCAPTCHA v3)."
    )
    password_block_low_entropy: bool = Field(
        True, description="Refuse passwords of sequences, repetitions and keyboard rows."
    )
    password_breach_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Range query for leaked passwords (k-anonymity, as of Have I Been Pwned): the first five "
        "digits of the SHA-1 are appended. Its failure refuses nobody.",
    )
    password_breach_timeout: Duration = Field(
        timedelta(seconds=2), description="How long its answer may take; then the password counts as good."
    )
    password_block_breached: bool = Field(
        True, description="Whether it is asked for every client, or only for those whose policy wants it."
    )
    risk_provider_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Asked about the risk of each login by POST; see the page on it.",
    )
    risk_provider_api_key: SecretStr | None = Field(None, description="Sent to it as a bearer token.")
    risk_provider_timeout: Duration = Field(
        timedelta(seconds=5), description="How long a login waits for it at most; then it goes on without."
    )
    geoip_db: FilePath | None = Field(
        None, description="MaxMind-format file of places: impossible travel, and places in lists."
    )
    asn_db: FilePath | None = Field(
        None, description="MaxMind-format file of networks (ASN), for the lists of a policy."
    )
    mfa_lockout_threshold: int = Field(
        10, ge=2, le=10, description="Wrong codes of a user's second factors before they are locked."
    )
    mfa_lockout_window: Duration = Field(
        timedelta(hours=12), description="Time in which wrong codes are counted together."
    )
    mfa_lockout_shortest: Duration = Field(
        timedelta(minutes=15), description="The first lock of second factors; each further one doubles."
    )
    mfa_lockout_longest: Duration = Field(
        timedelta(hours=12), description="No lock of second factors is longer."
    )

    webauthn_rp_id: str = Field(
        "localhost", description="Domain that passkeys are made for, unless the client names its own."
    )
    webauthn_rp_origin: CommaList = Field(
        ["http://localhost:8080"],
        description="Origins that passkeys may be used from, comma separated; at the RP id or under it.",
    )
    webauthn_display_name: str = Field(
        "Auth Service", min_length=1, max_length=64, description="What authenticators call the relying party."
    )

    @model_validator(mode="after")
    def _check_admin_sso(self) -> Self:
        if (self.admin_sso_issuer is None) != (self.admin_sso_client_id is None):
            raise ValueError("ADMIN_SSO_ISSUER and ADMIN_SSO_CLIENT_ID belong together")
        return self

    @model_validator(mode="after")
    def _check_relying_party(self) -> Self:
        check_rp_id(self.webauthn_rp_id)
        if not all(fits(self.webauthn_rp_id, check_origin(origin)) for origin in self.webauthn_rp_origin):
            raise ValueError("WEBAUTHN_RP_ID must be the domain of each WEBAUTHN_RP_ORIGIN, or one above it")
        return self

    email_provider: Literal["auto", "resend", "smtp", "local"] = Field(
        "auto",
        description="How mail is sent. `auto`: Resend with a key, else SMTP with a URL, else in development "
        "the local inbox at `/dev/mail`, and in production not at all.",
    )
    resend_api_key: ForeignSecret | None = Field(None, description="Key of Resend.")
    resend_api_url: str = Field(
        "https://api.resend.com", pattern=r"^https?://", description="Where Resend is reached."
    )
    smtp_url: ForeignSecret | None = Field(
        None, description="Mail server: `smtp://user:password@host:587` (STARTTLS) or `smtps://…:465` (TLS)."
    )
    email_from: str = Field(
        "Auth Service <noreply@example.com>",
        description="Sender of mail; the name gives way to the client's brand.",
    )

    @model_validator(mode="after")
    def _check_mail(self) -> Self:
        if self.email_provider == "resend" and self.resend_api_key is None:
            raise ValueError("EMAIL_PROVIDER is resend: give RESEND_API_KEY")
        if self.email_provider == "smtp" and self.smtp_url is None:
            raise ValueError("EMAIL_PROVIDER is smtp: give SMTP_URL")
        if self.email_provider == "local" and self.environment is Environment.PRODUCTION:
            raise ValueError("EMAIL_PROVIDER is local: the inbox would show every link to everybody")
        if self.smtp_url is not None:
            url = urlsplit(self.smtp_url.get_secret_value())
            if url.scheme not in ("smtp", "smtps") or not url.hostname:
                raise ValueError("SMTP_URL must be smtp://… or smtps://… with a host")
        address = parseaddr(self.email_from)[1]
        if not self.email_from.isprintable() or not re.fullmatch(r"[!-?A-~]+@[A-Za-z0-9.-]+", address):
            raise ValueError("EMAIL_FROM must be an address, or a name and an <address>")
        return self

    @property
    def mail_way(self) -> Literal["resend", "smtp", "local", "none"]:
        """How mail is sent, with `auto` resolved."""
        if self.email_provider != "auto":
            return self.email_provider
        if self.resend_api_key is not None:
            return "resend"
        if self.smtp_url is not None:
            return "smtp"
        return "local" if self.environment is Environment.DEVELOPMENT else "none"

    @model_validator(mode="after")
    def _check_captcha(self) -> Self:
        is_there = bool(self.captcha_provider or self.captcha_verify_url)
        if (self.captcha_signup_required or self.captcha_login_required) and not is_there:
            raise ValueError("CAPTCHA_SIGNUP_REQUIRED and CAPTCHA_LOGIN_REQUIRED need CAPTCHA_PROVIDER")
        if is_there and self.captcha_secret is None:
            raise ValueError("CAPTCHA_SECRET is missing: the provider answers nobody without it")
        return self

    @model_validator(mode="after")
    def _check_lockout(self) -> Self:
        if not timedelta(0) < self.lockout_shortest <= self.lockout_longest:
            raise ValueError("LOCKOUT_SHORTEST must be over 0 and not over LOCKOUT_LONGEST")
        if not timedelta(0) < self.mfa_lockout_shortest <= self.mfa_lockout_longest:
            raise ValueError("MFA_LOCKOUT_SHORTEST must be over 0 and not over MFA_LOCKOUT_LONGEST")
        if self.lockout_account_threshold < self.lockout_threshold:
            raise ValueError("LOCKOUT_ACCOUNT_THRESHOLD must not be under LOCKOUT_THRESHOLD")
        return self
