"""Processes that are killed and servers that go away."""
