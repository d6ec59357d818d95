"""The settings as the slices' rules take them."""

from __future__ import annotations

from contracts.relying_party import RelyingPartyDefaults
from services.identity.config import IdentitySettings
from services.identity.lockouts.models import LockoutRules
from services.identity.passwords.policy import PolicyRules


def lockout_rules(settings: IdentitySettings) -> LockoutRules:
    """Return how many wrong passwords lock an address."""
    return LockoutRules(
        threshold=settings.lockout_threshold,
        account_threshold=settings.lockout_account_threshold,
        window=settings.lockout_window,
        shortest=settings.lockout_shortest,
        longest=settings.lockout_longest,
    )


def factor_lockout_rules(settings: IdentitySettings) -> LockoutRules:
    """Return how many wrong codes lock the second factors of a user."""
    return LockoutRules(
        threshold=settings.mfa_lockout_threshold,
        account_threshold=settings.mfa_lockout_threshold,
        window=settings.mfa_lockout_window,
        shortest=settings.mfa_lockout_shortest,
        longest=settings.mfa_lockout_longest,
    )


def relying_party(settings: IdentitySettings) -> RelyingPartyDefaults:
    """Return who passkeys are made for where a client does not say."""
    return RelyingPartyDefaults(
        settings.webauthn_rp_id, tuple(settings.webauthn_rp_origin), settings.webauthn_display_name
    )


def policy_rules(settings: IdentitySettings) -> PolicyRules:
    """Return what a new password must be."""
    return PolicyRules(
        min_length=settings.password_min_length,
        max_bytes=settings.password_max_length,
        min_unique=settings.password_min_unique,
        block_common=settings.password_block_common,
        block_user_info=settings.password_block_user_info,
        block_low_entropy=settings.password_block_low_entropy,
    )
