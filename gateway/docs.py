"""`/docs`: the contract as a page that needs no script, no font and no other site."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.answer import Answer
from gateway.contract import METHODS

_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}
nav a{display:inline-block;margin-right:1rem}
h2{border-bottom:1px solid var(--line);margin-top:2.5rem}
details{border:1px solid var(--line);border-radius:.4rem;margin:.5rem 0}
summary{padding:.5rem .75rem;cursor:pointer}
details>div{padding:0 .75rem .75rem}
code,pre{font:14px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
pre{background:var(--soft);padding:.75rem;overflow:auto;border-radius:.4rem}
b.m{display:inline-block;min-width:4.5rem}
small{opacity:.75}
"""
_CACHE: Final = (b"cache-control", b"public, max-age=60")
_ORDER: Final = ("Authentication", "Profile", "Sessions", "Keys")
_HTML: Final = b"text/html; charset=utf-8"
_NAMES: Final = re.compile(r"[^a-z0-9]+")


ERRORS: Final = Path(__file__).parent / "errors.json"
"""Every error code with status and meaning, written by `make docs`."""


class DocsPages:
    """The pages and the two documents, rendered once."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Render the contract."""
        style = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
        self._policy = (
            f"default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        ).encode()
        plain = json.loads(json.dumps(document))
        errors = json.loads(ERRORS.read_text())
        self._pages = {
            "/docs": (_HTML, _page(plain).encode()),
            "/docs/errors": (_HTML, _errors_page(errors).encode()),
            "/docs/openapi.json": (b"application/json", json.dumps(plain, indent=1).encode()),
            "/docs/openapi.yaml": (b"application/yaml", yaml.safe_dump(plain, sort_keys=False).encode()),
        }

    async def serve(self, path: str, answer: Answer) -> None:
        """Answer one of the paths."""
        media, body = self._pages[path]
        headers = [(b"content-type", media), _CACHE]
        if media == _HTML:
            headers.append((b"content-security-policy", self._policy))
        await answer.whole(200, headers, body)


def _page(document: Mapping[str, Any]) -> str:
    by_tag: dict[str, list[str]] = {}
    for path, item in document.get("paths", {}).items():
        for method in METHODS:
            operation = item.get(method.lower())
            if operation is not None:
                tag = operation.get("tags", ["Other"])[0]
                by_tag.setdefault(tag, []).append(_operation(document, path, method, operation))
    by_tag = {tag: by_tag[tag] for tag in sorted(by_tag, key=_rank)}
    links = "".join(f'<a href="#{_anchor(tag)}">{escape(tag)}</a>' for tag in by_tag)
    sections = "".join(
        f'<h2 id="{_anchor(tag)}">{escape(tag)}</h2>{"".join(operations)}'
        for tag, operations in by_tag.items()
    )
    info = document.get("info", {})
    return _html(
        info.get("title", ""),
        f"<p>{escape(info.get('description', ''))}</p>"
        '<p><a href="/docs/openapi.json">openapi.json</a> · <a href="/docs/openapi.yaml">openapi.yaml</a> · '
        f'<a href="/docs/errors">errors</a></p><nav>{links}</nav>{sections}',
    )


def _rank(tag: str) -> tuple[int, str]:
    """Put what an application calls first, and what operates the gateway last."""
    return (_ORDER.index(tag) if tag in _ORDER else len(_ORDER) + (tag == "Operation"), tag)


def _errors_page(errors: list[dict[str, Any]]) -> str:
    """The codes; `type` of a problem document links to them."""
    items = "".join(
        f'<h2 id="{escape(error["code"])}"><code>{escape(error["code"])}</code> {error["status"]}</h2>'
        f"<p>{escape(error['meaning'])}</p>"
        for error in errors
    )
    return _html("Errors", f'<p><a href="/docs">Documentation</a></p>{items}')


def _html(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>{body}</body></html>"
    )


def _operation(document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> str:
    parts = [f"<p>{escape(line)}</p>" for line in operation.get("description", "").split("\n\n") if line]
    parts.append(
        f"<p><small>credential <code>{escape(operation['x-access'])}</code> · limit "
        f"<code>{escape(operation['x-limit'])}</code> · body up to {operation['x-body-limit']} bytes"
        "</small></p>"
    )
    for parameter in operation.get("parameters", []):
        needed = "required" if parameter.get("required") else "optional"
        parts.append(
            f"<p><code>{escape(parameter['name'])}</code> <small>in {escape(parameter['in'])}, {needed}"
            f"</small> {escape(parameter.get('description', ''))}</p>"
        )
    body = operation.get("requestBody", {}).get("content", {})
    for media, content in body.items():
        parts.append(f"<p>Body <code>{escape(media)}</code></p>")
        parts.append(_schema(document, content.get("schema", {})))
    for status, response in operation.get("responses", {}).items():
        parts.append(f"<p><b>{escape(status)}</b> {escape(response.get('description', ''))}</p>")
        if status.startswith("2"):
            contents = response.get("content", {}).values()
            parts.extend(_schema(document, content.get("schema", {})) for content in contents)
    summary = escape(operation.get("summary", ""))
    return (
        f'<details id="{_anchor(method + path)}"><summary><b class="m">{method}</b> '
        f"<code>{escape(path)}</code> <small>{summary}</small></summary><div>{''.join(parts)}</div></details>"
    )


def _schema(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name:
        schema = document.get("components", {}).get("schemas", {}).get(name, {})
    return f"<pre>{escape(json.dumps(schema, indent=1))}</pre>" if schema else ""


def _anchor(text: str) -> str:
    return _NAMES.sub("-", text.lower()).strip("-")
