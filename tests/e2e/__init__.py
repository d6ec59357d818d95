"""Journeys, races and attacks against real processes."""
