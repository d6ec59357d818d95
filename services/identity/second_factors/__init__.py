"""Second factors: how a code is shown, counted and used up, and what must be shown to change a factor."""
