"""FastAPI dependencies: a route that names one is reached only with a good access token.

    verifier = TokenVerifier(JwksKeys("https://auth.example.com/.well-known/jwks.json"), issuer=...)
    app = FastAPI()
    install_problem_handler(app)

    @app.get("/orders")
    async def orders(user: Annotated[VerifiedClaims, Depends(require_user(verifier))]) -> list[Order]: ...

Instead of a verifier they take a `ProtectedResource`, which tells callers where its metadata is (RFC 9728),
and takes tokens bound to a key with their proofs (RFC 9449). Needs the extra
`authservice-validator[fastapi]`.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, FastAPI, HTTPException, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from authservice_validator.claims import VerifiedClaims
from authservice_validator.resource import Needs, ProtectedResource, Refusal, RequestFacts
from authservice_validator.verifier import TokenVerifier

_PROBLEM_JSON: Final = "application/problem+json"
# Only for the OpenAPI document. FastAPI's own parsing is lenient, so the header is read here.
_SCHEME: Final = HTTPBearer(auto_error=False, bearerFormat="JWT", description="An AuthService access token.")

Guard = TokenVerifier | ProtectedResource
Dependency = Callable[..., Awaitable[VerifiedClaims]]


class AccessRefused(HTTPException):
    """A request without a sufficient token; `code` is the stable reason.

    Without `install_problem_handler`, FastAPI's default handler renders it with status, headers and `detail`,
    and without `code`.
    """

    def __init__(self, status: int, code: str, detail: str, headers: dict[str, str]) -> None:
        headers = {"Content-Type": _PROBLEM_JSON, "Cache-Control": "no-store", **headers}
        super().__init__(status, detail, headers)
        self.code = code


def require_user(guard: Guard) -> Dependency:
    """A dependency that gives the claims of the request's token.

    Answers 401 without a good token (RFC 6750 §3), 503 while it cannot be checked. A token bound to a key
    (`cnf`) is refused as a bearer token, for it may be stolen (RFC 9449 §7.2); a resource with `dpop` takes
    it with its proof.
    """
    return require(guard)


def require_scopes(guard: Guard, *scopes: str) -> Dependency:
    """As `require_user`, and the token must have every one of these scopes, else 403 `insufficient_scope`."""
    if not scopes:
        raise ValueError("name at least one scope, or use require_user")
    return require(guard, scopes=scopes)


def require(
    guard: Guard,
    *,
    scopes: Sequence[str] = (),
    acr_values: Sequence[str] = (),
    max_age: timedelta | None = None,
) -> Dependency:
    """As `require_user`, and the token must have what is named here.

    Args:
        guard: a verifier, or a resource around one.
        scopes: all of these, else 403 `insufficient_scope`.
        acr_values: one of these, else 401 `insufficient_user_authentication` (RFC 9470).
        max_age: how long ago the user may have proven who it is, else the same.
    """
    resource = guard if isinstance(guard, ProtectedResource) else ProtectedResource(guard)
    needs = Needs(tuple(scopes), tuple(acr_values), max_age)

    async def user(
        request: Request,
        _documented: HTTPAuthorizationCredentials | None = Security(_SCHEME),  # noqa: B008 - FastAPI's way
    ) -> VerifiedClaims:
        headers = request.headers
        facts = RequestFacts(
            headers.getlist("authorization"),
            headers.getlist("dpop"),
            request.method,
            resource.origin + _path(request),
        )
        try:
            return await resource.authenticate(facts, needs)
        except Refusal as refusal:
            raise AccessRefused(refusal.status, refusal.reason, refusal.detail, refusal.headers) from refusal

    return user


def metadata_router(resource: ProtectedResource) -> APIRouter:
    """The route of the resource's metadata (RFC 9728), open to everybody; include it without a prefix."""
    router = APIRouter()
    document = resource.metadata()
    headers = {"Cache-Control": "public, max-age=3600", "Access-Control-Allow-Origin": "*"}

    @router.get(urlsplit(resource.metadata_url or "").path, include_in_schema=False)
    async def metadata() -> JSONResponse:
        return JSONResponse(document, headers=headers)

    return router


def install_problem_handler(app: FastAPI) -> None:
    """Render refusals as whole problem documents (RFC 9457), `code` among their members."""
    app.add_exception_handler(AccessRefused, _render)


def _path(request: Request) -> str:
    """The path as it was sent, also where a mounted application sees a part of it only."""
    raw = request.scope.get("raw_path")
    if isinstance(raw, bytes):
        return raw.partition(b"?")[0].decode("latin-1")
    return quote(request.url.path)


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
