"""The operations of the merged contract, and requests that each of them understands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.contract import DOCUMENT, METHODS

Json = dict[str, Any]

FORM = "application/x-www-form-urlencoded"
CONTRACT: Json = json.loads(DOCUMENT.read_text())


@dataclass(frozen=True)
class Operation:
    """One method of one path, as declared."""

    method: str
    template: str
    declared: Json

    @property
    def name(self) -> str:
        """How it is called in reports."""
        return f"{self.method} {self.template}"

    @property
    def access(self) -> str:
        """Its credential class."""
        return str(self.declared["x-access"])

    @property
    def is_endless(self) -> bool:
        """Whether a good answer has no end."""
        return bool(self.declared.get("x-endless", False))

    @property
    def path_parameters(self) -> list[str]:
        """The names of its path's parameters."""
        return [
            parameter["name"]
            for parameter in self.declared.get("parameters", [])
            if parameter["in"] == "path"
        ]

    def path(self, ids: Mapping[str, str]) -> str:
        """The path with these ids in it."""
        return self.template.format(**ids)

    def body(self) -> Any:
        """A body that the operation's schema accepts; None when it takes none."""
        content = self.declared.get("requestBody", {}).get("content", {})
        media = content.get("application/json")
        return sample(media["schema"]) if media else None

    @property
    def is_form_only(self) -> bool:
        """Whether its body is a form and nothing else."""
        content = self.declared.get("requestBody", {}).get("content", {})
        return set(content) == {FORM}


def operations() -> Iterator[Operation]:
    """Every operation of the contract."""
    for template, item in CONTRACT["paths"].items():
        for method in METHODS:
            if method.lower() in item:
                yield Operation(method, template, item[method.lower()])


def named(parameter: Operation) -> str:
    """The id of a parametrized test."""
    return parameter.name


def resolved(schema: Json) -> Json:
    """The schema a reference points to."""
    while "$ref" in schema:
        found: Json = CONTRACT
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    return schema


def sample(schema: Json) -> Any:
    """A small value of a schema: required members only, or the first one where none is required."""
    schema = resolved(schema)
    for fixed in ("example", "const", "default"):
        if schema.get(fixed) is not None:
            return schema[fixed]
    for choice in ("examples", "enum"):
        if choice in schema:
            return schema[choice][0]
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return sample(schema[union][0])
    return _of_type(schema)


def _of_type(schema: Json) -> Any:
    match schema.get("type"):
        case "object":
            members = schema.get("properties", {})
            wanted = schema.get("required") or list(members)[:1]
            return {name: sample(members[name]) for name in wanted}
        case "array":
            return [sample(schema["items"])] if schema.get("minItems") else []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "string":
            return "a-long-enough-word-7"
        case _:
            return None
