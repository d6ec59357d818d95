"""Apps: the OAuth 2.0 and OpenID Connect clients of tenants, and the tenant itself as one."""
