"""The public gRPC face of administration, `auth.v1.AdminService`."""
