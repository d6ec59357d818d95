"""The provider's pages: rendered here, in the tenant's name and the user's language, without a need for script."""
