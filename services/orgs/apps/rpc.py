"""What the provider and the token endpoint ask of apps: `internal.orgs.v1.AppService`."""

from __future__ import annotations

from uuid import UUID

from chassis.last_used import LastUsed
from chassis.rpc import RpcContext, RpcService
from contracts.gen.internal.orgs.v1 import apps_pb2
from contracts.gen.internal.orgs.v1.apps_pb2_grpc import AppServiceServicer, add_AppServiceServicer_to_server
from services.orgs.apps.directory import AppAnswers
from services.orgs.apps.id_documents import IdDocuments
from services.orgs.errors import AppNotFound

NAME = "internal.orgs.v1.AppService"


class AppsRpc(AppServiceServicer):
    """Answers apps whole, with the hashes of their secrets: for the platform's own processes only."""

    def __init__(self, answers: AppAnswers, documents: IdDocuments, usage: LastUsed) -> None:
        """Take what answers, and where uses of secrets are noted."""
        self._answers = answers
        self._documents = documents
        self._usage = usage

    async def GetApp(self, request: apps_pb2.GetAppRequest, _context: RpcContext) -> apps_pb2.App:
        """Answer an app by its id, also a disabled one, or one of a suspended client: it says so."""
        return await self._answers.find(_id(request.app_id))

    async def FindDocument(self, request: apps_pb2.FindDocumentRequest, _context: RpcContext) -> apps_pb2.App:
        """Answer the app that describes itself at a URL, fetched or kept."""
        client_id = _id(request.client_id) if request.client_id else None
        return await self._documents.find(request.url, client_id, request.resources)

    async def NoteSecretUses(
        self, request: apps_pb2.NoteSecretUsesRequest, _context: RpcContext
    ) -> apps_pb2.NoteSecretUsesResponse:
        """Note that secrets were used, to within the minute or two that this may come late."""
        for used in request.secret_ids:
            self._usage.note(_id(used))
        return apps_pb2.NoteSecretUsesResponse()


def apps_rpc(answers: AppAnswers, documents: IdDocuments, usage: LastUsed) -> RpcService:
    """Return the servicer for the process's gRPC face."""
    return RpcService(NAME, AppsRpc(answers, documents, usage), add_AppServiceServicer_to_server)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise AppNotFound from None
