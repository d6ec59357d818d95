"""Reset of forgotten passwords."""
