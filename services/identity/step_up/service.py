"""The rules of the guard: when an action needs a proof, who gives one, and that it opens one thing once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NoReturn
from uuid import UUID

from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import Access, CallerContext
from chassis.database import Database
from chassis.errors import Forbidden, Unauthenticated
from chassis.events import DomainEvent
from chassis.one_time import OneTimeState
from chassis.outbox import Outbox
from contracts import events
from contracts.actions import Action
from contracts.clients import ClientDirectory
from contracts.security_policy import ActionMode, ActionPolicy, RiskLevel, SecurityPolicy
from contracts.step_up import ActionBlocked, StepUpRequired, action_policy
from services.identity.errors import InvalidChallenge
from services.identity.logins.models import FactorSource
from services.identity.passwords import store as passwords
from services.identity.step_up.models import (
    AdminFactors,
    Binding,
    Challenge,
    Granted,
    RiskSource,
    StepUpFactor,
    StepUpProof,
)
from services.identity.users.models import User

CHECKS = Counter("step_up_checks_total", "Protected actions, and what the guard said.", ["action", "outcome"])

_CHALLENGE, _PROOF = "step_up_challenge", "step_up"
_CHALLENGE_TTL: Final = timedelta(minutes=5)
_ATTEMPTS = 5
_DEFAULT_MAX_AGE = 300


@dataclass(frozen=True, slots=True)
class _Demand:
    """One check: who wants what, and what that asks for."""

    caller: CallerContext
    user: User | None
    binding: Binding
    action: Action
    policy: ActionPolicy
    factors: tuple[str, ...]
    epoch: int

    @property
    def client_id(self) -> UUID | None:
        return UUID(self.binding.client_id) if self.binding.client_id else None

    @property
    def max_age(self) -> int:
        return self.policy.max_age_seconds or _DEFAULT_MAX_AGE


class StepUpService:
    """The guard itself (`contracts.step_up.StepUpGuard`), and the challenges that it makes."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        clients: ClientDirectory,
        one_time: OneTimeState,
        factors: Sequence[FactorSource],
        risk: RiskSource,
        admins: AdminFactors | None = None,
    ) -> None:
        """Take who knows policies, factors and risk; without `admins` no admin user has any factor."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._clients = clients
        self._one_time = one_time
        self._factors = factors
        self._risk = risk
        self._admins = admins

    async def check(
        self,
        caller: CallerContext,
        action: Action,
        *,
        token: str | None,
        resource: UUID | str | None = None,
        client_id: UUID | None = None,
        is_proven: bool = False,
    ) -> None:
        """Return when the caller may go on; see `StepUpGuard.check`, whose errors it raises.

        `is_proven`: the request itself showed a factor, which its route has checked and used up; then only
        what forbids the action is looked at.

        Raises:
            Unauthenticated: the user is none any more, or suspended.
        """
        if caller.is_break_glass:
            CHECKS.labels(action, "break_glass").inc()
            return
        owner = caller.client_id or client_id
        policy = await self._policy(owner)
        asked = action_policy(policy, action)
        if asked.mode is ActionMode.OFF:
            CHECKS.labels(action, "off").inc()
            return
        binding = Binding.of(caller, action, str(resource or ""), owner)
        demand = await self._demand(caller, binding, action, asked)
        level = await self._level(demand, policy)
        if asked.mode is ActionMode.BLOCK or level.is_at_least(asked.risk_block_level):
            await self._block(demand, level)
        if is_proven:
            CHECKS.labels(action, "proven").inc()
        elif asked.mode is ActionMode.CHALLENGE or level.is_at_least(asked.risk_challenge_level):
            await self._require_proof(demand, token, level)
        else:
            noticed = events.ProtectedActionNoticed(action=action, resource=binding.resource, level=level)
            await self._tell(demand, noticed, "noticed")

    async def claim(self, caller: CallerContext, challenge_token: str) -> Challenge:
        """Return the caller's challenge, counting one of five attempts at it.

        Raises:
            InvalidChallenge: there is none of this caller, in this session, or it saw too many attempts.
            FeatureUnavailable: Redis is away.
        """
        found = await self._one_time.read(_CHALLENGE, challenge_token)
        if found is None or not Challenge.decode(found).binding.is_of(caller):
            raise InvalidChallenge
        if await self._one_time.attempt(_CHALLENGE, challenge_token, limit=_ATTEMPTS) is None:
            raise InvalidChallenge
        return Challenge.decode(found)

    async def grant(self, caller: CallerContext, challenge_token: str, factor: str) -> Granted:
        """Give the proof for a challenge whose `factor` was shown, and used up; of several, one gets it.

        Raises:
            InvalidChallenge: it was answered meanwhile, or is too old.
            FeatureUnavailable: Redis is away.
        """
        found = await self._one_time.take(_CHALLENGE, challenge_token)
        if found is None or not Challenge.decode(found).binding.is_of(caller):
            raise InvalidChallenge
        challenge = Challenge.decode(found)
        proof = StepUpProof(challenge.binding, challenge.epoch, self._clock.now().timestamp())
        token = await self._one_time.put(_PROOF, proof.encode(), ttl=timedelta(seconds=challenge.max_age))
        bound = challenge.binding
        done = events.StepUpVerified(action=bound.action, resource=bound.resource, factor=factor)
        await self._append(done, caller, bound)
        return Granted(token, challenge.max_age, challenge.binding.action)

    async def _policy(self, client_id: UUID | None) -> SecurityPolicy:
        if client_id is None:
            return SecurityPolicy()
        return SecurityPolicy.of((await self._clients.get(client_id)).settings)

    async def _demand(
        self, caller: CallerContext, binding: Binding, action: Action, policy: ActionPolicy
    ) -> _Demand:
        if caller.access is Access.ADMIN:
            factors, epoch = await self._of_admin(caller)
            return _Demand(caller, None, binding, action, policy, factors, epoch)
        if caller.access is not Access.USER or caller.impersonator_id is not None:
            # Nothing else has a factor to show; whoever acts in a user's name least of all.
            raise Forbidden
        async with self._db.tenant(caller.require_client()) as tx:
            account = await passwords.find_by_id(tx, caller.require_user())
            if account is None or not account.user.is_active:
                raise Unauthenticated
            user = account.user
            found = [str(factor) for source in self._factors for factor in await source.factors(tx, user)]
        if not found and account.password is not None:
            # Only who has nothing better: a password may be what was stolen.
            found = [StepUpFactor.PASSWORD]
        return _Demand(caller, user, binding, action, policy, tuple(found), user.auth_epoch)

    async def _of_admin(self, caller: CallerContext) -> tuple[tuple[str, ...], int]:
        if self._admins is None or caller.admin_id is None:
            return (), 0
        return await self._admins.factors(caller.admin_id)

    async def _level(self, demand: _Demand, policy: SecurityPolicy) -> RiskLevel:
        """Judge the risk, where it can change the answer."""
        asked = demand.policy
        can_matter = asked.risk_block_level is not None or asked.mode is ActionMode.NOTIFY
        if demand.user is None or asked.mode is ActionMode.BLOCK or not can_matter:
            return RiskLevel.LOW
        return await self._risk.level(demand.caller, demand.user, policy, demand.action)

    async def _require_proof(self, demand: _Demand, token: str | None, level: RiskLevel) -> None:
        if token is not None:
            if await self._use(demand, token):
                CHECKS.labels(demand.action, "proven").inc()
                return
            refused = events.StepUpRefused(action=demand.action, resource=demand.binding.resource)
            await self._tell(demand, refused, "refused")
        elif not demand.factors and self._is_fresh(demand):
            # Who has nothing to show but the way in, a mailbox perhaps, shows it by logging in again.
            CHECKS.labels(demand.action, "fresh_login").inc()
            return
        challenge = Challenge(demand.binding, demand.factors, demand.max_age, demand.epoch)
        challenge_token = await self._one_time.put(_CHALLENGE, challenge.encode(), ttl=_CHALLENGE_TTL)
        asked = events.StepUpChallenged(
            action=demand.action, resource=demand.binding.resource, factors=demand.factors, level=level
        )
        await self._tell(demand, asked, "challenged")
        raise StepUpRequired.of(
            challenge_token=challenge_token,
            factors=demand.factors,
            action=demand.action,
            expires_in=int(_CHALLENGE_TTL.total_seconds()),
        )

    async def _use(self, demand: _Demand, token: str) -> bool:
        """Use up a proof; false when it is none of this. One that is of something else is left as it is."""
        found = await self._one_time.read(_PROOF, token)
        if found is None:
            return False
        now = self._clock.now()
        if not StepUpProof.decode(found).is_good_for(demand.binding, demand.epoch, demand.max_age, now):
            return False
        return await self._one_time.take(_PROOF, token) is not None

    def _is_fresh(self, demand: _Demand) -> bool:
        auth_time = demand.caller.auth_time
        return auth_time is not None and self._clock.now().timestamp() - auth_time <= demand.max_age

    async def _block(self, demand: _Demand, level: RiskLevel) -> NoReturn:
        blocked = events.ProtectedActionBlocked(
            action=demand.action, resource=demand.binding.resource, level=level
        )
        await self._tell(demand, blocked, "blocked")
        raise ActionBlocked.of(demand.action)

    async def _tell(self, demand: _Demand, event: DomainEvent, outcome: str) -> None:
        CHECKS.labels(demand.action, outcome).inc()
        await self._append(event, demand.caller, demand.binding)

    async def _append(self, event: DomainEvent, caller: CallerContext, binding: Binding) -> None:
        client_id = UUID(binding.client_id) if binding.client_id else None
        await self._outbox.append(event, caller, client_id=client_id)
