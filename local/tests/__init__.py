"""Tests of the local system: it starts, refuses a second start, and leaves nothing behind."""
