"""Remembered devices: browsers that a user has logged in with, and which of them are trusted."""
