"""The step-up guard: what stands between a session and a protected action, and the proof that opens it."""
