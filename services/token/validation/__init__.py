"""Validation: whether an access token is good right now."""
