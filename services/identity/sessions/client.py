"""The token service, as identity speaks to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from chassis.context import CallerContext
from chassis.errors import Unauthenticated
from chassis.rpc import Channel
from contracts.gen.internal.origin.v1 import origin_pb2
from contracts.gen.internal.token.v1 import exchange_pb2, sessions_pb2, verification_pb2
from contracts.gen.internal.token.v1.exchange_pb2_grpc import ExchangeServiceStub
from contracts.gen.internal.token.v1.sessions_pb2_grpc import SessionServiceStub
from contracts.gen.internal.token.v1.verification_pb2_grpc import VerificationServiceStub
from contracts.origins import origin_of
from contracts.token_use import ACCESS, ENROLLMENT, IMPERSONATION_ACR
from services.identity.users.encoding import encode_user
from services.identity.users.models import User

ONE_FACTOR = "urn:authservice:acr:1fa"
"""`acr` of a session that one factor opened (OpenID Connect Core §2 leaves the values to the issuer)."""

TWO_FACTORS = "urn:authservice:acr:2fa"
"""`acr` of a session that two factors opened, or one that is two, such as a user-verified passkey."""

_ENROLLMENT_TTL = timedelta(minutes=10)


_IMPERSONATION_AMR = "impersonation"


@dataclass(frozen=True, slots=True)
class VerifiedUser:
    """Whose access token it is; `impersonator_id` names who acts in the user's name, None for itself.

    `auth_time` is in Unix seconds.
    """

    user_id: UUID
    session_id: UUID
    impersonator_id: str | None
    auth_time: int
    amr: tuple[str, ...]


class SessionClient:
    """Opens, renews and ends sessions; every method may raise what token raises, or `Unavailable`."""

    def __init__(self, channel: Channel) -> None:
        """Take the way to the token service."""
        self._sessions = SessionServiceStub(channel.for_stubs)
        self._exchange = ExchangeServiceStub(channel.for_stubs)
        self._verification = VerificationServiceStub(channel.for_stubs)

    async def open(
        self,
        caller: CallerContext,
        user: User,
        *,
        amr: Sequence[str],
        is_mfa: bool,
        has_refresh_token: bool = True,
    ) -> sessions_pb2.OpenedSession:
        """Open a session for a user who has proven itself by `amr` (RFC 8176 values).

        Without a refresh token it gives out no tokens by itself; those of apps hang on it. Only `logins` may
        call it, as the other methods that open one: nothing else knows whether the proof is enough.
        """
        request = sessions_pb2.OpenSessionRequest(
            client_id=str(user.client_id),
            user=encode_user(user),
            amr=amr,
            acr=TWO_FACTORS if is_mfa else ONE_FACTOR,
            origin=origin_of(caller),
            no_refresh_token=not has_refresh_token,
        )
        return await self._sessions.OpenSession(request)

    async def open_for_enrollment(
        self, caller: CallerContext, user: User, *, amr: Sequence[str]
    ) -> sessions_pb2.OpenedSession:
        """Open a session of minutes whose token opens nothing but the set-up of a second factor."""
        request = sessions_pb2.OpenSessionRequest(
            client_id=str(user.client_id),
            user=encode_user(user),
            amr=amr,
            acr=ONE_FACTOR,
            origin=origin_of(caller),
            token_use=ENROLLMENT,
            only_for=int(_ENROLLMENT_TTL.total_seconds()),
        )
        return await self._sessions.OpenSession(request)

    async def open_for_impersonation(
        self, caller: CallerContext, user: User, *, actor_id: str, ttl: timedelta
    ) -> sessions_pb2.OpenedSession:
        """Open a session in a user's name for the calling admin, of `ttl` at most, that cannot be renewed.

        Its tokens say who acts (`act`, RFC 8693 §4.1), and open nothing that is for the user alone. Only
        `support` may call it, for whom it is no login.
        """
        request = sessions_pb2.OpenSessionRequest(
            client_id=str(user.client_id),
            user=encode_user(user),
            amr=[_IMPERSONATION_AMR],
            acr=IMPERSONATION_ACR,
            origin=origin_of(caller),
            only_for=int(ttl.total_seconds()),
            act_json=json.dumps({"sub": actor_id}),
        )
        return await self._sessions.OpenSession(request)

    async def list(
        self, client_id: UUID, user_id: UUID, *, before: UUID | None, limit: int
    ) -> Sequence[sessions_pb2.ListedSession]:
        """Return a user's live sessions, newest first, those opened before the session `before`."""
        request = sessions_pb2.ListSessionsRequest(
            client_id=str(client_id),
            user_id=str(user_id),
            before=str(before) if before else "",
            limit=limit,
        )
        answer = await self._sessions.ListSessions(request)
        return answer.sessions

    async def renew(self, caller: CallerContext, refresh_token: str) -> sessions_pb2.OpenedSession:
        """Rotate a refresh token."""
        request = sessions_pb2.RefreshSessionRequest(
            client_id=str(caller.require_client()), refresh_token=refresh_token, origin=origin_of(caller)
        )
        return await self._sessions.RefreshSession(request)

    async def end_of_token(self, caller: CallerContext, refresh_token: str) -> None:
        """End the session of a refresh token; quietly also when it has ended."""
        request = sessions_pb2.EndSessionOfTokenRequest(
            client_id=str(caller.require_client()), refresh_token=refresh_token, origin=origin_of(caller)
        )
        await self._sessions.EndSessionOfToken(request)

    async def end_one(
        self, caller: CallerContext, session_id: UUID, *, reason: str, user_id: UUID | None = None
    ) -> bool:
        """End one session of a user, the calling one unless given; false when it had ended."""
        request = sessions_pb2.EndSessionRequest(
            client_id=str(caller.require_client()),
            user_id=str(user_id or caller.require_user()),
            session_id=str(session_id),
            reason=reason,
            origin=origin_of(caller),
        )
        answer = await self._sessions.EndSession(request)
        return answer.ended

    async def end_all(
        self, client_id: UUID, user_id: UUID, *, but: UUID | None, reason: str, origin: origin_pb2.Origin
    ) -> int:
        """End a user's sessions, all or all but one, and return how many."""
        request = sessions_pb2.EndSessionsRequest(
            client_id=str(client_id),
            user_id=str(user_id),
            except_session_id=str(but) if but else "",
            reason=reason,
            origin=origin,
        )
        answer = await self._sessions.EndSessions(request)
        return answer.ended

    async def put_user(self, user: User, origin: origin_pb2.Origin) -> None:
        """Bring the claims of a user up to date."""
        await self._sessions.PutUser(sessions_pb2.PutUserRequest(user=encode_user(user), origin=origin))

    async def make_code(self, client_id: UUID, outcome: exchange_pb2.LoginOutcome) -> str:
        """Keep what a login came to behind a code for `POST /api/auth/redirect/exchange`."""
        request = exchange_pb2.CreateCodeRequest(client_id=str(client_id), outcome=outcome)
        return (await self._exchange.CreateCode(request)).code

    async def forget_user(self, client_id: UUID, user_id: UUID, origin: origin_pb2.Origin) -> None:
        """End the sessions of a deleted user, and let the token service forget it."""
        await self._sessions.ForgetUser(
            sessions_pb2.ForgetUserRequest(client_id=str(client_id), user_id=str(user_id), origin=origin)
        )

    async def verify(self, client_id: UUID, access_token: str) -> VerifiedUser:
        """Return the user and the session of an access token of a client, and who acts in its name.

        Raises:
            Unauthenticated: it is not a valid access token of a user of that client.
        """
        return await self._verified(client_id, access_token, ACCESS)

    async def verify_enrolling(self, client_id: UUID, enrollment_token: str) -> VerifiedUser:
        """Return the user of a token that is for the set-up of a second factor only, and its session.

        Raises:
            Unauthenticated: it is not a valid one of that client.
        """
        return await self._verified(client_id, enrollment_token, ENROLLMENT)

    async def _verified(self, client_id: UUID, token: str, token_use: str) -> VerifiedUser:
        request = verification_pb2.VerifyRequest(client_id=str(client_id), access_token=token)
        answer = await self._verification.Verify(request)
        if not answer.valid:
            raise Unauthenticated("The access token is not valid.")
        claims = json.loads(answer.claims_json)
        if claims.get("token_use") != token_use or claims.get("client_id") != str(client_id):
            raise Unauthenticated("The access token is not valid.")
        try:
            act = claims.get("act")
            return VerifiedUser(
                UUID(claims["sub"]),
                UUID(claims["sid"]),
                str(act["sub"]) if act else None,
                int(claims["auth_time"]),
                tuple(map(str, claims["amr"])),
            )
        except (ValueError, KeyError, TypeError):
            # A client that signs with a secret may write into its tokens what it likes.
            raise Unauthenticated("The access token is not valid.") from None
