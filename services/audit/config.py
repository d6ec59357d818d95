"""Settings of the audit log."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from pydantic import Field

from chassis.settings import Duration, ServiceSettings


class AuditSettings(ServiceSettings):
    """What `audit` is told beside what every service is."""

    service: ClassVar[str] = "audit"

    identity_grpc: str = Field(
        "localhost:9090", description="gRPC address of `identity`, comma separated for several."
    )

    audit_batch_size: int = Field(
        1000, ge=1, le=5000, description="Events stored in one transaction at most (AUDIT_BATCH_SIZE)."
    )
    audit_checkpoint_events: int = Field(
        1000, ge=1, description="A chain gets a signed checkpoint after as many new events."
    )
    audit_checkpoint_interval: Duration = Field(
        timedelta(seconds=60), description="A chain with news gets a signed checkpoint after this time."
    )
