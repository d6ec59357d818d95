"""What administrators may send about clients; everything else in a body is ignored."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from chassis.models import RequestModel
from contracts.clients import TokenMode
from services.orgs.clients.documents import check_document
from services.orgs.clients.models import ClientStatus
from services.orgs.clients.slugs import parse_slug
from services.orgs.clients.urls import parse_origin, parse_public_url

_MAX_ORIGINS = 100
# Controls, line breaks and marks that turn the direction of writing: they make one name look like another.
_DECEPTIVE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def check_name(value: str) -> str:
    """Return a text that people read.

    Raises:
        PydanticCustomError: it holds characters that are not seen.
    """
    if _DECEPTIVE.search(value):
        raise PydanticCustomError("name_invalid", "must not contain control or invisible characters")
    return value


def _without_repeats(origins: list[str]) -> list[str]:
    return list(dict.fromkeys(origins))


Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120), AfterValidator(check_name)
]
"""A name that people read."""

Origins = Annotated[
    list[Annotated[str, AfterValidator(parse_origin)]],
    Field(max_length=_MAX_ORIGINS),
    AfterValidator(_without_repeats),
]
"""Exact browser origins."""

WebhookUrl = Annotated[str, AfterValidator(parse_public_url)]
"""A public https URL."""

Settings = Annotated[dict[str, Any], AfterValidator(check_document)]
"""A settings document."""


class CreateClientRequest(RequestModel):
    """A new client; without a slug one is made of the name, the installation's token mode is the default."""

    name: Name
    slug: Annotated[str, AfterValidator(parse_slug)] | None = None
    allowed_origins: Origins = Field(default=[])
    webhook_url: WebhookUrl | None = None
    settings: Settings = Field(default={})
    token_mode: TokenMode | None = None


class UpdateClientRequest(RequestModel):
    """Changes of a client: only members that are sent change anything, and at least one must be.

    `settings` is merged at its top level, where null removes a member; a null `webhook_url` removes it.
    """

    # Factories instead of `| None`: absent is fine, null is not; which were sent is in `model_fields_set`.
    name: Name = Field(default_factory=str)
    allowed_origins: Origins = Field(default_factory=list)
    webhook_url: WebhookUrl | None = None
    settings: Settings = Field(default_factory=dict)
    status: ClientStatus = Field(default_factory=lambda: ClientStatus.ACTIVE)
    token_mode: TokenMode = Field(default_factory=lambda: TokenMode.RS256)
    allow_token_mode_downgrade: bool = False

    @model_validator(mode="after")
    def _refuse_empty(self) -> Self:
        if not self.model_fields_set - {"allow_token_mode_downgrade"}:
            raise PydanticCustomError("empty_patch", "must change at least one field")
        return self
