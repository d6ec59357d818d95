"""Users: who they are, their profile, and what other services may know of them."""
