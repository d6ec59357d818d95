"""Proofs of possession at the token endpoint (RFC 9449)."""
