"""The OAuth endpoints of machines: tokens for service accounts, and introspection."""
