"""One-time codes by which the outcome of a login reaches an application through a browser."""
