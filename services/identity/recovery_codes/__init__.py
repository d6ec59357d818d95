"""Recovery codes: ten codes for the day the authenticator app is gone, each good once."""
