"""Tests of the registry, through its faces."""
