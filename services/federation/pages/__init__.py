"""The provider's pages, in the tenant's name and the user's language; only passkeys need script."""
