"""Programs of relying parties, run as processes of their own."""
