"""The registry of clients (tenants) and their API keys."""
