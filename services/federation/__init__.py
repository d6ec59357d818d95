"""The OpenID provider: what apps ask a user for, and what the user grants them."""
