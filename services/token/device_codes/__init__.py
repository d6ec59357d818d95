"""Devices without a keyboard: their requests wait until a user has answered on another one (RFC 8628)."""
