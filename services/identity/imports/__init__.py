"""Imports: users of another system, with the hashes of their passwords, one JSON object a line."""
