"""A user's say over the account: what is held on it, a copy of that, and its end."""
