"""Lists of clients and keys: filters, pages, and cursors that cannot be changed."""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.harness import Answer, System, Tenant


async def get(system: System, path: str = "", **query: Any) -> Answer:
    where = f"/api/admin/clients{path}" + (f"?{urlencode(query)}" if query else "")
    return await system.call("orgs", "GET", where, caller=system.admin())


async def pages(system: System, path: str = "", **query: Any) -> list[list[dict[str, Any]]]:
    """Read a list to its end."""
    read = []
    cursor: dict[str, str] = {}
    while True:
        answer = await get(system, path, **query, **cursor)
        assert answer.status == 200, answer.body
        read.append(answer.json["items"])
        if answer.json["next_cursor"] is None:
            return read
        cursor = {"cursor": answer.json["next_cursor"]}


async def test_list_when_paged_then_each_client_once_newest_first(system: System) -> None:
    word = secrets.token_hex(4)
    made = [(await system.tenant(name=f"Paged {word} {number}")).document for number in range(5)]
    read = await pages(system, q=word, limit=2)
    assert [len(page) for page in read] == [2, 2, 1]
    assert sorted(client["id"] for page in read for client in page) == sorted(client["id"] for client in made)
    ids = [client["id"] for page in read for client in page]
    assert ids == sorted(ids, reverse=True)
    everything = await get(system, q=word)
    assert everything.json == {"items": [client for page in read for client in page], "next_cursor": None}


async def test_list_when_filtered_then_only_what_matches(system: System) -> None:
    word = secrets.token_hex(4)
    active = await system.tenant(name=f"Bäcker {word} 100%_")
    suspended = await system.tenant(name="Other", slug=f"by-slug-{word}")
    path = f"/api/admin/clients/{suspended.id}"
    await system.call("orgs", "PATCH", path, caller=system.admin(), json={"status": "suspended"})

    async def found(**query: Any) -> set[str]:
        return {client["id"] for page in await pages(system, **query) for client in page}

    assert await found(q=word) == {str(active.id), str(suspended.id)}
    assert await found(q=word.upper()) == {str(active.id), str(suspended.id)}
    assert await found(q=word, status="active") == {str(active.id)}
    assert await found(q=word, status="suspended") == {str(suspended.id)}
    # Text is text: no wildcard, no SQL.
    assert await found(q=f"{word} 100%_") == {str(active.id)}
    assert await found(q=f"{word}%") == set()
    assert await found(q="' OR 1=1 --") == set()


async def test_list_when_keys_are_paged_then_each_once(system: System, tenant: Tenant) -> None:
    for number in range(3):
        path = f"/api/admin/clients/{tenant.id}/api-keys"
        await system.call("orgs", "POST", path, caller=system.admin(), json={"name": f"k{number}"})
    read = await pages(system, f"/{tenant.id}/api-keys", limit=2)
    assert [len(page) for page in read] == [2, 2, 1]
    assert len({key["id"] for page in read for key in page}) == 5
    assert {key["client_id"] for page in read for key in page} == {str(tenant.id)}


async def test_cursor_when_changed_or_of_another_list_then_400(system: System, tenant: Tenant) -> None:
    word = secrets.token_hex(4)
    for number in range(2):
        await system.tenant(name=f"Cursor {word} {number}")
    first = await get(system, q=word, limit=1)
    cursor = first.json["next_cursor"]
    assert (await get(system, q=word, limit=1, cursor=cursor)).status == 200
    flipped = [
        cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        for place in range(len(cursor) - 1)
    ]
    for forged in (*flipped, "x", "AAAA", "ü", "' OR 1=1", cursor[:-4], cursor + cursor):
        answer = await get(system, q=word, limit=1, cursor=forged)
        assert (answer.status, answer.code) == (400, "invalid_cursor"), forged
    for query in ({"q": word[1:]}, {"q": word, "status": "active"}, {}):
        answer = await get(system, **query, limit=1, cursor=cursor)
        assert (answer.status, answer.code) == (400, "invalid_cursor"), query
    keys = f"/{tenant.id}/api-keys"
    own = (await get(system, keys, limit=1)).json["next_cursor"]
    other = await system.tenant()
    assert (await get(system, keys, limit=1, cursor=own)).status == 200
    assert (await get(system, f"/{other.id}/api-keys", limit=1, cursor=own)).code == "invalid_cursor"
    assert (await get(system, keys, limit=1, cursor=cursor)).code == "invalid_cursor"
    assert (await get(system, limit=1, cursor=own)).code == "invalid_cursor"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("status=deleted", "status"),
        ("q=", "q"),
        (f"q={'x' * 121}", "q"),
        (f"q={quote(chr(0))}", "q"),
        (f"cursor={'x' * 1025}", "cursor"),
    ],
)
async def test_list_when_parameter_is_bad_then_422(system: System, query: str, field: str) -> None:
    answer = await system.call("orgs", "GET", f"/api/admin/clients?{query}", caller=system.admin())
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, field)
