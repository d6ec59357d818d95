"""Settings with a meaning that is checked before they are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chassis.errors import UnprocessableRequest
from contracts import key_rotation, password_policy, security_policy
from contracts.key_rotation import check_key_rotation
from contracts.password_policy import check_password_policy
from contracts.security_policy import check_policy
from services.orgs.apps.tenant import PREFIX, check_oidc_settings
from services.orgs.apps.uris import PublicUrls
from services.orgs.clients.documents import Document

_CHECKS: Mapping[str, Callable[[object, str], object]] = {
    security_policy.SETTING: lambda value, where: check_policy(value, where=where),
    password_policy.SETTING: lambda value, where: check_password_policy(value, where=where),
    key_rotation.SETTING: lambda value, where: check_key_rotation(value, where=where),
}


def check_settings(changes: Document) -> None:
    """Check the changed settings that have a meaning; null removes one and is always fine.

    Raises:
        UnprocessableRequest: one breaks its rules; `errors` names the path of each fault.
    """
    for name, check in _CHECKS.items():
        if changes.get(name) is not None:
            check(changes[name], f"settings.{name}")


def check_oidc(merged: Document, changes: Document, urls: PublicUrls) -> None:
    """Check the settings of the tenant as an app, all of them, when one of them changes.

    Raises:
        UnprocessableRequest: one breaks its rules; `errors` names the path of each fault.
    """
    if any(name.startswith(PREFIX) for name in changes):
        checked = check_oidc_settings(merged)
        urls.check([("settings.oidc_backchannel_logout_uri", checked.backchannel_logout_uri or "")])


def check_is_ruled(name: str) -> None:
    """Check that another service may put a setting: one whose meaning is checked.

    Raises:
        UnprocessableRequest: it is not one of those.
    """
    if name not in _CHECKS:
        raise UnprocessableRequest(f"name: must be one of {', '.join(_CHECKS)}")
