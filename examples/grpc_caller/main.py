"""Ask AuthService over gRPC whether an access token is good right now: no keys, no JWT library.

The answer is printed as JSON; the exit code is 0 for a good token and 1 for any other.

    API_KEY=ask_… ACCESS_TOKEN=… GRPC_ADDRESS=localhost:9090 python -m examples.grpc_caller.main
"""

from __future__ import annotations

import os
import sys

import grpc
from google.protobuf.json_format import MessageToJson

from contracts.gen.auth.v1.token_pb2 import ValidateTokenRequest
from contracts.gen.auth.v1.token_pb2_grpc import TokenServiceStub

TIMEOUT_SECONDS = 5


def main() -> int:
    """Validate the token named in the environment, where other users of the machine cannot read it."""
    request = ValidateTokenRequest(access_token=os.environ["ACCESS_TOKEN"], api_key=os.environ["API_KEY"])
    with grpc.insecure_channel(os.environ.get("GRPC_ADDRESS", "localhost:9090")) as channel:
        answer = TokenServiceStub(channel).ValidateToken(request, timeout=TIMEOUT_SECONDS)
    print(MessageToJson(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))
    return 0 if answer.valid else 1


if __name__ == "__main__":
    sys.exit(main())
