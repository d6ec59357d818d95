"""Passkeys: WebAuthn registration and login, and the user's list of them (W3C Web Authentication Level 3)."""
