"""UserService: users for other services."""

from __future__ import annotations

from chassis.database import Database
from chassis.errors import NotFound
from chassis.rpc import RpcContext, RpcService, parse_id
from contracts.gen.internal.identity.v1 import users_pb2, users_pb2_grpc
from services.identity.users import store
from services.identity.users.encoding import encode_user


class UsersRpc(users_pb2_grpc.UserServiceServicer):
    """Reads users of the client that the request names; the callers are services that we trust with that."""

    def __init__(self, db: Database) -> None:
        """Take where users are kept."""
        self._db = db

    async def GetUser(self, request: users_pb2.GetUserRequest, _context: RpcContext) -> users_pb2.User:
        """Return one user.

        Raises:
            NotFound: the client has none with this id.
        """
        client_id = parse_id(request.client_id, "client_id")
        user_id = parse_id(request.user_id, "user_id")
        async with self._db.tenant(client_id) as tx:
            user = await store.find(tx, user_id)
        if user is None:
            raise NotFound("There is no such user.")
        return encode_user(user)


def users_rpc(db: Database) -> RpcService:
    """Return the service to be added to the gRPC face."""
    add = users_pb2_grpc.add_UserServiceServicer_to_server
    return RpcService("internal.identity.v1.UserService", UsersRpc(db), add)
