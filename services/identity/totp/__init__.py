"""TOTP: time-based one-time passwords of an authenticator app (RFC 6238)."""
