"""Clients (tenants): created, set up, suspended; and told of to every other process."""
