"""A step-up's values: what it is bound to, the challenge, and the proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, Self
from uuid import UUID

from chassis.context import CallerContext
from contracts.actions import Action
from contracts.security_policy import RiskLevel, SecurityPolicy
from services.identity.users.models import User


class StepUpFactor(StrEnum):
    """What may answer a challenge, as clients name it."""

    TOTP = "totp"
    RECOVERY_CODE = "recovery_code"
    PASSKEY = "passkey"
    PASSWORD = "password"  # noqa: S105 - a factor's name


@dataclass(frozen=True, slots=True)
class Binding:
    """What a challenge, and the proof that answers it, is good for: this, and nothing else.

    `client_id` is whose policy counted, `resource` what the action is done to; both are empty where there is
    none. A proof of a user is bound to its session, one of an admin to the admin.
    """

    client_id: str
    user_id: str
    session_id: str
    admin_id: str
    action: str
    resource: str

    @classmethod
    def of(cls, caller: CallerContext, action: Action, resource: str, client_id: UUID | None) -> Self:
        """Bind to a caller and what it wants to do."""
        return cls(
            client_id=str(client_id or ""),
            user_id=str(caller.user_id or ""),
            session_id=str(caller.session_id or ""),
            admin_id=str(caller.admin_id or ""),
            action=action,
            resource=resource,
        )

    def is_of(self, caller: CallerContext) -> bool:
        """Whether it is this caller's, in this session; what it wants to do is not looked at."""
        own = (str(caller.user_id or ""), str(caller.session_id or ""), str(caller.admin_id or ""))
        is_own_client = caller.client_id is None or str(caller.client_id) == self.client_id
        return own == (self.user_id, self.session_id, self.admin_id) and is_own_client


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge that waits; `epoch` is the user's when it was made, `max_age` in seconds."""

    binding: Binding
    factors: tuple[str, ...]
    max_age: int
    epoch: int

    def encode(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def decode(cls, members: Mapping[str, Any]) -> Self:
        """Read what `encode` wrote."""
        return cls(
            binding=Binding(**members["binding"]),
            factors=tuple(members["factors"]),
            max_age=members["max_age"],
            epoch=members["epoch"],
        )


@dataclass(frozen=True, slots=True)
class StepUpProof:
    """A proof that waits to be used; `given_at` in Unix seconds."""

    binding: Binding
    epoch: int
    given_at: float

    def encode(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def decode(cls, members: Mapping[str, Any]) -> Self:
        """Read what `encode` wrote."""
        return cls(Binding(**members["binding"]), members["epoch"], members["given_at"])

    def is_good_for(self, binding: Binding, epoch: int, max_age: int, now: datetime) -> bool:
        """Whether it proves this, is not older than `max_age` seconds, and nothing made it void since."""
        age = now.timestamp() - self.given_at
        return self.binding == binding and self.epoch == epoch and age <= max_age


@dataclass(frozen=True, slots=True)
class Granted:
    """The proof, as the client gets it; `expires_in` in seconds."""

    step_up_token: str
    expires_in: int
    action: str


class RiskSource(Protocol):
    """Judges how risky a protected action looks."""

    async def level(
        self, caller: CallerContext, user: User, policy: SecurityPolicy, action: Action
    ) -> RiskLevel:
        """Return the level; never called inside a transaction."""
        ...


class AdminFactors(Protocol):
    """Knows what admins can show. `epoch` changes when what proved the admin is void."""

    async def factors(self, admin_id: UUID) -> tuple[tuple[str, ...], int]:
        """Return the factors of an active admin and its epoch; none and 0 for one that may do nothing."""
        ...
