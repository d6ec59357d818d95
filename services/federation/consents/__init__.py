"""What users have agreed that apps may do in their name."""
