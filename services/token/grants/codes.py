"""The grant type `authorization_code` (RFC 6749 §4.1.3, RFC 7636 §4.6)."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import InvalidRequest
from chassis.ids import new_id
from chassis.outbox import Outbox
from contracts import events
from contracts.apps import App
from services.token.errors import InvalidGrant, InvalidTarget
from services.token.grants import store
from services.token.grants.models import StoredCode
from services.token.grants.service import CODES, hash_of
from services.token.grants.tokens import GrantTokens, Opened
from services.token.oauth.authentication import acting_in
from services.token.oauth.models import TokenAnswer
from services.token.oauth.parameters import Parameters
from services.token.revocations.service import Revocations
from services.token.sessions import ends
from services.token.sessions.models import EndReason
from services.token.sessions.service import SessionService
from services.token.signing.algorithms import base64url

_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_MAX_CODE_LENGTH: Final = 128


class CodeRedemption:
    """Redeems codes, each once; a used one that comes back ends what it gave."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        tokens: GrantTokens,
        sessions: SessionService,
        revocations: Revocations,
    ) -> None:
        """Take where codes are, what signs, and what ends sessions."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._tokens = tokens
        self._sessions = sessions
        self._revocations = revocations

    async def redeem(
        self, caller: CallerContext, app: App, parameters: Parameters, jkt: str | None
    ) -> TokenAnswer:
        """Exchange a code for tokens.

        Raises:
            InvalidRequest: a parameter is missing or malformed.
            InvalidGrant: the code is unknown, another app's, too old, used, or not bound to what was sent; or
            the login that it was granted with is over.
            InvalidTarget: the resource was not granted, or the app has lost it, or all of them, since.
            Unavailable: a key is not at hand now; the code stays good.
        """
        code = parameters.get("code", "")
        verifier = parameters.get("code_verifier", "")
        if not code:
            raise InvalidRequest("Send the `code`.")
        if verifier and not _VERIFIER.fullmatch(verifier):
            raise InvalidRequest("The `code_verifier` has not the form of RFC 7636 §4.1.")
        caller = acting_in(caller, app.client.id)
        resources = parameters.several("resource")
        signers = await self._tokens.signers(app)
        opened, nonce = await self._use(caller, app, code, parameters, jkt)
        if opened is None:
            CODES.labels("refused").inc()
            raise InvalidGrant
        CODES.labels("redeemed").inc()
        return await self._tokens.answer(
            app, signers, opened, audience=resources or None, jkt=jkt, nonce=nonce
        )

    async def _use(
        self, caller: CallerContext, app: App, code: str, parameters: Parameters, jkt: str | None
    ) -> tuple[Opened | None, str]:
        """Use a code up and open its grant; None for one that opens nothing."""
        if len(code) > _MAX_CODE_LENGTH:
            return None, ""
        code_hash, now = hash_of(code), self._clock.now()
        async with self._db.tenant(app.client.id) as tx:
            stored = await store.find_code(tx, code_hash, app.id)
            if stored is None:
                return None, ""
            if stored.session_id is None and not _fits(stored, app, parameters, jkt):
                return None, ""
            granted = set(stored.authorization.audience) & set(app.audiences)
            if not set(parameters.several("resource")) <= granted:
                raise InvalidTarget
            session_id = new_id()
            if await store.use_code(tx, code_hash, session_id, now):
                authorization = stored.authorization
                opened = await self._tokens.open(tx, caller, app, session_id, authorization, jkt)
                return opened, authorization.nonce
            is_reused = await self._end_reused(tx, caller, app, code_hash)
        if is_reused:
            await self._revocations.announce()
        return None, ""

    async def _end_reused(self, tx: Tx, caller: CallerContext, app: App, code_hash: bytes) -> bool:
        """End what a used code gave (RFC 6749 §4.1.2): who has used it, and whose it is, is not known now."""
        stored = await store.find_code(tx, code_hash, app.id)
        if stored is None or stored.session_id is None:
            return False
        now = self._clock.now()
        ended = await ends.end_session(tx, stored.session_id, EndReason.CODE_REUSED, now)
        if ended:
            event = events.CodeReuseDetected(
                target_id=stored.session_id, user_id=str(stored.authorization.user_id), app_id=app.id
            )
            await self._outbox.emit(tx, event, caller)
            await self._sessions.record_ended(tx, caller, ended, EndReason.CODE_REUSED, now)
            CODES.labels("reused").inc()
        return True


def _fits(stored: StoredCode, app: App, parameters: Parameters, jkt: str | None) -> bool:
    """Whether a code's redirect, verifier and key are those of the request; none may be left out."""
    binding = stored.binding
    verifier = parameters.get("code_verifier", "")
    if binding.code_challenge:
        challenge = base64url(hashlib.sha256(verifier.encode()).digest())
        if not verifier or not hmac.compare_digest(challenge, binding.code_challenge.encode()):
            return False
    elif verifier or app.is_public:
        # One sent without a challenge was taken out of its request on the way (RFC 9700 §4.8.2).
        return False
    redirect_uri = parameters.get("redirect_uri", "")
    if redirect_uri.encode("utf-8", "surrogatepass") != binding.redirect_uri.encode():
        return False
    return not binding.dpop_jkt or binding.dpop_jkt == jkt
