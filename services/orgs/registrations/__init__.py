"""Dynamic client registration (RFC 7591, RFC 7592), behind initial access tokens that admins give out."""
