"""The gate: every proof of who a user is comes here, and only from here does a session come.

A slice that checks a proof (password, magic link, passkey) calls `admit`; one that checks a second factor
reads the waiting login by `pending` and calls `complete`. Whether the proof is enough is decided in one
place, so that no rule can forget a way in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NoReturn
from uuid import UUID

from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import AppError
from chassis.events import Actor, ActorType, DomainEvent
from chassis.ids import new_id
from chassis.one_time import OneTimeState
from chassis.outbox import Outbox
from chassis.user_agents import device_names
from contracts import events
from contracts.clients import ClientDirectory
from contracts.security_policy import RiskLevel, SecurityPolicy
from services.identity.devices.models import Device
from services.identity.devices.service import DeviceService
from services.identity.errors import InvalidMfaToken, LoginBlocked, ProofOutdated
from services.identity.logins import store
from services.identity.logins.models import (
    NO_BROWSER,
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
from services.identity.logins.policy import Circumstances, Decision, applied, decide
from services.identity.mail.models import MailKind
from services.identity.mail.service import Mailer
from services.identity.risk.service import RiskService
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
        devices: DeviceService,
        risk: RiskService,
        mailer: Mailer,
    ) -> None:
        """Take who knows rules, factors, devices and risk, and who opens sessions."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._clients = clients
        self._sessions = sessions
        self._one_time = one_time
        self._factors = factors
        self._devices = devices
        self._risk = risk
        self._mailer = mailer

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
            LoginBlocked: the client's policy refuses logins as risky as this one.
            FeatureUnavailable: a second factor is needed and Redis is away.
            Unavailable: the token service is away.
        """
        policy = await self._policy_of(user.client_id)
        async with self._db.tenant(user.client_id) as tx:
            factors = await self._factors_of(tx, user)
            known = await self._devices.recognise(tx, caller, user, browser.device_token)
            own_attempts = 1 if proof.method is Method.PASSWORD else 0
            background = await self._risk.background(tx, user, own_attempts=own_attempts)
        assessment = await self._risk.assess(
            caller,
            user,
            policy,
            background,
            is_known_device=None if browser.device_token is None else known is not None,
            action=f"login.{proof.method}",
        )
        given = Circumstances(
            risk=assessment.level,
            is_mfa=proof.is_mfa,
            mfa_enabled=user.mfa_enabled,
            has_factors=bool(factors),
            is_trusted_device=known is not None and known.trusted_until is not None,
            is_demanded=browser.demands_two_factors,
        )
        decision = decide(policy, given)
        explanation = assessment.explain(decision, applied(policy, given))
        risk = Risk(assessment.level, assessment.names, explanation)
        entry = Entry(caller, user, proof, risk, browser, known, trust_days(policy, browser, proof))
        match decision:
            case Decision.BLOCK:
                await self._block(entry)
            case Decision.CHALLENGE:
                return await self._challenge(entry, factors, settled)
            case Decision.ENROLL:
                return await self._open_for_enrollment(entry, settled)
        return await self._open(entry, settled, is_notable=decision is Decision.NOTIFY)

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
        self,
        caller: CallerContext,
        pending: Pending,
        mfa_token: str,
        factor: Factor,
        amr: Sequence[str],
        browser: Browser = NO_BROWSER,
    ) -> Opened:
        """Open the session of a waiting login whose second factor was shown; `amr` says what that was.

        The caller has used the factor up. Of several who complete one login, one gets the session. `browser`
        is that of this request; with `remember` it is trusted for as long as the policy says.

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
            policy = await self._policy_of(user.client_id)
            days = trust_days(policy, browser, proof)
            known = await self._known(caller, user, browser)
            entry = Entry(caller, user, proof, pending.risk, browser, known, days)
            return await self._open(entry, nothing_to_settle, factor=factor)
        except ProofOutdated:
            raise InvalidMfaToken from None
        except AppError:
            # Not the user's fault: another code may be shown for the same login.
            await self._one_time.put(_MFA, pending.encode(), ttl=_MFA_TTL, token=mfa_token)
            raise

    async def complete_enrollment(
        self,
        caller: CallerContext,
        user: User,
        factor: Factor,
        amr: Sequence[str],
        browser: Browser = NO_BROWSER,
    ) -> Opened:
        """Open the session of a caller with an enrollment token who has just set up a factor.

        The session behind the enrollment token ends, so that the token is good for one session.

        Raises:
            ProofOutdated, Unavailable: as `admit`.
        """
        proof = Proof(Method.ENROLLMENT, tuple(dict.fromkeys((*caller.amr, *amr, "mfa"))), is_mfa=True)
        days = trust_days(await self._policy_of(user.client_id), browser, proof)
        known = await self._known(caller, user, browser)
        entry = Entry(caller, user, proof, Risk(), browser, known, days)
        opened = await self._open(entry, nothing_to_settle, factor=factor)
        if caller.session_id is not None:
            await self._sessions.end_one(caller, caller.session_id, reason="enrolled")
        return opened

    async def has_factor(self, user: User) -> bool:
        """Whether a user has any second factor now."""
        async with self._db.tenant(user.client_id) as tx:
            return bool(await self._factors_of(tx, user))

    def _checked(self, caller: CallerContext, found: dict[str, Any] | None) -> Pending:
        pending = Pending.decode(found) if found else None
        if pending is None or pending.client_id != caller.require_client():
            raise InvalidMfaToken
        return pending

    async def _factors_of(self, tx: Tx, user: User) -> tuple[Factor, ...]:
        return tuple([factor for source in self._factors for factor in await source.factors(tx, user)])

    async def _policy_of(self, client_id: UUID) -> SecurityPolicy:
        return SecurityPolicy.of((await self._clients.get(client_id)).settings)

    async def _block(self, entry: Entry) -> NoReturn:
        risk = entry.risk
        blocked = events.LoginBlocked(
            target_id=entry.user.id,
            method=entry.proof.method,
            level=risk.level,
            signals=risk.signals,
            explanation=dict(risk.explanation),
        )
        await self._outbox.append(blocked, entry.caller, actor=entry.actor)
        LOGINS.labels(entry.proof.method, "blocked").inc()
        raise LoginBlocked

    async def _challenge(self, entry: Entry, factors: tuple[Factor, ...], settled: Settled) -> Challenged:
        user, proof, risk = entry.user, entry.proof, entry.risk
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
            await self._emit(tx, entry, challenged)
        LOGINS.labels(proof.method, "challenged").inc()
        return Challenged(token, int(_MFA_TTL.total_seconds()), factors, risk)

    async def _open_for_enrollment(self, entry: Entry, settled: Settled) -> EnrollmentDue:
        user, proof, risk = entry.user, entry.proof, entry.risk
        opened = await self._sessions.open_for_enrollment(entry.caller, user, amr=proof.amr)
        async with self._db.tenant(user.client_id) as tx:
            await settled(tx)
            due = events.MfaEnrollmentRequired(target_id=user.id, method=proof.method)
            await self._emit(tx, entry, due)
        LOGINS.labels(proof.method, "enrollment").inc()
        return EnrollmentDue(opened.access_token, opened.expires_in, _TO_ENROLL, risk)

    async def _open(
        self, entry: Entry, settled: Settled, factor: Factor | None = None, *, is_notable: bool = False
    ) -> Opened:
        """Open the session and record the login, or refuse it when the proof became void meanwhile."""
        now = self._clock.now()
        notice = await self._notice(entry) if is_notable else None
        user, proof = replace(entry.user, last_login_at=now), entry.proof
        opened = await self._sessions.open(
            entry.caller,
            user,
            amr=proof.amr,
            is_mfa=proof.is_mfa,
            has_refresh_token=entry.browser.takes_tokens,
        )
        session_id, device_token = UUID(opened.session_id), None
        async with self._db.tenant(user.client_id) as tx:
            keeps_device = entry.browser.device_token is not None
            device_id = (entry.known.id if entry.known else new_id()) if keeps_device else None
            login = self._login_entry(entry, session_id, device_id)
            is_recorded = await store.record(tx, user.id, user.auth_epoch, now, login)
            if is_recorded:
                await settled(tx)
                succeeded = events.LoginSucceeded(
                    target_id=user.id, method=proof.method, factor=factor, opened_session_id=opened.session_id
                )
                await self._emit(tx, entry, succeeded, is_notable=is_notable)
                if notice is not None:
                    await self._mailer.send(tx, entry.caller, user, MailKind.NEW_SIGN_IN, notice)
            if is_recorded and device_id is not None:
                device_token = await self._devices.remember(
                    tx, entry.caller, user, device_id, session_id=session_id, trust_days=entry.trust_days
                )
        if not is_recorded:
            # What made the proof void may have ended the user's sessions before this one was opened. Nobody
            # has seen its tokens yet.
            await self._sessions.end_one(entry.caller, session_id, reason="proof_outdated", user_id=user.id)
            raise ProofOutdated
        LOGINS.labels(proof.method, "opened").inc()
        return Opened(opened, device_token)

    async def _known(self, caller: CallerContext, user: User, browser: Browser) -> Device | None:
        if not browser.device_token:
            return None
        async with self._db.tenant(user.client_id) as tx:
            return await self._devices.recognise(tx, caller, user, browser.device_token)

    async def _notice(self, entry: Entry) -> dict[str, str]:
        """Return what a mail says of a login that its user should know of."""
        caller = entry.caller
        (device,) = await device_names([caller.user_agent])
        place = self._risk.place(caller.ip).name or caller.ip
        return {"device": device, "place": place, "time": f"{self._clock.now():%Y-%m-%d %H:%M} UTC"}

    def _login_entry(self, entry: Entry, session_id: UUID, device_id: UUID | None) -> store.LoginEntry:
        visit = self._risk.visit(entry.caller, is_known_device=None)
        return store.LoginEntry(
            id=new_id(),
            method=entry.proof.method,
            session_id=session_id,
            device_id=device_id,
            network=visit.network,
            user_agent=visit.user_agent,
            country=visit.place.country,
            latitude=visit.place.latitude,
            longitude=visit.place.longitude,
            risk_level=entry.risk.level,
            signals=entry.risk.signals,
        )

    async def _emit(self, tx: Tx, entry: Entry, event: DomainEvent, *, is_notable: bool = False) -> None:
        """Record what became of a login, and beside it a high risk, or one that somebody should look at."""
        found = [self._outbox.wrap(event, entry.caller, actor=entry.actor)]
        risk = entry.risk
        if is_notable or RiskLevel(risk.level).is_at_least(RiskLevel.HIGH):
            detected = events.RiskDetected(
                target_id=entry.user.id,
                method=entry.proof.method,
                level=risk.level,
                decision=risk.explanation.get("decision", ""),
                signals=risk.signals,
                explanation=dict(risk.explanation),
            )
            found.append(self._outbox.wrap(detected, entry.caller, actor=entry.actor))
        await self._outbox.emit_all(tx, found)


@dataclass(frozen=True, slots=True)
class Entry:
    """A proven login on its way through the gate."""

    caller: CallerContext
    user: User
    proof: Proof
    risk: Risk
    browser: Browser
    known: Device | None
    trust_days: int

    @property
    def actor(self) -> Actor:
        """The user: a login is its deed, though the request carries an API key."""
        return Actor(ActorType.USER, str(self.user.id))


def trust_days(policy: SecurityPolicy, browser: Browser, proof: Proof) -> int:
    """Return for how long the browser is to be trusted from now on; 0 unless it asks so after two factors."""
    return policy.mfa.remember_device_days if browser.remember and proof.is_mfa else 0
