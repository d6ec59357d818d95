"""JSON merge patches (RFC 7396)."""

from __future__ import annotations

from typing import Any


def merge_patched(target: Any, patch: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a value with a merge patch applied (RFC 7396 §2); neither is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patched(merged.get(name), value)
    return merged
