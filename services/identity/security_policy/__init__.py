"""The security policy of a client, as administrators read and change it."""
