"""One-time tokens that travel by mail, and what it means that a mailbox was reached."""
