"""Service accounts: machines of a tenant, with scopes and secrets, and how they prove themselves."""
