"""Mail to users: queued with what makes it due, rendered in the client's brand, sent once."""
