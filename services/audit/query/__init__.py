"""Reading the log: filters, newest first."""
