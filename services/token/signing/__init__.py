"""Signing: what signs a client's access tokens, and its rotation."""
