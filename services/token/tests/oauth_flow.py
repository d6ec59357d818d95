"""The authorization code flow as federation and an app drive it: a login, a code, the token endpoint."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import jwt
from authservice_validator.dpop import thumbprint
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from chassis.context import Access, CallerContext
from contracts.gen.internal.identity.v1 import users_pb2
from contracts.gen.internal.origin.v1 import origin_pb2
from contracts.gen.internal.token.v1 import grants_pb2, sessions_pb2
from tests.harness import BASE_URL, Answer, System, Tenant
from tests.oauth_errors import check_oauth_error

if TYPE_CHECKING:
    from contracts.gen.internal.token.v1.grants_pb2_grpc import GrantServiceAsyncStub
    from services.token.tests.conftest import Token

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
GRANT_TYPES = ["authorization_code", "refresh_token", "client_credentials", DEVICE_CODE, TOKEN_EXCHANGE]
FORM = "application/x-www-form-urlencoded"
REDIRECT = "https://app.example.com/callback"
ORIGIN = origin_pb2.Origin(ip="203.0.113.9", user_agent="pytest", request_id="r-1")
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


def anybody(**changes: Any) -> CallerContext:
    """Anybody at an OAuth endpoint, as the gateway passes it on."""
    context = CallerContext(
        access=Access.OAUTH, request_id="test-app", ip="203.0.113.20", user_agent="pytest"
    )
    return replace(context, **changes)


def basic(client_id: str, secret: str) -> str:
    """The header of HTTP Basic (RFC 6749 §2.3.1)."""
    pair = ":".join(quote(part, safe="") for part in (client_id, secret))
    return "Basic " + base64.b64encode(pair.encode()).decode()


@dataclass(frozen=True, slots=True)
class TestApp:
    """An app at the endpoints; one without a secret is public."""

    __test__ = False

    system: System
    token: Token
    grants: GrantServiceAsyncStub
    tenant: Tenant
    id: str
    secret: str = ""

    async def post(
        self,
        path: str,
        parameters: Any,
        *,
        process: int = 0,
        headers: dict[str, str] | None = None,
        content_type: str = FORM,
        is_anonymous: bool = False,
    ) -> Answer:
        """POST to an endpoint with the app's own credentials."""
        sent = {"content-type": content_type, **(headers or {})}
        own: dict[str, str] = {}
        if not is_anonymous:
            if self.secret:
                sent.setdefault("authorization", basic(self.id, self.secret))
            else:
                own = {"client_id": self.id}
        if isinstance(parameters, dict):
            parameters = {**own, **parameters}
        encode = json.dumps if content_type == "application/json" else urlencode
        system = self.system
        if process == 1:
            system = replace(system, faces={**system.faces, "token": self.token.second_face})
        answer = await system.call(
            "token", "POST", path, caller=anybody(), headers=sent, content=encode(parameters).encode()
        )
        check_oauth_error(answer)
        return answer

    async def admin(self, method: str, path: str = "", **options: Any) -> Answer:
        """Call one of the app's routes as an admin."""
        base = f"/api/admin/clients/{self.tenant.id}/apps/{self.id}"
        return await self.system.call("orgs", method, base + path, caller=self.system.admin(), **options)

    async def login(self, user: users_pb2.User | None = None) -> sessions_pb2.OpenedSession:
        """Log a user in at the issuer."""
        return await self.token.open(self.tenant, user)

    async def code(self, login: sessions_pb2.OpenedSession, **members: Any) -> str:
        """Let federation make a code for what a user granted."""
        scope = members.pop("scope", "openid email profile offline_access")
        authorization = grants_pb2.Authorization(
            client_id=str(self.tenant.id),
            app_id=self.id,
            user_id=login.user.id,
            session_id=login.session_id,
            scopes=scope.split(" "),
            **{name: members.pop(name) for name in ("nonce", "claims_json", "resources") if name in members},
        )
        binding = {"redirect_uri": REDIRECT, "code_challenge": CHALLENGE, **members}
        answer = await self.grants.CreateAuthorizationCode(
            grants_pb2.CreateAuthorizationCodeRequest(authorization=authorization, origin=ORIGIN, **binding)
        )
        return answer.code

    async def redeem(self, code: str | None, **options: Any) -> Answer:
        """Redeem a code; `options` replace parameters, None leaves one out."""
        process, headers = options.pop("process", 0), options.pop("headers", None)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT,
            "code_verifier": VERIFIER,
            **options,
        }
        given = {name: value for name, value in form.items() if value is not None}
        return await self.post("/token", given, process=process, headers=headers)

    async def refresh(self, refresh_token: str, **options: Any) -> Answer:
        """Present a refresh token."""
        process, headers = options.pop("process", 0), options.pop("headers", None)
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, **options}
        return await self.post("/token", form, process=process, headers=headers)

    async def tokens(self, login: sessions_pb2.OpenedSession | None = None, **members: Any) -> dict[str, Any]:
        """Go through the whole flow and return the token endpoint's answer."""
        answer = await self.redeem(await self.code(login or await self.login(), **members))
        assert answer.status == 200, answer.body
        document: dict[str, Any] = answer.json
        return document

    async def is_good(self, access_token: str) -> bool:
        """Whether federation is told that an access token is good."""
        request = grants_pb2.VerifyOAuthTokenRequest(access_token=access_token)
        return (await self.grants.VerifyOAuthToken(request)).valid


def random_text() -> str:
    """A text that nobody can guess."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True, slots=True)
class Apps:
    """Makes apps."""

    system: System
    token: Token
    grants: GrantServiceAsyncStub

    def tenant(self, tenant: Tenant) -> TestApp:
        """The tenant itself, with its API key."""
        return TestApp(self.system, self.token, self.grants, tenant, str(tenant.id), tenant.api_key)

    async def create(self, tenant: Tenant, **members: Any) -> TestApp:
        """An app of a tenant, made by an admin."""
        body = {"name": "Shop", "redirect_uris": [REDIRECT], "grant_types": GRANT_TYPES, **members}
        answer = await self.system.call(
            "orgs",
            "POST",
            f"/api/admin/clients/{tenant.id}/apps",
            caller=self.system.admin(),
            json=body,
        )
        assert answer.status == 201, answer.body
        secret = answer.json.get("client_secret") or ""
        return TestApp(self.system, self.token, self.grants, tenant, answer.json["app"]["id"], secret)

    async def public(self, tenant: Tenant, **members: Any) -> TestApp:
        """A public app."""
        kinds = [kind for kind in GRANT_TYPES if "credentials" not in kind and "exchange" not in kind]
        public = {"token_endpoint_auth_method": "none", "application_type": "native", "grant_types": kinds}
        return await self.create(tenant, **{**public, **members})


class DpopKey:
    """A client's key for proofs of possession, and the nonce that it was told."""

    def __init__(self) -> None:
        """Make a key."""
        self._private = ec.generate_private_key(ec.SECP256R1())
        jwk = json.loads(ECAlgorithm.to_jwk(self._private.public_key()))
        self.jwk = {name: jwk[name] for name in ("kty", "crv", "x", "y")}
        self.jkt = thumbprint(self.jwk)
        self.nonce = ""

    def proof(self, header: dict[str, Any] | None = None, **claims: Any) -> dict[str, str]:
        """The header with a fresh proof for the token endpoint; `None` leaves a claim out."""
        payload = {
            "htm": "POST",
            "htu": f"{BASE_URL}/token",
            "iat": int(time.time()),
            "jti": random_text(),
            "nonce": self.nonce or None,
            **claims,
        }
        given = {name: value for name, value in payload.items() if value is not None}
        head = {"typ": "dpop+jwt", "jwk": self.jwk, **(header or {})}
        return {"dpop": jwt.encode(given, self._private, "ES256", headers=head)}

    def learn(self, answer: Answer) -> None:
        """Take over the nonce of an answer."""
        self.nonce = answer.headers["dpop-nonce"]
