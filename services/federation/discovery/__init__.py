"""What the issuer says of itself (OpenID Connect Discovery 1.0, RFC 8414)."""
