"""Taking events in: stored once, linked into their client's keyed hash chain."""
