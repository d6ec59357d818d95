"""The parameters of an OAuth request: a form (RFC 6749 appendix B) or a JSON object, each name once."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote_plus

from authservice_validator import TokenError
from authservice_validator.jose import decode_base64url, read_object, split

from chassis.errors import InvalidRequest
from services.token.errors import InvalidClient, InvalidScope
from services.token.oauth.models import AuthMethod, Presented

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_MAX_PARAMETERS: Final = 50
_MAX_HEADER: Final = 4096
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

MAX_RESOURCES: Final = 10

# RFC 6749 §3.3: what a scope may be made of.
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")
# RFC 8707 §2, RFC 8693 §2.1: the only parameters that may be sent several times.
_REPEATED: Final = frozenset({"resource", "audience"})

# What a public app presents, beside its name.
_SHOWN: Final = ("code", "refresh_token", "device_code", "token")


class Parameters(Mapping[str, str]):
    """The parameters of a request, each once; `several` gives those that may be sent more than once."""

    __slots__ = ("_lists", "_single")

    def __init__(self, single: dict[str, str], lists: dict[str, tuple[str, ...]] | None = None) -> None:
        """Take what was sent."""
        self._single = single
        self._lists = lists or {}

    def __getitem__(self, name: str) -> str:
        """Return a parameter."""
        return self._single[name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._single)

    def __len__(self) -> int:
        """Return how many names there are."""
        return len(self._single)

    def several(self, name: str) -> tuple[str, ...]:
        """Return every value of a parameter that may be sent more than once."""
        return self._lists.get(name, ())


def read_parameters(content_type: str, body: bytes, query: bytes) -> Parameters:
    """Return the parameters of a body; those without a value count as not sent (RFC 6749 §3.2).

    Raises:
        InvalidRequest: malformed, a name twice, or parameters in the query, where servers log them (§2.3.1).
    """
    if query:
        raise InvalidRequest("Send the parameters in the body, never in the URL.")
    kind = content_type.partition(";")[0].strip().lower()
    match kind:
        case _ if kind == _FORM:
            pairs = _form(body)
        case _ if kind == _JSON:
            pairs = _json(body)
        case _:
            raise InvalidRequest(f"Send the parameters as {_FORM} or {_JSON}.")
    found: dict[str, str] = {}
    lists: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        if name in _REPEATED:
            lists[name] = (*lists.get(name, ()), value) if value else lists.get(name, ())
            continue
        if name in found:
            raise InvalidRequest("A parameter is sent twice.")
        found[name] = value
    if any(len(values) > MAX_RESOURCES for values in lists.values()):
        raise InvalidRequest("There are too many resources.")
    return Parameters({name: value for name, value in found.items() if value}, lists)


def read_scope(scope: str | None) -> tuple[str, ...] | None:
    """Return the words of a scope, each once; None without a scope.

    Raises:
        InvalidScope: it has not the form of RFC 6749 §3.3.
    """
    if scope is None:
        return None
    if not _SCOPE.fullmatch(scope):
        raise InvalidScope
    return tuple(dict.fromkeys(scope.split(" ")))


def read_client(authorization: str | None, parameters: Mapping[str, str]) -> Presented:
    """Return what the request says of its client; at most one way to prove it may be used (RFC 6749 §2.3).

    Raises:
        InvalidClient: it names none, several ways are used, or one is malformed.
    """
    ways: list[Presented] = []
    if authorization is not None:
        ways.append(_basic(authorization))
    client_id = parameters.get("client_id", "")
    if "client_secret" in parameters:
        ways.append(Presented(client_id, AuthMethod.POST, secret=parameters["client_secret"]))
    if "client_assertion" in parameters or "client_assertion_type" in parameters:
        if parameters.get("client_assertion_type") != ASSERTION_TYPE:
            raise InvalidClient
        assertion = parameters.get("client_assertion", "")
        named = client_id or _subject(assertion)
        ways.append(Presented(named, AuthMethod.PRIVATE_KEY_JWT, assertion=assertion))
    if not ways and client_id:
        shown = tuple(parameters[name] for name in _SHOWN if name in parameters)
        resources = parameters.several("resource") if isinstance(parameters, Parameters) else ()
        ways.append(Presented(client_id, AuthMethod.NONE, shown=shown, resources=resources))
    if len(ways) != 1:
        raise InvalidClient
    if client_id and ways[0].client_id != client_id:
        raise InvalidClient
    return ways[0]


def _subject(assertion: str) -> str:
    """Return whose an assertion says to be (RFC 7521 §4.2); nothing of it is verified here."""
    try:
        subject = read_object(decode_base64url(split(assertion).payload)).get("sub")
    except TokenError:
        raise InvalidClient from None
    return subject if isinstance(subject, str) else ""


def _form(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError:
        raise InvalidRequest("The form cannot be read.") from None


def _json(body: bytes) -> list[tuple[str, str]]:
    try:
        pairs = json.loads(body, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        raise InvalidRequest("The JSON cannot be read.") from None
    # An object has become a tuple of pairs, a list is still one.
    if not isinstance(pairs, tuple) or len(pairs) > _MAX_PARAMETERS:
        raise InvalidRequest("Send one JSON object.")
    read: list[tuple[str, str]] = []
    for name, value in pairs:
        values = value if name in _REPEATED and isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in values):
            raise InvalidRequest("Send one JSON object whose values are text.")
        read += [(name, each) for each in values]
    return read


def _basic(authorization: str) -> Presented:
    """Read the header; id and secret are form-encoded before they are joined (RFC 6749 §2.3.1)."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic" or len(encoded) > _MAX_HEADER:
        raise InvalidClient
    try:
        client_id, colon, secret = base64.b64decode(encoded, validate=True).decode("ascii").partition(":")
        if not colon:
            raise InvalidClient
        return Presented(
            unquote_plus(client_id, errors="strict"),
            AuthMethod.BASIC,
            secret=unquote_plus(secret, errors="strict"),
        )
    except (binascii.Error, UnicodeError):
        raise InvalidClient from None
