"""The gate: every proof of who a user is comes here, and only from here does a session come.

A slice that checks a proof (password, magic link, passkey) calls `admit`; one that checks a second factor
reads the waiting login by `pending` and calls `complete`. Whether the proof is enough is decided in one
place, so that no rule can forget a way in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database
from chassis.errors import AppError
from chassis.events import Actor, ActorType
from chassis.one_time import OneTimeState
from chassis.outbox import Outbox
from contracts import events
from contracts.clients import ClientDirectory
from services.identity.errors import InvalidMfaToken, ProofOutdated
from services.identity.logins import store
from services.identity.logins.models import (
    Browser,
    Challenged,
    EnrollmentDue,
    Factor,
    FactorSource,
    Method,
    Opened,
    Outcome,
    Pending,
    Proof,
    Risk,
    Settled,
    nothing_to_settle,
)
from services.identity.logins.policy import MfaPolicy
from services.identity.sessions.client import SessionClient
from services.identity.users import store as users
from services.identity.users.models import User

LOGINS = Counter("logins_total", "Logins, by the way in and what became of them.", ["method", "outcome"])

_MFA = "mfa"
_MFA_TTL = timedelta(minutes=5)
_MFA_ATTEMPTS = 5
_TO_ENROLL = (Factor.TOTP, Factor.PASSKEY)


class LoginGate:
    """Decides what a proven user gets."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        clients: ClientDirectory,
        sessions: SessionClient,
        one_time: OneTimeState,
        factors: Sequence[FactorSource],
    ) -> None:
        """Take who knows rules and factors, and who opens sessions."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._clients = clients
        self._sessions = sessions
        self._one_time = one_time
        self._factors = factors

    async def admit(
        self,
        caller: CallerContext,
        user: User,
        proof: Proof,
        browser: Browser,
        *,
        settled: Settled = nothing_to_settle,
    ) -> Outcome:
        """Give an active user, proven by `proof`, a session or what is still in the way of one.

        `user` is as it was read when the proof was checked. `settled` runs in the transaction that records
        the outcome, and not at all when this raises.

        Raises:
            ProofOutdated: the user was suspended, or the proof became void, meanwhile; nothing is left open.
            FeatureUnavailable: a second factor is needed and Redis is away.
            Unavailable: the token service is away.
        """
        policy = MfaPolicy.of(await self._clients.get(user.client_id))
        risk = Risk()
        factors = await self._factors_of(user)
        is_enrolled = user.mfa_enabled or bool(factors and policy.needs_second_factor(is_enrolled=False))
        if proof.is_mfa or not policy.needs_second_factor(is_enrolled=is_enrolled):
            return await self._open(caller, user, proof, settled)
        if factors:
            return await self._challenge(caller, user, proof, risk, factors, settled)
        return await self._open_for_enrollment(caller, user, proof, risk, settled)

    async def pending(self, caller: CallerContext, mfa_token: str) -> Pending:
        """Return the login that waits behind a token, counting one attempt at its second factor.

        Raises:
            InvalidMfaToken: none of this client's does, or it saw too many attempts.
            FeatureUnavailable: Redis is away.
        """
        found = await self._one_time.attempt(_MFA, mfa_token, limit=_MFA_ATTEMPTS)
        return self._checked(caller, found)

    async def peek(self, caller: CallerContext, mfa_token: str) -> Pending:
        """Return the login that waits behind a token, to begin a ceremony; no attempt is counted.

        Raises:
            InvalidMfaToken, FeatureUnavailable: as `pending`.
        """
        return self._checked(caller, await self._one_time.read(_MFA, mfa_token))

    async def complete(
        self, caller: CallerContext, pending: Pending, mfa_token: str, factor: Factor, amr: Sequence[str]
    ) -> Opened:
        """Open the session of a waiting login whose second factor was shown; `amr` says what that was.

        The caller has used the factor up. Of several who complete one login, one gets the session.

        Raises:
            InvalidMfaToken: it was completed or is too old, or its proof became void.
            FeatureUnavailable, Unavailable: as `admit`.
        """
        if await self._one_time.take(_MFA, mfa_token) is None:
            raise InvalidMfaToken
        async with self._db.tenant(pending.client_id) as tx:
            user = await users.find(tx, pending.user_id)
        if user is None or not user.is_active or user.auth_epoch != pending.auth_epoch:
            raise InvalidMfaToken
        both = tuple(dict.fromkeys((*pending.proof.amr, *amr, "mfa")))
        proof = replace(pending.proof, amr=both, is_mfa=True)
        try:
            return await self._open(caller, user, proof, nothing_to_settle, factor=factor)
        except ProofOutdated:
            raise InvalidMfaToken from None
        except AppError:
            # Not the user's fault: another code may be shown for the same login.
            await self._one_time.put(_MFA, pending.encode(), ttl=_MFA_TTL, token=mfa_token)
            raise

    async def complete_enrollment(
        self, caller: CallerContext, user: User, factor: Factor, amr: Sequence[str]
    ) -> Opened:
        """Open the session of a caller with an enrollment token who has just set up a factor.

        The session behind the enrollment token ends, so that the token is good for one session.

        Raises:
            ProofOutdated, Unavailable: as `admit`.
        """
        proof = Proof(Method.ENROLLMENT, tuple(dict.fromkeys((*caller.amr, *amr, "mfa"))), is_mfa=True)
        opened = await self._open(caller, user, proof, nothing_to_settle, factor=factor)
        if caller.session_id is not None:
            await self._sessions.end_one(caller, caller.session_id, reason="enrolled")
        return opened

    def _checked(self, caller: CallerContext, found: dict[str, Any] | None) -> Pending:
        pending = Pending.decode(found) if found else None
        if pending is None or pending.client_id != caller.require_client():
            raise InvalidMfaToken
        return pending

    async def _factors_of(self, user: User) -> tuple[Factor, ...]:
        async with self._db.tenant(user.client_id) as tx:
            found = [factor for source in self._factors for factor in await source.factors(tx, user)]
        return tuple(found)

    async def _challenge(
        self,
        caller: CallerContext,
        user: User,
        proof: Proof,
        risk: Risk,
        factors: tuple[Factor, ...],
        settled: Settled,
    ) -> Challenged:
        pending = Pending(user.client_id, user.id, user.auth_epoch, proof, factors, risk)
        token = await self._one_time.put(_MFA, pending.encode(), ttl=_MFA_TTL)
        async with self._db.tenant(user.client_id) as tx:
            await settled(tx)
            challenged = events.MfaChallenged(
                target_id=user.id,
                method=proof.method,
                factors=factors,
                risk_level=risk.level,
                signals=risk.signals,
            )
            await self._outbox.emit(tx, challenged, caller, actor=_actor(user))
        LOGINS.labels(proof.method, "challenged").inc()
        return Challenged(token, int(_MFA_TTL.total_seconds()), factors, risk)

    async def _open_for_enrollment(
        self, caller: CallerContext, user: User, proof: Proof, risk: Risk, settled: Settled
    ) -> EnrollmentDue:
        opened = await self._sessions.open_for_enrollment(caller, user, amr=proof.amr)
        async with self._db.tenant(user.client_id) as tx:
            await settled(tx)
            due = events.MfaEnrollmentRequired(target_id=user.id, method=proof.method)
            await self._outbox.emit(tx, due, caller, actor=_actor(user))
        LOGINS.labels(proof.method, "enrollment").inc()
        return EnrollmentDue(opened.access_token, opened.expires_in, _TO_ENROLL, risk)

    async def _open(
        self,
        caller: CallerContext,
        user: User,
        proof: Proof,
        settled: Settled,
        factor: Factor | None = None,
    ) -> Opened:
        """Open the session and record the login, or refuse it when the proof became void meanwhile."""
        now = self._clock.now()
        user = replace(user, last_login_at=now)
        opened = await self._sessions.open(caller, user, amr=proof.amr, is_mfa=proof.is_mfa)
        async with self._db.tenant(user.client_id) as tx:
            is_recorded = await store.record(tx, user.id, user.auth_epoch, now)
            if is_recorded:
                await settled(tx)
                succeeded = events.LoginSucceeded(
                    target_id=user.id,
                    method=proof.method,
                    factor=factor,
                    opened_session_id=opened.session_id,
                )
                await self._outbox.emit(tx, succeeded, caller, actor=_actor(user))
        if not is_recorded:
            # What made the proof void may have ended the user's sessions before this one was opened. Nobody
            # has seen its tokens yet.
            await self._sessions.end_one(
                caller, UUID(opened.session_id), reason="proof_outdated", user_id=user.id
            )
            raise ProofOutdated
        LOGINS.labels(proof.method, "opened").inc()
        return Opened(opened)


def _actor(user: User) -> Actor:
    return Actor(ActorType.USER, str(user.id))
