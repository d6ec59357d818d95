"""The audit log: everything that happened, in keyed hash chains, one for each client."""
