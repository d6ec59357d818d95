"""Login by a link that was mailed."""
