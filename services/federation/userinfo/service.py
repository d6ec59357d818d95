"""The rules of userinfo (OpenID Connect Core §5.3): which tokens open it, and what it then says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import Counter

from contracts.dpop import DpopProofs, InvalidDpopProof, UseDpopNonce
from contracts.oidc_claims import requested_claims, user_claims
from contracts.token_use import OAUTH
from services.federation.issuer_tokens import IssuerTokens, VerifiedToken
from services.federation.userinfo.challenges import Challenges

PATH: Final = "/userinfo"
METADATA: Final = "/.well-known/oauth-protected-resource"
OPENID: Final = "openid"
BEARER: Final = "bearer"
DPOP: Final = "dpop"
_MAX_TOKEN: Final = 16 * 1024

USERINFO = Counter("userinfo_total", "Requests for userinfo, by what they were answered.", ["outcome"])


@dataclass(frozen=True, slots=True)
class Presented:
    """A token as it came: in the header by a scheme, or in a form, which is as by `bearer`."""

    scheme: str
    token: str


class UserinfoService:
    """Tells apps of their users."""

    def __init__(self, tokens: IssuerTokens, proofs: DpopProofs, base_url: str) -> None:
        """Take who verifies tokens and proofs, and the public address."""
        self._tokens = tokens
        self._proofs = proofs
        self._challenges = Challenges(f"{base_url}{METADATA}{PATH}")

    async def tell(
        self, presented: Presented | None, proofs: Sequence[str], method: str
    ) -> Mapping[str, object]:
        """Return the claims that the token's scopes, and its grant's `claims` parameter, allow.

        The token must be one that an app got for a user, for the tenant itself and no other resource. One
        that is bound to a key comes with its proof, and by no other scheme than `DPoP` (RFC 9449 §7.1).

        Raises:
            InvalidAccessToken: there is none, or it is no such token, or not good any more.
            InsufficientScope: the user did not grant `openid`.
            Unavailable: it cannot be told now.
        """
        if presented is None:
            raise self._challenges.missing()
        verified = await self._verified(presented.token)
        if verified is None or verified.user is None or not _fits(presented.scheme, verified):
            USERINFO.labels("invalid_token").inc()
            raise self._challenges.invalid()
        if presented.scheme == DPOP:
            await self._check_proof(presented.token, verified, proofs, method)
        if OPENID not in verified.scopes:
            USERINFO.labels("insufficient_scope").inc()
            raise self._challenges.insufficient(OPENID)
        asked = requested_claims(verified.requested_claims, "userinfo")
        USERINFO.labels("told").inc()
        return {"sub": verified.user.id, **user_claims(verified.user, verified.scopes, asked)}

    def nonce(self) -> str:
        """Return the nonce that the next proof may have."""
        return self._proofs.nonces.current()

    async def _verified(self, token: str) -> VerifiedToken | None:
        if not token.isascii() or len(token) > _MAX_TOKEN:
            return None
        verified = await self._tokens.verify_access_token(token)
        is_of_app = verified is not None and verified.claims.get("token_use") == OAUTH
        return verified if is_of_app else None

    async def _check_proof(
        self, token: str, verified: VerifiedToken, proofs: Sequence[str], method: str
    ) -> None:
        jkt = _confirmation(verified)["jkt"]
        try:
            await self._proofs.check(proofs, method, PATH, access_token=token, jkt=jkt)
        except (InvalidDpopProof, UseDpopNonce) as error:
            USERINFO.labels(error.code).inc()
            raise self._challenges.unproven(error, self.nonce()) from error


def _fits(scheme: str, verified: VerifiedToken) -> bool:
    """Whether a token came as it may: a bound one with a proof, any other without."""
    return _confirmation(verified).keys() == ({"jkt"} if scheme == DPOP else set())


def _confirmation(verified: VerifiedToken) -> Mapping[str, Any]:
    """What the token is bound to (RFC 7800 §3.1)."""
    found: Mapping[str, Any] = verified.claims.get("cnf") or {}
    return found
