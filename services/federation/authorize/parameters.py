"""The parameters of an authorization request: read from a query or a form, each name once (RFC 6749 §3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import parse_qsl

from chassis.errors import InvalidRequest
from services.federation.authorize.answers import AuthorizationRefused

FORM: Final = "application/x-www-form-urlencoded"
RESOURCE: Final = "resource"
_MAX_PARAMETERS: Final = 60
_MAX_RESOURCES: Final = 10
_MAX_LENGTH: Final = 8192
_LONGEST: Final[Mapping[str, int]] = {
    "claims": 4096,
    "client_id": 2048,
    "id_token_hint": _MAX_LENGTH,
    "login_hint": 320,
    "nonce": 1024,
    "redirect_uri": 2048,
    "resource": 2048,
    "scope": 2048,
    "state": 4096,
}


@dataclass(frozen=True, slots=True)
class Parameters:
    """What was sent with a value; `twice` are the names that came more than once, and count as not sent."""

    values: Mapping[str, str]
    resources: tuple[str, ...] = ()
    twice: frozenset[str] = field(default=frozenset())

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """Sort what was sent. Only `resource` may come several times (RFC 8707 §2)."""
        values: dict[str, str] = {}
        twice: set[str] = set()
        resources: list[str] = []
        for name, value in pairs:
            if name == RESOURCE:
                resources += [value] if value else []
            elif name in values:
                twice.add(name)
            else:
                values[name] = value
        sent = {name: value for name, value in values.items() if value and name not in twice}
        return cls(sent, tuple(dict.fromkeys(resources)), frozenset(twice))

    def get(self, name: str) -> str:
        """Return a value, "" for what was not sent."""
        return self.values.get(name, "")

    def words(self, name: str) -> tuple[str, ...]:
        """Return the words of a list that blanks separate, each once, in their order."""
        return tuple(dict.fromkeys(self.get(name).split()))

    def check(self) -> None:
        """Refuse what is sent twice, or is longer than it needs to be.

        Raises:
            AuthorizationRefused: `invalid_request`.
        """
        if self.twice:
            raise AuthorizationRefused("invalid_request", "A parameter is sent more than once.")
        too_long = any(len(value) > _LONGEST.get(name, _MAX_LENGTH) for name, value in self.values.items())
        too_long |= any(len(resource) > _LONGEST[RESOURCE] for resource in self.resources)
        if too_long or len(self.resources) > _MAX_RESOURCES:
            raise AuthorizationRefused("invalid_request", "A parameter is too long.")

    def encode(self) -> dict[str, Any]:
        """Write them as JSON values."""
        return {
            "values": dict(self.values),
            "resources": list(self.resources),
            "twice": sorted(self.twice),
        }

    @classmethod
    def decode(cls, members: Mapping[str, Any]) -> Self:
        """Read what `encode` wrote."""
        return cls(members["values"], tuple(members["resources"]), frozenset(members.get("twice", ())))


def read_query(query: bytes) -> Parameters:
    """Read a URL's query.

    Raises:
        InvalidRequest: it cannot be read.
    """
    return _read(query)


def read_form(content_type: str, body: bytes) -> Parameters:
    """Read a form.

    Raises:
        InvalidRequest: it is none.
    """
    if content_type.partition(";")[0].strip().lower() != FORM:
        raise InvalidRequest(f"Send the parameters as {FORM}.")
    return _read(body)


def _read(text: bytes) -> Parameters:
    try:
        pairs: Sequence[tuple[str, str]] = parse_qsl(
            text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
        )
    except ValueError:
        raise InvalidRequest("The parameters cannot be read.") from None
    if any("\x00" in name or "\x00" in value for name, value in pairs):
        raise InvalidRequest("The parameters cannot be read.")
    return Parameters.of(pairs)
