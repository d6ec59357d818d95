"""One of each page, as tests and screenshots look at them."""

from __future__ import annotations

from services.federation.pages.contents import (
    Captcha,
    ConsentPage,
    DeviceConfirmPage,
    DeviceDeniedPage,
    DeviceDonePage,
    DevicePage,
    EnrollmentPage,
    ErrorPage,
    ErrorReason,
    Fault,
    FollowLinkPage,
    ForgotPage,
    Form,
    FormPostPage,
    LinkElsewherePage,
    LoginPage,
    LogoutPage,
    MailedPage,
    MailLinkPage,
    Notice,
    Page,
    PasskeyCalls,
    PasswordChangedPage,
    RecoveryPage,
    Refusal,
    SecondFactorPage,
    SignedInPage,
    SignedOutPage,
    SignUpPage,
)

APP = "Wiki <b>\N{RIGHT-TO-LEFT OVERRIDE}of</b> \N{HIRAGANA LETTER A}"
EMAIL = "a.very.long.address+of.somebody@department.example.com"
TARGET = "https://wiki.example.com/cb?x=1"
FORM = Form("/login", {"request": 'req_"><script>', "form_token": "ft_1"}, TARGET)
CALLS = PasskeyCalls("/login/passkey/begin", "/login/passkey/finish", "req_1", "ft_1")
SCOPES = ("openid", "profile", "email", "org", "offline_access", "wiki:write", "other", "knows")

PAGES: dict[str, Page] = {
    "login": LoginPage(
        FORM,
        APP,
        "/login/cancel",
        passkey=CALLS,
        forgot="/login/forgot-password?request=r",
        sign_up="/login/sign-up?request=r",
        mail_link="/login/mail-link?request=r",
    ),
    "sign-up": SignUpPage(FORM, APP, "/login?request=r", 8, "/login/cancel"),
    "sign-up-fault": SignUpPage(
        FORM,
        APP,
        "/login?request=r",
        12,
        "/login/cancel",
        EMAIL,
        "<b>Ada</b>",
        Captcha("hcaptcha", "site-key"),
        ("password_too_short", "password_too_common", "not_known"),
        Refusal(Fault.WEAK_PASSWORD),
    ),
    "login-changed": LoginPage(FORM, APP, "/login/cancel", notice=Notice.PASSWORD_CHANGED),
    "forgot": ForgotPage(FORM, "/login?request=r", EMAIL, Refusal(Fault.INVALID_EMAIL)),
    "mail-link": MailLinkPage(FORM, "/login?request=r"),
    "follow-link": FollowLinkPage(FORM, APP, "/login/cancel"),
    "link-elsewhere": LinkElsewherePage(),
    "mailed": MailedPage("/login?request=r"),
    "password-changed": PasswordChangedPage(),
    "login-fault": LoginPage(
        FORM, APP, "/login/cancel", EMAIL, passkey=CALLS, refusal=Refusal(Fault.LOCKED, 61)
    ),
    "login-again": LoginPage(
        FORM, APP, "/login/cancel", EMAIL, passkey=CALLS, signed_in_as=EMAIL, other="/login?account=other"
    ),
    "login-choose": LoginPage(
        FORM, APP, "/login/cancel", signed_in_as=EMAIL, may_continue=True, other="/login?account=other"
    ),
    "login-passkey": LoginPage(FORM, APP, "/login/cancel", has_password=False, passkey=CALLS),
    "login-nothing": LoginPage(FORM, APP, "/login/cancel", has_password=False),
    "login-captcha": LoginPage(FORM, APP, captcha=Captcha("turnstile", "site-key")),
    "totp": SecondFactorPage(
        FORM,
        ("totp", "recovery_code", "passkey"),
        "totp",
        {
            "recovery_code": "/login/second-factor?f=recovery_code",
            "passkey": "/login/second-factor?f=passkey",
        },
        "/login?request=r",
        "/login/cancel",
        remember_days=30,
        refusal=Refusal(Fault.INVALID_CODE),
    ),
    "recovery-code": SecondFactorPage(
        FORM, ("recovery_code",), "recovery_code", {}, "/login?request=r", "/login/cancel"
    ),
    "passkey": SecondFactorPage(
        FORM, ("passkey",), "passkey", {}, "/login?request=r", "/login/cancel", 30, CALLS
    ),
    "enrollment": EnrollmentPage(
        FORM, '<svg width="10" height="10"><path d="M0 0h10v10z"/></svg>', "JBSWY3DPEHPK3PXP", "", "/cancel"
    ),
    "enrollment-again": EnrollmentPage(FORM, renew="/login/enrollment", refusal=Refusal(Fault.INVALID_CODE)),
    "recovery": RecoveryPage(tuple(f"abcde-fgh{n}j-klmno-pqrst" for n in range(10)), "/authorize/resume"),
    "consent": ConsentPage(
        FORM,
        APP,
        "wiki.example.com",
        EMAIL,
        SCOPES,
        ("https://api.example.com/",),
        "https://wiki.example.com/privacy",
        "https://wiki.example.com/terms",
    ),
    "device": DevicePage(FORM, "ABCD-EFGH", Refusal(Fault.USER_CODE)),
    "device-confirm": DeviceConfirmPage(FORM, APP, EMAIL, "ABCD-EFGH", SCOPES, "Berlin, Germany"),
    "device-done": DeviceDonePage(),
    "device-denied": DeviceDeniedPage(),
    "logout": LogoutPage(FORM, EMAIL, APP),
    "signed-out": SignedOutPage(APP, "https://wiki.example.com/bye"),
    "signed-in": SignedInPage(),
    "form-post": FormPostPage(Form(TARGET, {"code": "c", "state": '"><s>'}, TARGET), APP),
    "error": ErrorPage(ErrorReason.REDIRECT_URI, "redirect_uri <is> not registered", "req-1"),
}
