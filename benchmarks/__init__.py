"""Measurements: what the pieces cost, alone and together."""
