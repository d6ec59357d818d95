"""Validates AuthService access tokens."""
