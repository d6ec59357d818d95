"""Identity: users, their passwords and profiles."""
