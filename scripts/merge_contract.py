"""Merges the services' OpenAPI documents into `gateway/openapi.json`, by which the gateway routes.

`python scripts/merge_contract.py` writes it, `--check` fails when the committed one is not what the code
says.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chassis.service import Definition, contract
from contracts.topology import SERVICES
from gateway.contract import DOCUMENT, METHODS
from gateway.own import OWN_PATHS

Document = dict[str, Any]

_VERSION: Final = "0.1.0"
_PROBLEM_REF: Final = {"$ref": "#/components/schemas/Problem"}
_REFUSAL: Final = {
    "description": "Refused: a problem document with a stable `code`.",
    "content": {"application/problem+json": {"schema": _PROBLEM_REF}},
}
_OAUTH_REFUSAL: Final = {
    "description": "Refused: an OAuth error.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OAuthError"}}},
}
_PAGE: Final = "text/html"
_HTML: Final[Document] = {"schema": {"type": "string"}}
_FASTAPI_ERRORS: Final = ("HTTPValidationError", "ValidationError")
_SECURITY: Final[dict[str, list[dict[str, list[str]]]]] = {
    "public": [],
    "api_key": [{"ApiKey": []}],
    "user": [{"ApiKey": [], "AccessToken": []}],
    "admin": [{"AdminToken": []}, {"AdminKey": []}],
    "oauth": [{"ClientSecret": []}, {}],
}
_SCHEMES: Final = {
    "ApiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A secret key (`ask_…`) for servers, or a publishable one (`apk_…`) for browsers.",
    },
    "AccessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "RFC 9068."},
    "AdminToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "Of `POST /api/admin/auth/login`; what it opens is in docs/admin-roles.md.",
    },
    "AdminKey": {"type": "apiKey", "in": "header", "name": "X-Admin-Key", "description": "Break-glass key."},
    "ClientSecret": {
        "type": "http",
        "scheme": "basic",
        "description": "Id and secret of a service account (RFC 6749 §2.3.1), unless in the body.",
    },
}
_OAUTH_ERROR: Final = {
    "type": "object",
    "description": "A refusal of an OAuth endpoint (RFC 6749 §5.2).",
    "required": ["error"],
    "properties": {"error": {"type": "string"}, "error_description": {"type": "string"}},
}
_FIELD_ERROR: Final = {
    "type": "object",
    "required": ["field", "code", "detail"],
    "properties": {name: {"type": "string"} for name in ("field", "code", "detail")},
}
_PROBLEM: Final = {
    "type": "object",
    "description": "A refusal (RFC 9457). `code` is stable; `errors` names the fields of a 422.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/FieldError"}},
    },
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Repeats with the same key and body get the first answer, for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


class ContractConflict(Exception):
    """The services' documents cannot stand in one contract."""


def merge(documents: dict[str, Document]) -> Document:
    """Return one document of the services' (by name) and the gateway's own operations.

    Raises:
        ContractConflict: an operation without a credential class, or one that two services declare.
    """
    paths: Document = {path: dict(item) for path, item in OWN_PATHS.items()}
    schemas: Document = {"Problem": _PROBLEM, "FieldError": _FIELD_ERROR, "OAuthError": _OAUTH_ERROR}
    for service, document in documents.items():
        own = _without_clashes(service, document, schemas)
        schemas |= own["components"]["schemas"]
        for path, item in own["paths"].items():
            known = paths.setdefault(path, {})
            for method, operation in item.items():
                if method in known:
                    raise ContractConflict(f"{method.upper()} {path} is declared twice, once by {service}")
                known[method] = {**operation, "x-owner": service}
    for path, method, operation in _operations(paths):
        _complete(path, method, operation)
    _shorten_ids(paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AuthService",
            "version": _VERSION,
            "description": "Multi-tenant authentication: one origin, one contract.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "This gateway."}],
        "paths": {path: paths[path] for path in sorted(paths)},
        "components": {
            "schemas": {name: schemas[name] for name in sorted(schemas)},
            "securitySchemes": _SCHEMES,
        },
    }


def _complete(path: str, method: str, operation: Document) -> None:
    """Check one operation and add what all have in common."""
    access = operation.get("x-access")
    if access not in _SECURITY:
        raise ContractConflict(f"{method.upper()} {path} declares no known credential class (x-access)")
    operation["security"] = _SECURITY[access]
    problem = _OAUTH_REFUSAL if operation.get("x-errors") == "oauth" else _REFUSAL
    responses = operation.setdefault("responses", {})
    # What answers with pages may refuse with one, too.
    pages = {_PAGE: _HTML} if any(_PAGE in each.get("content", {}) for each in responses.values()) else {}
    # Of a path that the gateway does not know it cannot tell that it was meant for an OAuth endpoint.
    unknown = _REFUSAL["content"] if "{" in path else {}
    refused = {**problem["content"], **unknown, **pages}
    for status, response in responses.items():
        if str(status).startswith(("4", "5")):
            response["content"] = refused
    responses["default"] = {**problem, "content": refused}
    if operation.get("x-idempotent"):
        operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)


def _without_clashes(service: str, document: Document, taken: Document) -> Document:
    """Prefix the schemas whose names another service uses for something else."""
    schemas = document.get("components", {}).get("schemas", {})
    for name in _FASTAPI_ERRORS:
        schemas.pop(name, None)
    text = json.dumps({"paths": document["paths"], "components": {"schemas": schemas}})
    for name, schema in schemas.items():
        if name in taken and taken[name] != schema:
            better = f"{service.capitalize()}{name}"
            text = text.replace(f'"#/components/schemas/{name}"', f'"#/components/schemas/{better}"')
            text = text.replace(f'"{name}": {json.dumps(schema)}', f'"{better}": {json.dumps(schema)}')
    renamed: Document = json.loads(text)
    return renamed


def _shorten_ids(paths: Document) -> None:
    """Name operations by their handlers (`login`) where that is unambiguous: SDKs take these names."""
    short: dict[str, list[Document]] = {}
    for path, method, operation in _operations(paths):
        suffix = re.sub(r"\W", "_", path) + f"_{method}"
        name = operation["operationId"].removesuffix(suffix)
        short.setdefault(name, []).append(operation)
    for name, operations in short.items():
        if len(operations) == 1:
            operations[0]["operationId"] = name


def _operations(paths: Document) -> Iterator[tuple[str, str, Document]]:
    for path, item in paths.items():
        for method, operation in item.items():
            if method.upper() in METHODS:
                yield path, method, operation


def build(services: tuple[str, ...] = SERVICES) -> Document:
    """Merge what the services' code says now."""
    documents = {}
    for service in services:
        definition: Definition[Any] = importlib.import_module(f"services.{service}.app").DEFINITION
        documents[service] = contract(definition)
    return merge(documents)


def main() -> int:
    """Write or check the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when the committed document is stale")
    arguments = parser.parse_args()
    try:
        text = json.dumps(build(), indent=2, ensure_ascii=False) + "\n"
    except ContractConflict as error:
        sys.stderr.write(f"contract: {error}\n")
        return 1
    if not arguments.check:
        DOCUMENT.write_text(text)
        return 0
    if not DOCUMENT.exists() or DOCUMENT.read_text() != text:
        sys.stderr.write("gateway/openapi.json is stale: run `make contract` and commit it\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
