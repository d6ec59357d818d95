"""Settings documents: masks that come back are the secrets they stand for, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from services.orgs.clients.documents import MASK, masked_for_audit, masked_for_reading, merge

NAMES = st.sampled_from(
    ["brand", "client_secret", "smtp_password", "api_token", "apiKey", "ttl", "privateKey"]
)
LEAVES = st.none() | st.booleans() | st.integers(0, 9) | st.text("ab", min_size=1, max_size=4)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)
DOCUMENTS = st.dictionaries(NAMES, VALUES.filter(lambda value: value is not None), max_size=4)


@given(DOCUMENTS)
def test_document_when_read_and_written_back_then_unchanged(document: dict[str, Any]) -> None:
    assert merge(document, masked_for_reading(document)) == document


@given(st.dictionaries(NAMES, st.text("ab", min_size=1), max_size=4), st.lists(NAMES, max_size=4))
def test_secret_when_nested_anywhere_then_masked(document: dict[str, Any], path: list[str]) -> None:
    nested: Any = document
    for name in path:
        nested = {name: [nested]}
    for shown in (masked_for_reading(nested), masked_for_audit(nested)):
        kept = {name: value for name, value in document.items() if name in ("brand", "ttl")}
        assert _texts(shown) <= {MASK, *kept.values()}


@pytest.mark.parametrize(
    ("stored", "changes"),
    [
        ({}, {"client_secret": MASK}),
        ({"client_secret": 7}, {"client_secret": MASK}),
        ({"google": {}}, {"google": {"client_secret": MASK}}),
        ({"hooks": [{"token": "a"}]}, {"hooks": [{"token": MASK}, {"token": MASK}]}),
        ({"google": {"client_secret": "a"}}, {"github": {"client_secret": MASK}}),
    ],
)
def test_mask_when_no_secret_is_stored_there_then_refused(
    stored: dict[str, Any], changes: dict[str, Any]
) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        merge(stored, changes)
    assert caught.value.type == "mask_without_secret"


def test_mask_when_the_name_is_no_secrets_then_it_is_text() -> None:
    assert merge({"brand": "a"}, {"brand": MASK}) == {"brand": MASK}


def _texts(value: object) -> set[str]:
    match value:
        case str():
            return {value}
        case dict():
            return {text for item in value.values() for text in _texts(item)}
        case list():
            return {text for item in value for text in _texts(item)}
        case _:
            return set()
