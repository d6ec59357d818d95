"""Devices without a keyboard: they show a code, and their user answers here (RFC 8628)."""
