"""FastAPI dependencies: a route that names one is reached only with a good access token.

    verifier = TokenVerifier(JwksKeys("https://auth.example.com/.well-known/jwks.json"), issuer=...)
    app = FastAPI()
    install_problem_handler(app)

    @app.get("/orders")
    async def orders(user: Annotated[VerifiedClaims, Depends(require_user(verifier))]) -> list[Order]: ...

Needs the extra `authservice-validator[fastapi]`.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import FastAPI, HTTPException, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from authservice_validator.claims import VerifiedClaims
from authservice_validator.errors import (
    KeysUnavailable,
    RevocationsUnavailable,
    TokenError,
    TokenInvalid,
)
from authservice_validator.verifier import TokenVerifier

_PROBLEM_JSON: Final = "application/problem+json"
# Only for the OpenAPI document. FastAPI's own parsing is lenient, so the header is read here.
_SCHEME: Final = HTTPBearer(auto_error=False, bearerFormat="JWT", description="An AuthService access token.")


class AccessRefused(HTTPException):
    """A request without a sufficient token; `code` is the stable reason.

    Without `install_problem_handler`, FastAPI's default handler renders it with status, headers and `detail`,
    and without `code`.
    """

    def __init__(self, status: int, code: str, detail: str, headers: dict[str, str]) -> None:
        headers = {"Content-Type": _PROBLEM_JSON, "Cache-Control": "no-store", **headers}
        super().__init__(status, detail, headers)
        self.code = code


def require_user(verifier: TokenVerifier) -> Callable[..., Awaitable[VerifiedClaims]]:
    """A dependency that gives the claims of the request's bearer token.

    Answers 401 without a good token (RFC 6750 §3), 503 while the issuer's keys cannot be loaded. A token
    bound to a key (`cnf`) is refused: as a bearer token it may be stolen (RFC 9449 §7.2).
    """

    async def user(
        request: Request,
        _documented: HTTPAuthorizationCredentials | None = Security(_SCHEME),  # noqa: B008 - FastAPI's way
    ) -> VerifiedClaims:
        return await _authenticate(verifier, request)

    return user


def require_scopes(verifier: TokenVerifier, *scopes: str) -> Callable[..., Awaitable[VerifiedClaims]]:
    """As `require_user`, and the token must have every one of these scopes, else 403 `insufficient_scope`."""
    if not scopes:
        raise ValueError("name at least one scope, or use require_user")
    needed = frozenset(scopes)
    challenge = f'Bearer error="insufficient_scope", scope="{" ".join(scopes)}"'

    async def user(
        request: Request,
        _documented: HTTPAuthorizationCredentials | None = Security(_SCHEME),  # noqa: B008 - FastAPI's way
    ) -> VerifiedClaims:
        claims = await _authenticate(verifier, request)
        if not needed.issubset(claims.scopes):
            detail = "The access token lacks a scope that this needs."
            raise AccessRefused(403, "insufficient_scope", detail, {"WWW-Authenticate": challenge})
        return claims

    return user


def install_problem_handler(app: FastAPI) -> None:
    """Render refusals as whole problem documents (RFC 9457), `code` among their members."""
    app.add_exception_handler(AccessRefused, _render)


async def _authenticate(verifier: TokenVerifier, request: Request) -> VerifiedClaims:
    given = request.headers.getlist("authorization")
    if not given:
        # RFC 6750 §3.1: a caller who tried nothing is told the scheme, and no error.
        detail = "An access token is needed."
        raise AccessRefused(401, "missing_token", detail, {"WWW-Authenticate": "Bearer"})
    try:
        token = _bearer_token(given)
        return _unbound(verifier.cached(token) or await verifier.verify(token))
    except TokenError as error:
        # One text for every cause but `code`: which check failed would guide a forger.
        challenge = 'Bearer error="invalid_token", error_description="The access token is not valid"'
        detail = "The access token is not valid."
        raise AccessRefused(401, error.code, detail, {"WWW-Authenticate": challenge}) from error
    except (KeysUnavailable, RevocationsUnavailable) as error:
        detail = "Access tokens cannot be checked at the moment."
        raise AccessRefused(503, error.code, detail, {"Retry-After": "2"}) from error


def _bearer_token(given: list[str]) -> str:
    scheme, _, token = given[0].partition(" ")
    # Of two headers a proxy may have checked the other one.
    if len(given) != 1 or scheme.lower() != "bearer":
        raise TokenInvalid("the request does not carry one bearer token")
    return token


def _unbound(claims: VerifiedClaims) -> VerifiedClaims:
    if claims.cnf is not None:
        raise TokenInvalid("the token is bound to a key and came without a proof")
    return claims


_TITLES: Final = {401: "Unauthorized", 403: "Forbidden", 503: "Service Unavailable"}


async def _render(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AccessRefused)  # noqa: S101 - registered for nothing else
    body = {
        "type": "about:blank",
        "title": _TITLES[error.status_code],
        "status": error.status_code,
        "detail": error.detail,
        "code": error.code,
    }
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)
