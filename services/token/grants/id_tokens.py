"""What an ID token says (OpenID Connect Core §2, §3.1.3.6)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from contracts.apps import App
from contracts.oidc_claims import claims_within, requested_claims, user_claims
from services.token.oauth.issuer_tokens import ID_TOKEN, IssuerTokens
from services.token.sessions.models import LiveSession
from services.token.signing.algorithms import Algorithm, Signer, base64url

_TTL: Final = timedelta(minutes=10)
_HASH_OF: Final = {
    Algorithm.RS256: hashlib.sha256,
    Algorithm.ES256: hashlib.sha256,
    Algorithm.EDDSA: hashlib.sha512,
}
OPENID: Final = "openid"


@dataclass(frozen=True, slots=True)
class Authentication:
    """What an ID token is about: a grant's session and what goes with this one answer."""

    session: LiveSession
    scopes: tuple[str, ...]
    access_token: str
    nonce: str = ""


async def sign_id_token(
    issuer_tokens: IssuerTokens, signer: Signer, app: App, authentication: Authentication, now: datetime
) -> str:
    """Sign the ID token of a grant, for the app whose it is, by a signer of the app's algorithm."""
    session, algorithm = authentication.session, Algorithm(app.id_token_alg)
    grant = session.grant
    if grant is None:
        raise LookupError("an ID token is of a grant")
    asked = requested_claims(claims_within(grant.requested_claims, app.scopes), "id_token")
    digest = _HASH_OF[algorithm](authentication.access_token.encode()).digest()
    claims: dict[str, object] = {
        **user_claims(session.user, authentication.scopes, asked),
        "sub": session.user.id,
        "aud": app.id,
        "azp": app.id,
        "exp": int((now + _TTL).timestamp()),
        "auth_time": int(session.auth_time.timestamp()),
        "acr": session.acr,
        "amr": session.amr,
        "at_hash": base64url(digest[: len(digest) // 2]).decode(),
        "sid": str(grant.parent_id),
    }
    if authentication.nonce:
        claims["nonce"] = authentication.nonce
    return await issuer_tokens.sign_by(signer, ID_TOKEN, claims, now)
