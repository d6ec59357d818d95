"""What users allow apps: codes, the sessions of grants, and the tokens of both (RFC 6749, OpenID Connect)."""
