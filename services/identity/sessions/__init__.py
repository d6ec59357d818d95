"""Sessions, as identity asks the token service for them, and what it still owes it."""
