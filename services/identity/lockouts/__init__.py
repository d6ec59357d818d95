"""Lockouts: how many wrong passwords an address may see before it is closed for a while."""
