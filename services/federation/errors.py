"""What the provider refuses, beside what every service does."""
