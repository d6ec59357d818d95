"""Builds the audit log, top to bottom; nothing is constructed anywhere else."""

from __future__ import annotations

from pathlib import Path

from chassis.app import App
from chassis.clock import Clock
from chassis.consumers import Consumer
from chassis.paging import Cursors
from chassis.service import Definition, Service
from contracts.topology import RPC_CALLERS
from services.audit.checkpoints.routes import routes as checkpoint_routes
from services.audit.checkpoints.service import Checkpoints
from services.audit.config import AuditSettings
from services.audit.ingest.chain import Chains
from services.audit.ingest.heads import prove_anew
from services.audit.ingest.key_check import KeyCheck
from services.audit.ingest.rpc import ingest_rpc
from services.audit.ingest.service import CONSUMER, SUBJECT, Ingest
from services.audit.query.routes import routes as query_routes
from services.audit.query.service import QueryService
from services.audit.tables import Base
from services.audit.verification.routes import routes as verification_routes
from services.audit.verification.service import Verification


def build(settings: AuditSettings, clock: Clock | None = None) -> App:
    """Build everything the service needs; nothing connects before the process starts."""
    service = Service(settings, clock)
    chains = Chains(service.sealer)
    ingest = Ingest(service.db, chains, service.clock, service.bus)
    consumer = Consumer(
        service.bus,
        service.db,
        ingest.store,
        name=CONSUMER,
        subject=SUBJECT,
        max_batch=settings.audit_batch_size,
    )
    checkpoints = Checkpoints(
        service.db,
        service.sealer,
        chains,
        service.clock,
        every=settings.audit_checkpoint_events,
        interval=settings.audit_checkpoint_interval,
    )
    query = QueryService(service.db, Cursors(service.sealer))
    verification = Verification(service.db, chains, checkpoints, service.clock)
    return service.app(
        routes=[
            query_routes(query),
            verification_routes(verification, service.outbox),
            checkpoint_routes(checkpoints),
        ],
        rpc=[ingest_rpc(service.outbox, service.clock)],
        callers=RPC_CALLERS,
        jobs={
            "ingest": consumer.run,
            "partitions": ingest.keep_partitions,
            "checkpoints": checkpoints.run,
            "backlog": ingest.watch_backlog,
        },
        resources=[KeyCheck(service.db, chains)],
    )


DEFINITION = Definition(
    settings=AuditSettings,
    build=build,
    tables=Base.metadata,
    migrations=Path(__file__).parent / "migrations",
    rewraps=[prove_anew],
)
