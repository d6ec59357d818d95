"""AdminDirectoryService: what an admin may do now, for the gateway."""

from __future__ import annotations

from chassis.database import Database
from chassis.rpc import RpcContext, RpcService, parse_id
from contracts.gen.internal.identity.v1 import admins_pb2, admins_pb2_grpc
from services.identity.admins import store
from services.identity.errors import AdminNotFound


class AdminDirectoryRpc(admins_pb2_grpc.AdminDirectoryServiceServicer):
    """Reads admins."""

    def __init__(self, db: Database) -> None:
        """Take where admins are kept."""
        self._db = db

    async def GetAdmin(self, request: admins_pb2.GetAdminRequest, _context: RpcContext) -> admins_pb2.Admin:
        """Return one admin.

        Raises:
            AdminNotFound: there is none with this id.
        """
        admin_id = parse_id(request.admin_id, "admin_id")
        async with self._db.platform() as tx:
            admin = await store.find(tx, admin_id)
        if admin is None:
            raise AdminNotFound
        return admins_pb2.Admin(
            id=str(admin.id),
            status=admin.status,
            token_epoch=admin.token_epoch,
            roles=admin.roles,
            scopes=admin.scopes,
        )


def admin_directory_rpc(db: Database) -> RpcService:
    """Return the service to be added to the gRPC face."""
    add = admins_pb2_grpc.add_AdminDirectoryServiceServicer_to_server
    return RpcService("internal.identity.v1.AdminDirectoryService", AdminDirectoryRpc(db), add)
