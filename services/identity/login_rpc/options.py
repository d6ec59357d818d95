"""What a client's hosted login page may offer, by this installation's and the client's settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from contracts.clients import Client
from contracts.gen.internal.identity.v1 import logins_pb2
from contracts.relying_party import RelyingParty, RelyingPartyDefaults
from services.identity.ui_config.routes import CaptchaView, Method


class LoginOptions:
    """Resolves clients' settings."""

    def __init__(
        self,
        methods: Collection[Method],
        *,
        has_mail: bool,
        captcha: CaptchaView | None,
        relying_party: RelyingPartyDefaults,
    ) -> None:
        """Take the installation's ways in, whether it mails, the CAPTCHA of logins, its relying party."""
        self._methods = methods
        self._has_mail = has_mail
        self._captcha = captcha
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
        captcha = self._captcha
        return logins_pb2.LoginOptions(
            has_password="password" in methods,
            has_passkey="passkey" in methods,
            passkey_origins=origins,
            captcha_provider=captcha.provider if captcha else "",
            captcha_site_key=captcha.site_key if captcha else "",
            has_password_reset="password" in methods and self._has_mail,
        )
