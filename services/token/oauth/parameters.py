"""The parameters of an OAuth request: a form (RFC 6749 appendix B) or a JSON object, each name once."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote_plus

from authservice_validator import TokenError
from authservice_validator.jose import decode_base64url, read_object, split

from chassis.errors import InvalidRequest
from services.token.errors import InvalidClient
from services.token.oauth.models import AuthMethod, Presented

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_MAX_PARAMETERS: Final = 50
_MAX_HEADER: Final = 4096
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

Parameters = Mapping[str, str]


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
    for name, value in pairs:
        if name in found:
            raise InvalidRequest("A parameter is sent twice.")
        found[name] = value
    return {name: value for name, value in found.items() if value}


def read_client(authorization: str | None, parameters: Parameters) -> Presented:
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
        ways.append(Presented(client_id, AuthMethod.NONE))
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
    for pair in pairs:
        if not isinstance(pair[1], str):
            raise InvalidRequest("Send one JSON object whose values are text.")
    return list(pairs)


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
