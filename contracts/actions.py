"""The protected actions: what a stolen session alone must not be enough for."""

from __future__ import annotations

from enum import StrEnum


class Action(StrEnum):
    """An action that the step-up guard stands before, by the name that policies and clients give it."""

    ORGANIZATION_UPDATE = "organization.update"
    ORGANIZATION_DELETE = "organization.delete"
    MEMBER_ROLE_CHANGE = "organization.member.role_change"
    MEMBER_REMOVE = "organization.member.remove"
    ORGANIZATION_TOKEN = "organization.token"  # noqa: S105 - a name
    CLIENT_KEY_ROTATE = "client.key.rotate"
    SERVICE_ACCOUNT_KEY_ROTATE = "service_account.key.rotate"
    APP_CHANGE = "app.change"
    SCIM_TOKEN_ROTATE = "scim.token.rotate"  # noqa: S105 - a name
    AUDIT_EXPORT = "audit.export"
    BILLING_CHANGE = "billing.change"
    DATA_EXPORT = "data.export"
    ACCOUNT_DELETE = "account.delete"
    EMAIL_CHANGE = "account.email_change"
    MFA_SETUP = "mfa.setup"
    MFA_DISABLE = "mfa.disable"
    PASSKEY_REMOVE = "passkey.remove"
    RECOVERY_CODES_ROTATE = "recovery_codes.rotate"
    USER_IMPERSONATE = "user.impersonate"
    SESSION_REVOKE_ALL = "session.revoke_all"
