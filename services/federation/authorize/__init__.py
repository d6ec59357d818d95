"""The authorization endpoint: what apps ask of users, and how it is answered (OpenID Connect Core §3.1)."""
