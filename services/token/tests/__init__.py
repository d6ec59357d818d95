"""Tests of the token service, through its faces."""
