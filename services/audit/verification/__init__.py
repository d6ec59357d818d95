"""Proving that a chain is as it was written, or naming where it is not."""
