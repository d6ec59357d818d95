"""StepUpService: the guard, for the protected actions of other services."""

from __future__ import annotations

from dataclasses import replace

from chassis.errors import InvalidRequest
from chassis.rpc import RpcContext, RpcService, parse_id
from contracts.actions import Action
from contracts.gen.internal.identity.v1 import step_up_pb2
from contracts.gen.internal.identity.v1.step_up_pb2_grpc import (
    StepUpServiceServicer,
    add_StepUpServiceServicer_to_server,
)
from contracts.origins import caller_behind
from services.identity.step_up.service import StepUpService


class StepUpRpc(StepUpServiceServicer):
    """`internal.identity.v1.StepUpService`; the calling service vouches for who is behind the call."""

    def __init__(self, guard: StepUpService) -> None:
        """Take the rules."""
        self._guard = guard

    async def Check(
        self, request: step_up_pb2.CheckStepUpRequest, _context: RpcContext
    ) -> step_up_pb2.CheckStepUpResponse:
        """Return when the caller may go on."""
        client_id = parse_id(request.client_id, "client_id") if request.client_id else None
        try:
            action = Action(request.action)
        except ValueError:
            raise InvalidRequest("action is not a protected one.") from None
        caller = caller_behind(request.origin, client_id if request.origin.user_id else None)
        caller = replace(caller, auth_time=request.auth_time or None, amr=tuple(request.amr))
        await self._guard.check(
            caller,
            action,
            token=request.step_up_token or None,
            resource=request.resource or None,
            client_id=client_id,
        )
        return step_up_pb2.CheckStepUpResponse()


def step_up_rpc(guard: StepUpService) -> RpcService:
    """Return the slice's gRPC service."""
    return RpcService(
        "internal.identity.v1.StepUpService", StepUpRpc(guard), add_StepUpServiceServicer_to_server
    )
