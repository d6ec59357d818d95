"""Signed statements of where each chain stood, for verification also outside the service."""
