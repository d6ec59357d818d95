"""Logins: from a proof of who a user is to a session, a challenge or a refusal; only here is one opened."""
