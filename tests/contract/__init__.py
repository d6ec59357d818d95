"""Tests of the merged contract."""
