"""Issuer sessions: by which cookie a browser is known to be logged in at the provider."""
