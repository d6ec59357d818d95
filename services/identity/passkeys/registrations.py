"""Registration of a passkey (WebAuthn Level 3 §7.1)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

import structlog
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database
from chassis.errors import AppError, Unauthenticated
from chassis.ids import new_id, new_secret
from chassis.one_time import OneTimeState
from chassis.outbox import Outbox
from contracts import events
from contracts.actions import Action
from contracts.relying_party import RelyingParty
from services.identity.errors import (
    InvalidPasskeyRegistration,
    MfaAlreadyEnabled,
    PasskeyKnown,
    PasskeyRefused,
    PasskeySessionUnknown,
    TooManyPasskeys,
)
from services.identity.logins.models import Browser, Factor, Opened
from services.identity.logins.service import LoginGate
from services.identity.mail.models import MailKind
from services.identity.mail.service import Mailer
from services.identity.passkeys import store
from services.identity.passkeys.attestation import AttestationRefused
from services.identity.passkeys.authenticators import authenticator_name
from services.identity.passkeys.credentials import NewCredential, encode
from services.identity.passkeys.models import Asserted, Passkey, Registered, Registration
from services.identity.passkeys.parties import RelyingParties
from services.identity.passkeys.verification import (
    ALGORITHMS,
    MalformedCredential,
    RefusedCredential,
    challenge_of,
    verify_registration,
)
from services.identity.second_factors.fresh_proof import FreshProof, Shown
from services.identity.users import store as users
from services.identity.users.models import User

log = structlog.get_logger()

CEREMONY_TTL = timedelta(minutes=5)
MOST = 25
"""Passkeys of one user."""

_KIND = "passkey_register"
_UNNAMED = "Passkey"

REGISTRATIONS = Counter("passkey_registrations_total", "Finished registrations of passkeys.", ["outcome"])


class ResidentKey(StrEnum):
    """Whether the authenticator is to keep the key so that it is found without an address."""

    REQUIRED = "required"
    PREFERRED = "preferred"
    DISCOURAGED = "discouraged"


class Attachment(StrEnum):
    """Where the authenticator is: built in, or another device."""

    PLATFORM = "platform"
    CROSS_PLATFORM = "cross-platform"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a page may ask for."""

    resident_key: ResidentKey = ResidentKey.REQUIRED
    attachment: Attachment | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A ceremony: its id, and the options for the browser (WebAuthn Level 3 §5.4, §5.5, as JSON)."""

    session_id: str
    options: dict[str, Any]
    ttl: timedelta = CEREMONY_TTL


@dataclass(frozen=True, slots=True)
class Finished:
    """A kept passkey, and the session of a caller who had to set one up first."""

    passkey: Passkey
    opened: Opened | None = None


class PasskeyRegistrations:
    """Begins and finishes registrations."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        parties: RelyingParties,
        one_time: OneTimeState,
        gate: LoginGate,
        proofs: FreshProof,
        mailer: Mailer,
    ) -> None:
        """Take the parts, all built in `app.py`."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._parties = parties
        self._one_time = one_time
        self._gate = gate
        self._proofs = proofs
        self._mailer = mailer

    async def begin(self, caller: CallerContext, wish: Wish, shown: Shown) -> Begun:
        """Return the options of `navigator.credentials.create()` for the calling user.

        Raises:
            StepUpRequired, ActionBlocked, MfaAlreadyEnabled, WrongCode, WrongPassword, AccountLocked: see
            `FreshProof`.
            TooManyPasskeys: the user has as many as it may.
            FeatureUnavailable: Redis is away.
        """
        party = await self._parties.of(caller)
        async with self._db.tenant(caller.require_client()) as tx:
            user = await users.find(tx, caller.require_user())
            present = await store.of_user(tx, caller.require_user())
        if user is None or not user.is_active:
            raise Unauthenticated
        if len(present) >= MOST:
            raise TooManyPasskeys
        await self._proofs.check(caller, user, shown, Action.MFA_SETUP)
        registration = Registration(
            session_id=new_secret(f"{_KIND}_"),
            client_id=user.client_id,
            user_id=user.id,
            login_session_id=caller.session_id,
            auth_epoch=user.auth_epoch,
        )
        # Kept under the challenge itself, so that the answer finds it and no other ceremony.
        challenge = encode(secrets.token_bytes(32))
        await self._one_time.put(_KIND, registration.encode(), ttl=CEREMONY_TTL, token=challenge)
        options = _options(user, present, party, wish, challenge, is_enrolling=caller.is_enrolling)
        return Begun(registration.session_id, options)

    async def finish(
        self,
        caller: CallerContext,
        new: NewCredential,
        browser: Browser,
        *,
        session_id: str | None,
        name: str | None,
    ) -> Finished:
        """Check the authenticator's answer and keep the passkey; a challenge is good for one answer.

        A caller with an enrollment token gets the session.

        Raises:
            InvalidPasskeyRegistration: the answer is malformed.
            PasskeySessionUnknown: no registration of this user's waits for the answer.
            PasskeyRefused: a check failed.
            PasskeyKnown, TooManyPasskeys: it cannot be kept.
            MfaAlreadyEnabled: the token is for a first factor, and there is one.
        """
        try:
            registered, user = await self._verified(caller, new, session_id)
            passkey = await self._keep(caller, user, registered, new, name)
        except AppError as error:
            REGISTRATIONS.labels(error.code).inc()
            refused = events.PasskeyRegistrationRefused(target_id=caller.user_id, reason=error.code)
            await self._outbox.append(refused, caller)
            raise
        REGISTRATIONS.labels("registered").inc()
        if not caller.is_enrolling:
            return Finished(passkey)
        amr = Asserted(user, passkey, registered.user_verified).amr
        opened = await self._gate.complete_enrollment(caller, user, Factor.PASSKEY, amr, browser)
        return Finished(passkey, opened)

    async def _verified(
        self, caller: CallerContext, new: NewCredential, session_id: str | None
    ) -> tuple[Registered, User]:
        party = await self._parties.of(caller)
        try:
            challenge = challenge_of(new.response.client_data_json)
            # Taken before anything is checked: an answer that fails is the last one, too.
            waiting = await self._one_time.take(_KIND, challenge)
            user = await self._user_of(caller, waiting, session_id)
            registered = verify_registration(
                new, challenge, party, needs_user_verification=caller.is_enrolling
            )
        except MalformedCredential as error:
            raise InvalidPasskeyRegistration(f"The passkey's answer is malformed: {error}.") from error
        except (RefusedCredential, AttestationRefused) as error:
            log.warning("passkey registration refused", reason=str(error))
            raise PasskeyRefused(f"The passkey is not accepted: {error}.") from error
        return registered, user

    async def _user_of(
        self, caller: CallerContext, waiting: dict[str, Any] | None, session_id: str | None
    ) -> User:
        registration = Registration.decode(waiting) if waiting else None
        async with self._db.tenant(caller.require_client()) as tx:
            user = await users.find(tx, caller.require_user())
        if user is None or not user.is_active:
            raise Unauthenticated
        if caller.is_enrolling:
            await self._proofs.check_enrolling(user)
        wanted = Registration(
            session_id=session_id or (registration.session_id if registration else ""),
            client_id=user.client_id,
            user_id=user.id,
            login_session_id=caller.session_id,
            auth_epoch=user.auth_epoch,
        )
        if registration != wanted:
            raise PasskeySessionUnknown
        return user

    async def _keep(
        self, caller: CallerContext, user: User, new: Registered, shown: NewCredential, name: str | None
    ) -> Passkey:
        given = name or authenticator_name(new.aaguid) or _UNNAMED
        async with self._db.tenant(user.client_id) as tx:
            locked = await store.lock_user(tx, user.id)
            if locked is None or not locked.is_active or locked.auth_epoch != user.auth_epoch:
                raise PasskeySessionUnknown
            present = await store.of_user(tx, user.id)
            if len(present) >= MOST:
                raise TooManyPasskeys
            if caller.is_enrolling and any(passkey.user_verified for passkey in present):
                # Locked, so that of two registrations by one enrollment token one is kept.
                raise MfaAlreadyEnabled
            passkey = await store.insert(
                tx,
                new_id(),
                user.id,
                new,
                name=given,
                transports=shown.transports,
                now=self._clock.now(),
            )
            if passkey is None:
                raise PasskeyKnown
            registered = events.PasskeyRegistered(
                target_id=user.id,
                passkey_id=str(passkey.id),
                aaguid=str(new.aaguid),
                attestation_format=new.attestation_format,
                user_verified=new.user_verified,
            )
            await self._outbox.emit(tx, registered, caller)
            await self._mailer.send(tx, caller, user, MailKind.PASSKEY_ADDED, {"name": passkey.name})
        return passkey


def _options(
    user: User,
    present: list[Passkey],
    party: RelyingParty,
    wish: Wish,
    challenge: str,
    *,
    is_enrolling: bool,
) -> dict[str, Any]:
    """Return `PublicKeyCredentialCreationOptionsJSON`."""
    must_verify = is_enrolling or party.requires_user_verification
    selection: dict[str, Any] = {
        "residentKey": wish.resident_key,
        "requireResidentKey": wish.resident_key is ResidentKey.REQUIRED,
        "userVerification": "required" if must_verify else "preferred",
    }
    if wish.attachment is not None:
        selection["authenticatorAttachment"] = wish.attachment
    return {
        "rp": {"id": party.id, "name": party.name},
        "user": {
            "id": encode(user.id.bytes),
            "name": user.email,
            "displayName": user.display_name or user.email,
        },
        "challenge": challenge,
        "pubKeyCredParams": [{"type": "public-key", "alg": int(algorithm)} for algorithm in ALGORITHMS],
        "timeout": int(CEREMONY_TTL.total_seconds() * 1000),
        "excludeCredentials": [descriptor(key.credential_id, key.transports) for key in present],
        "authenticatorSelection": selection,
        "attestation": party.attestation,
        "extensions": {"credProps": True},
    }


def descriptor(credential_id: bytes, transports: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return `PublicKeyCredentialDescriptorJSON`."""
    named: dict[str, Any] = {"type": "public-key", "id": encode(credential_id)}
    return {**named, "transports": list(transports)} if transports else named
