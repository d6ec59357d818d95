"""Admins: who administers the installation or a part of it, their logins, and what each may do."""
