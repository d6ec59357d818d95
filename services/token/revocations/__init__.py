"""Revocations: what kills access tokens before their time, and the news of it."""
