"""The microservice chassis every process stands on; it holds no business word and imports none of ours."""

import os

# gRPC's fork handlers, chosen at its import, can crash the child of a process with threads. We fork only
# to exec at once (hash workers, the local system), for which no handler is needed.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
