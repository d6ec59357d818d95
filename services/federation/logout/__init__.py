"""Logout that an app asks for in the user's browser (OpenID Connect RP-Initiated Logout 1.0)."""
