"""What a client's hosted login page may offer, by this installation's and the client's settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from contracts.clients import Client
from contracts.gen.internal.identity.v1 import logins_pb2
from contracts.password_policy import password_policy_of
from contracts.relying_party import RelyingParty, RelyingPartyDefaults
from services.identity.ui_config.routes import CaptchaView, Method


@dataclass(frozen=True, slots=True)
class SignUpOptions:
    """What a sign-up on a page needs, whatever the client says.

    `is_possible` is False where it needs a CAPTCHA that no page can show. `min_password_length` is in
    characters.
    """

    captcha: CaptchaView | None
    is_possible: bool
    min_password_length: int


class LoginOptions:
    """Resolves clients' settings."""

    def __init__(
        self,
        methods: Collection[Method],
        *,
        has_mail: bool,
        captcha: CaptchaView | None,
        sign_up: SignUpOptions,
        relying_party: RelyingPartyDefaults,
    ) -> None:
        """Take the installation's ways in, if it mails, what logins and sign-ups need, its relying party."""
        self._methods = methods
        self._has_mail = has_mail
        self._captcha = captcha
        self._sign_up = sign_up
        self._relying_party = relying_party

    def of(self, client: Client) -> logins_pb2.LoginOptions:
        """Return a client's; passkey settings that cannot work leave the other ways."""
        found = client.settings.get("auth_ui")
        chosen: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
        shown = chosen.get("methods")
        methods = {method for method in self._methods if not isinstance(shown, list) or method in shown}
        try:
            origins = RelyingParty.of(client.settings, self._relying_party).origins
        except ValidationError:
            origins = ()
        captcha, to_sign_up = self._captcha, self._sign_up.captcha
        own = password_policy_of(client.settings)
        return logins_pb2.LoginOptions(
            has_password="password" in methods,
            has_passkey="passkey" in methods,
            passkey_origins=origins,
            captcha_provider=captcha.provider if captcha else "",
            captcha_site_key=captcha.site_key if captcha else "",
            has_password_reset="password" in methods and self._has_mail,
            has_magic_link="magic_link" in methods,
            has_sign_up="password" in methods and self._sign_up.is_possible and chosen.get("signup") is True,
            sign_up_captcha_provider=to_sign_up.provider if to_sign_up else "",
            sign_up_captcha_site_key=to_sign_up.site_key if to_sign_up else "",
            min_password_length=max(self._sign_up.min_password_length, own.min_length or 0),
        )
