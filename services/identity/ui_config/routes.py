"""HTTP face of what a login page needs to know: chosen members only, each checked before it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Query, Response

from chassis.context import Access
from chassis.errors import InvalidRequest
from chassis.http import Caller, Router
from chassis.models import AnswerModel
from contracts.brand import LANGUAGES, brand_of
from contracts.clients import Client, ClientDirectory, ClientNotFound

Theme = Literal["auto", "light", "dark"]
Method = Literal["password", "magic_link", "passkey"]

_CACHE_CONTROL: Final = "public, max-age=60"

ClientParameter = Annotated[UUID | None, Query(description="The client, where no API key names it.")]


class BrandView(AnswerModel):
    """How the client looks; the logo is on HTTPS, the colors are `#rrggbb`."""

    name: str
    logo_url: str | None
    primary_color: str
    text_color: str


class CaptchaView(AnswerModel):
    """The CAPTCHA to solve, whose token goes into `captcha_token`."""

    provider: str
    site_key: str


class HostedPaths(AnswerModel):
    """Where the hosted pages are, below the base URL."""

    login: str = "/login.html"
    signup: str = "/signup.html"
    account: str = "/account.html"


class UiConfig(AnswerModel):
    """What a login page needs to know of a client."""

    client_id: UUID
    brand: BrandView
    theme: Theme
    locale: str
    locales: list[str]
    methods: list[Method]
    providers: list[str]
    captcha: CaptchaView | None
    hosted: HostedPaths


def routes(clients: ClientDirectory, *, methods: tuple[Method, ...], captcha: CaptchaView | None) -> Router:
    """The slice's route; `methods` are the ways in that this installation has."""
    router = Router(tag="Authentication")

    @router.get(
        "/api/auth/ui/config",
        access=Access.PUBLIC,
        limit="public",
        responses={
            400: {"description": "`invalid_request`: neither `client_id` nor an API key names a client"},
            404: {"description": "`client_not_found`"},
        },
    )
    async def ui_config(caller: Caller, response: Response, client_id: ClientParameter = None) -> UiConfig:
        """Answer brand, locale and ways to log in of a client, for a page that nobody has logged in to yet.

        An API key wins over `client_id`. Nothing else of the client's settings is told.
        """
        wanted = caller.client_id or client_id
        if wanted is None:
            raise InvalidRequest("Name the client: by client_id, or by an API key.")
        client = await clients.get(wanted)
        if not client.is_active:
            raise ClientNotFound
        response.headers["cache-control"] = _CACHE_CONTROL
        response.headers["vary"] = "x-api-key"
        return _config(client, methods, captcha)

    return router


def _config(client: Client, methods: tuple[Method, ...], captcha: CaptchaView | None) -> UiConfig:
    brand = brand_of(client.settings, client.name)
    found = client.settings.get("auth_ui")
    chosen: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    shown = chosen.get("methods")
    return UiConfig(
        client_id=client.id,
        brand=BrandView(
            name=brand.name,
            logo_url=brand.logo_url,
            primary_color=brand.color,
            text_color=brand.text_color,
        ),
        theme=_theme(chosen.get("theme")),
        locale=brand.locale if brand.locale in LANGUAGES else LANGUAGES[0],
        locales=list(LANGUAGES),
        methods=[method for method in methods if not isinstance(shown, list) or method in shown],
        providers=[],
        captcha=captcha,
        hosted=HostedPaths(),
    )


def _theme(value: object) -> Theme:
    match value:
        case "light":
            return "light"
        case "dark":
            return "dark"
        case _:
            return "auto"
