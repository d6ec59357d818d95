"""Sessions, refresh families, access tokens, their keys and revocations."""
