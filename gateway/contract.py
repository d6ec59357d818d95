"""The contract as a routing table: compiled once from `openapi.json`, asked by raw path.

A path has one spelling. What is percent-encoded without need, has an empty or dotted segment, a parameter
(`;`) or another case is not a path of the contract, so that no service ever judges a path that the gateway
read otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from chassis.context import Access
from chassis.http import WHOLE

DOCUMENT: Final = Path(__file__).parent / "openapi.json"
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
MAX_PATH_BYTES: Final = 2048

_UNRESERVED = rb"A-Za-z0-9\-._~"
_PATH = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))(?:[" + _UNRESERVED + rb"!$&'()*+,=:@]|%[0-9A-F]{2})+)+")
_ENCODED = re.compile(rb"%([0-9A-F]{2})")
# Encoded, these would be another spelling of the same path, or split it for whoever decodes it.
_NEVER_ENCODED = re.compile(rb"[" + _UNRESERVED + rb"/\\;\x00-\x1f\x7f]")
_QUERY = re.compile(rb"[!-\"$-~]*")

_FOR_PROGRAMS: Final = frozenset({b"api"})

_FORMATS: Final = {
    "uuid": re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    "integer": re.compile(rb"-?[0-9]{1,18}"),
    "string": re.compile(rb"[^/]{1,512}"),
}


class ContractInvalid(Exception):
    """The document cannot be routed by: an operation does not say what it needs."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: who answers it and what the gateway demands before.

    `permission` is what an admin needs for it, and `for_whole` says that it is of the whole installation. An
    `is_endless` one answers a stream that goes on for as long as its caller may have it.
    """

    owner: str
    method: str
    template: str
    access: Access
    limit: str
    body_limit: int
    for_enrollment: bool
    permission: str | None
    for_whole: bool
    oauth_errors: bool
    is_endless: bool

    @property
    def is_for_every_page(self) -> bool:
        """Whether pages of any origin may read the answer: it goes by no cookie, or is the same for all.

        Apps in browsers find, and ask, the provider from wherever they are served (OAuth 2.0 for
        Browser-Based Applications; OpenID Connect Core §5.3).
        """
        return self.access is Access.OAUTH or self.template.startswith("/.well-known/")


@dataclass(slots=True)
class Route:
    """A path's operations by method (HEAD is GET's), and the `Allow` header that names them."""

    operations: dict[str, Operation] = field(default_factory=dict)

    @property
    def allow(self) -> str:
        """The methods, for a 405."""
        return ", ".join(sorted({*self.operations, "OPTIONS"}))


@dataclass(slots=True)
class _Node:
    """One step of the tree of templates. A literal segment wins over a parameter."""

    literals: dict[bytes, _Node] = field(default_factory=dict)
    parameters: list[tuple[re.Pattern[bytes], _Node]] = field(default_factory=list)
    route: Route | None = None


def is_canonical(path: bytes) -> bool:
    """Whether a raw path is spelled in the only acceptable way."""
    if len(path) > MAX_PATH_BYTES or _PATH.fullmatch(path) is None:
        return False
    if b"%" not in path:
        return True
    return not any(_NEVER_ENCODED.match(bytes([int(code, 16)])) for code in _ENCODED.findall(path))


def is_acceptable_query(query: bytes) -> bool:
    """Whether a raw query is visible ASCII and hides no NUL, which no database or C library takes well."""
    return _QUERY.fullmatch(query) is not None and b"%00" not in query


class Contract:
    """Finds the route of a path."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Compile an OpenAPI document.

        Raises:
            ContractInvalid: an operation lacks its credential class, owner, limit or body limit.
        """
        self.document = document
        self._literal: dict[bytes, Route] = {}
        self._root = _Node()
        self._pages: set[bytes] = set()
        self._page_folders: set[bytes] = set()
        for template, item in document.get("paths", {}).items():
            for method in METHODS:
                if method.lower() in item:
                    self._add(_operation(template, method, item[method.lower()]), item[method.lower()])

    @classmethod
    def load(cls, path: Path = DOCUMENT) -> Self:
        """Read the committed document."""
        return cls(json.loads(path.read_text()))

    def find(self, path: bytes) -> Route | None:
        """Return the route of a raw path, or None when the contract has no such path."""
        route = self._literal.get(path)
        if route is not None:
            return route
        return _walk(self._root, path.split(b"/")[1:], 0) if is_canonical(path) else None

    def is_for_people(self, path: bytes) -> bool:
        """Whether people come to a path with a browser: a page of the contract, or what looks like one.

        `/login/typo` does, beside `/login`. Under `/api` nothing but a page itself does: some are in mails.
        """
        return path in self._pages or _folder(path) in self._page_folders

    def require(self, *, classes: frozenset[Access], limits: frozenset[str]) -> None:
        """Check that the gateway can do what every operation asks for.

        Raises:
            ContractInvalid: an operation names a credential or limit class that nobody knows.
        """
        for operation in self.operations():
            if operation.access not in classes or operation.limit not in limits:
                raise ContractInvalid(
                    f"{operation.method} {operation.template}: credential class {operation.access} or "
                    f"limit class {operation.limit} is not known"
                )

    def operations(self) -> list[Operation]:
        """Every operation, in the document's order."""
        found = []
        for template, item in self.document.get("paths", {}).items():
            found += [_operation(template, m, item[m.lower()]) for m in METHODS if m.lower() in item]
        return found

    def _add(self, operation: Operation, declared: Mapping[str, Any]) -> None:
        if _shows_page(declared):
            self._pages.add(operation.template.encode())
            self._page_folders |= {_folder(operation.template.encode())} - _FOR_PROGRAMS
        if "{" not in operation.template:
            route = self._literal.setdefault(operation.template.encode(), Route())
        else:
            route = self._leaf(operation.template, declared)
        if operation.method in route.operations:
            raise ContractInvalid(f"{operation.method} {operation.template} is declared twice")
        route.operations[operation.method] = operation
        if operation.method == "GET":
            route.operations["HEAD"] = operation

    def _leaf(self, template: str, declared: Mapping[str, Any]) -> Route:
        node = self._root
        for segment in template.split("/")[1:]:
            if not segment.startswith("{"):
                node = node.literals.setdefault(segment.encode(), _Node())
                continue
            pattern = _format(segment[1:-1], declared)
            known = next((child for known, child in node.parameters if known is pattern), None)
            if known is None:
                known = _Node()
                node.parameters.append((pattern, known))
                # The narrow formats are tried first.
                node.parameters.sort(key=lambda pair: pair[0] is _FORMATS["string"])
            node = known
        node.route = node.route or Route()
        return node.route


def _folder(path: bytes) -> bytes:
    return path.removeprefix(b"/").partition(b"/")[0]


def _shows_page(declared: Mapping[str, Any]) -> bool:
    return any("text/html" in answer.get("content", {}) for answer in declared.get("responses", {}).values())


def _walk(node: _Node, segments: list[bytes], depth: int) -> Route | None:
    if depth == len(segments):
        return node.route
    child = node.literals.get(segments[depth])
    if child is not None and (found := _walk(child, segments, depth + 1)) is not None:
        return found
    for pattern, child in node.parameters:
        if pattern.fullmatch(segments[depth]) and (found := _walk(child, segments, depth + 1)) is not None:
            return found
    return None


def _format(name: str, declared: Mapping[str, Any]) -> re.Pattern[bytes]:
    for parameter in declared.get("parameters", []):
        if parameter.get("in") == "path" and parameter.get("name") == name:
            schema = parameter.get("schema", {})
            return _FORMATS.get(schema.get("format") or schema.get("type", "string"), _FORMATS["string"])
    raise ContractInvalid(f"the path parameter {name} is not declared")


def _operation(template: str, method: str, declared: Mapping[str, Any]) -> Operation:
    try:
        return Operation(
            owner=declared["x-owner"],
            method=method,
            template=template,
            access=Access(declared["x-access"]),
            limit=declared["x-limit"],
            body_limit=int(declared["x-body-limit"]),
            for_enrollment=declared.get("x-enrollment", False) is True,
            permission=declared.get("x-permission"),
            for_whole=declared.get("x-scope", WHOLE) == WHOLE,
            oauth_errors=declared.get("x-errors") == "oauth",
            is_endless=declared.get("x-endless", False) is True,
        )
    except (KeyError, ValueError) as error:
        raise ContractInvalid(f"{method} {template} does not declare {error}") from error
