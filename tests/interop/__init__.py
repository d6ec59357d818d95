"""Relying parties of other projects against the running system, which they know by discovery alone."""
