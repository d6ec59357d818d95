"""The public AuthService: the same rules as the HTTP routes, over gRPC."""
