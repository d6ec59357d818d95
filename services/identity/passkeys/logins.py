"""Passkeys shown (WebAuthn Level 3 §7.2): as the way in, as a second factor, or for another slice's proof."""

from __future__ import annotations

import secrets
from typing import Any, NoReturn
from uuid import UUID

import structlog
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database
from chassis.one_time import OneTimeState
from chassis.outbox import Outbox
from contracts import events
from contracts.relying_party import RelyingParty
from services.identity.errors import (
    InvalidPasskey,
    InvalidPasskeyAnswer,
    InvalidPasskeySession,
    ProofOutdated,
)
from services.identity.logins.models import Browser, Factor, Method, Outcome, Proof
from services.identity.logins.service import LoginGate
from services.identity.passkeys import store
from services.identity.passkeys.credentials import ShownCredential, decode, encode
from services.identity.passkeys.decoys import SHOWN, Decoys
from services.identity.passkeys.models import NOBODY, Asserted, Assertion, Passkey
from services.identity.passkeys.parties import RelyingParties
from services.identity.passkeys.registrations import CEREMONY_TTL, Begun, descriptor
from services.identity.passkeys.verification import (
    MalformedCredential,
    RefusedCredential,
    check_form,
    verify_assertion,
)
from services.identity.users.email import Email, EmailHasher
from services.identity.users.models import User

log = structlog.get_logger()

_KIND = "passkey_login"

ASSERTIONS = Counter("passkey_assertions_total", "Passkeys shown, by what became of it.", ["outcome"])


class PasskeyLogins:
    """Begins and finishes ceremonies that prove a user."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        parties: RelyingParties,
        one_time: OneTimeState,
        gate: LoginGate,
        emails: EmailHasher,
        decoys: Decoys,
    ) -> None:
        """Take the parts, all built in `app.py`."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._parties = parties
        self._one_time = one_time
        self._gate = gate
        self._emails = emails
        self._decoys = decoys

    async def begin(
        self,
        caller: CallerContext,
        *,
        typed_email: str | None = None,
        mfa_token: str | None = None,
        needs_user_verification: bool = False,
    ) -> Begun:
        """Return the options of `navigator.credentials.get()`.

        With neither, the authenticator finds the user (discoverable, conditional UI). With an email, the
        answer is the same whether or not it has an account. With an `mfa_token`, the passkey is the second
        factor of that login.

        Raises:
            InvalidEmail: no account can have this address.
            InvalidMfaToken: no login waits behind the token.
            FeatureUnavailable: Redis is away.
        """
        party = await self._parties.of(caller)
        user_id: UUID | None = None
        allowed: list[dict[str, Any]] = []
        if mfa_token is not None:
            pending = await self._gate.peek(caller, mfa_token)
            user_id, needs_user_verification = pending.user_id, True
            async with self._db.tenant(pending.client_id) as tx:
                own = await store.of_user(tx, pending.user_id)
            allowed = [descriptor(key.credential_id, key.transports) for key in own]
        elif typed_email is not None:
            user_id, ids = await self._by_email(caller, Email.parse(typed_email))
            allowed = [descriptor(credential_id) for credential_id in ids]
        must_verify = needs_user_verification or party.requires_user_verification
        waiting = Assertion(
            client_id=caller.require_client(),
            challenge=encode(secrets.token_bytes(32)),
            user_id=user_id,
            needs_user_verification=must_verify,
            mfa_token=mfa_token,
        )
        session_id = await self._one_time.put(_KIND, waiting.encode(), ttl=CEREMONY_TTL)
        return Begun(session_id, _options(party, waiting, allowed))

    async def finish(
        self, caller: CallerContext, session_id: str, shown: ShownCredential, browser: Browser
    ) -> Outcome:
        """Open a session for the user whose passkey was shown, or say what is still in the way.

        A passkey that verified its user is two factors. One that did not is one, and never a second.

        Raises:
            InvalidPasskeyAnswer: it is malformed.
            InvalidPasskeySession: no ceremony waits for it; each waits for one answer.
            InvalidPasskey: the one refusal.
            InvalidMfaToken: the login whose second factor it is does not wait any more.
        """
        waiting = await self._take(caller, session_id, shown)
        if waiting.mfa_token is None:
            asserted = await self._check(caller, waiting, shown)
            proof = Proof(Method.PASSKEY, asserted.amr, is_mfa=asserted.user_verified)
            try:
                return await self._gate.admit(caller, asserted.user, proof, browser)
            except ProofOutdated:
                raise InvalidPasskey from None
        pending = await self._gate.pending(caller, waiting.mfa_token)
        asserted = await self._check(caller, waiting, shown)
        return await self._gate.complete(
            caller, pending, waiting.mfa_token, Factor.PASSKEY, asserted.amr, browser
        )

    async def prove(
        self, caller: CallerContext, session_id: str, shown: ShownCredential, *, user_id: UUID
    ) -> Asserted:
        """Check that a user-verified passkey of `user_id` answers a ceremony of `begin`; opens nothing.

        For slices that ask a logged-in user for a proof. The ceremony is used up, whatever comes of it.

        Raises:
            InvalidPasskeyAnswer, InvalidPasskeySession, InvalidPasskey: as `finish`.
        """
        waiting = await self._take(caller, session_id, shown)
        if waiting.mfa_token is not None or waiting.user_id not in (None, user_id):
            raise InvalidPasskeySession
        bound = Assertion(waiting.client_id, waiting.challenge, user_id, needs_user_verification=True)
        return await self._check(caller, bound, shown)

    async def _by_email(self, caller: CallerContext, email: Email) -> tuple[UUID, list[bytes]]:
        client_id = caller.require_client()
        async with self._db.tenant(client_id) as tx:
            user_id, own = await store.of_email(tx, email.normalized, SHOWN)
        return user_id or NOBODY, self._decoys.filled(client_id, email.normalized, own)

    async def _take(self, caller: CallerContext, session_id: str, shown: ShownCredential) -> Assertion:
        try:
            check_form(shown)
        except MalformedCredential as error:
            raise InvalidPasskeyAnswer(f"The passkey's answer is malformed: {error}.") from error
        # Taken before anything is checked: a challenge whose answer fails is not answered again.
        found = await self._one_time.take(_KIND, session_id)
        waiting = Assertion.decode(found) if found else None
        if waiting is None or waiting.client_id != caller.require_client():
            ASSERTIONS.labels("no_ceremony").inc()
            raise InvalidPasskeySession
        return waiting

    async def _check(self, caller: CallerContext, waiting: Assertion, shown: ShownCredential) -> Asserted:
        async with self._db.tenant(waiting.client_id) as tx:
            found = await store.find_by_credential(tx, shown.credential_id)
        if found is None:
            await self._refuse(caller, "unknown_passkey", None)
        passkey, user = found
        if not _is_of(user, waiting, shown):
            await self._refuse(caller, "wrong_user", user)
        if not user.is_active:
            await self._refuse(caller, "suspended", user)
        party = await self._parties.of(caller)
        try:
            data = verify_assertion(
                shown,
                waiting.challenge,
                passkey,
                party,
                needs_user_verification=waiting.needs_user_verification,
            )
        except (MalformedCredential, RefusedCredential) as error:
            log.warning("passkey refused", reason=str(error), passkey_id=str(passkey.id))
            await self._refuse(caller, "not_verified", user)
        await self._use(
            caller, user, passkey, data.sign_count, backed_up=data.flags.bs, verified=data.flags.uv
        )
        ASSERTIONS.labels("accepted").inc()
        return Asserted(user, passkey, data.flags.uv)

    async def _use(
        self,
        caller: CallerContext,
        user: User,
        passkey: Passkey,
        sign_count: int,
        *,
        backed_up: bool,
        verified: bool,
    ) -> None:
        """Record the use, before anything is opened by it; a counter that did not grow is refused."""
        now = self._clock.now()
        async with self._db.tenant(user.client_id) as tx:
            is_recorded = await store.use(
                tx,
                passkey.id,
                sign_count=sign_count,
                backed_up=backed_up,
                user_verified=verified,
                now=now,
            )
            if not is_recorded:
                await store.suspect(tx, passkey.id, now)
                suspected = events.PasskeyCloneSuspected(
                    target_id=user.id,
                    passkey_id=str(passkey.id),
                    stored_count=passkey.sign_count,
                    shown_count=sign_count,
                )
                await self._outbox.emit(tx, suspected, caller)
        if not is_recorded:
            await self._refuse(caller, "sign_count", user)

    async def _refuse(self, caller: CallerContext, reason: str, user: User | None) -> NoReturn:
        ASSERTIONS.labels(reason).inc()
        email_hash = self._emails.hash(Email.parse(user.email)).hex() if user else None
        failed = events.LoginFailed(
            target_id=user.id if user else None,
            method=Method.PASSKEY,
            reason=reason,
            email_hash=email_hash,
        )
        await self._outbox.append(failed, caller)
        raise InvalidPasskey


def _is_of(user: User, waiting: Assertion, shown: ShownCredential) -> bool:
    """Whether the passkey is of the user who was asked, and says so (WebAuthn Level 3 §7.2, step 6)."""
    handle = shown.response.user_handle
    if waiting.user_id is None and handle is None:
        return False
    is_own = handle is None or decode(handle) == user.id.bytes
    return is_own and waiting.user_id in (None, user.id)


def _options(party: RelyingParty, waiting: Assertion, allowed: list[dict[str, Any]]) -> dict[str, Any]:
    """Return `PublicKeyCredentialRequestOptionsJSON`."""
    return {
        "challenge": waiting.challenge,
        "timeout": int(CEREMONY_TTL.total_seconds() * 1000),
        "rpId": party.id,
        "allowCredentials": allowed,
        "userVerification": "required" if waiting.needs_user_verification else "preferred",
    }
