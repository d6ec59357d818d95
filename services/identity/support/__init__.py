"""Support: what admins see and do of the users of a client."""
