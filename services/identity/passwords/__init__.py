"""Passwords: sign-up, login, change, and how they are hashed."""
