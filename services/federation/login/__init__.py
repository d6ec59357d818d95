"""The hosted login page: between an authorization request and the session that answers it."""
