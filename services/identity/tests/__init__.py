"""Tests of identity, through its faces, on real servers."""
