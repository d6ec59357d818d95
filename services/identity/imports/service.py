"""The rules of imports: every line is judged alone, an address that is known is left alone.

Repeating an import, after it broke off or to add what was refused, therefore creates nobody twice and changes
nobody.
"""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from prometheus_client import Counter

from chassis import deadlines
from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database
from chassis.errors import AppError
from chassis.ids import new_id
from chassis.models import checked
from chassis.outbox import Outbox
from contracts import events
from contracts.clients import ClientDirectory
from services.identity.errors import EmailTaken, HashNotSupported, LineTooLong, LineUnreadable
from services.identity.imports import store
from services.identity.imports.lines import lines_of
from services.identity.imports.models import (
    FirebaseHash,
    ImportedUser,
    LineReport,
    LineStatus,
    ParametersLine,
    Summary,
    UserLine,
)
from services.identity.passwords.foreign import (
    FirebaseParameters,
    firebase_hash,
    read_exported,
)
from services.identity.passwords.inventory import SchemeInventory
from services.identity.passwords.schemes import HashPolicy, native_scheme
from services.identity.users.email import Email
from services.identity.users.fields import metadata_json
from services.identity.users.models import UserId, UserStatus

log = structlog.get_logger()

LINES = Counter("imported_lines_total", "Lines of imports, by what became of them.", ["status"])

_METHOD = "import"
_BATCH = 100
_LINES_AT_ONCE = 16
_BATCH_SECONDS = 15.0


class ImportService:
    """Creates users of another system, hashes and all."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        clients: ClientDirectory,
        policy: HashPolicy,
        inventory: SchemeInventory,
    ) -> None:
        """Take the parts, all built in `app.py`."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._clients = clients
        self._policy = policy
        self._inventory = inventory

    async def begin(
        self, caller: CallerContext, client_id: UUID, body: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """Return the report of an import, which goes on while it is read.

        Raises:
            ClientNotFound: there is no such client.
        """
        await self._clients.get(client_id)
        return self._report(caller, client_id, body)

    async def _report(
        self, caller: CallerContext, client_id: UUID, body: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """Yield a line for each line, and a summary; whatever ends it early is in the summary."""
        summary = Summary()
        try:
            async for batch in _batches(body, _Reader(self._policy, self._clock.now())):
                # Each batch has its own time: the whole may take longer than any request.
                deadlines.set_budget(_BATCH_SECONDS)
                for report in await self._store(caller, client_id, batch):
                    summary.counts[report.status] += 1
                    LINES.labels(report.status).inc()
                    yield report.encode()
            deadlines.set_budget(_BATCH_SECONDS)
        except AppError as error:
            summary.code = error.code
        done = events.UsersImported(
            target_id=client_id,
            created=summary.counts[LineStatus.CREATED],
            skipped=summary.counts[LineStatus.SKIPPED],
            errors=summary.counts[LineStatus.ERROR],
            is_complete=summary.code is None,
        )
        try:
            await self._outbox.append(done, caller, client_id=client_id)
        except AppError as error:
            summary.code = summary.code or error.code
        yield summary.encode()

    async def _store(
        self, caller: CallerContext, client_id: UUID, batch: Sequence[ImportedUser | LineReport]
    ) -> list[LineReport]:
        """Store the users of a batch in one transaction, and report its lines in their order."""
        users = [item for item in batch if isinstance(item, ImportedUser)]
        hashes = (user.password_hash for user in users if user.password_hash)
        await self._inventory.note({scheme for text in hashes if (scheme := native_scheme(text))})
        async with self._db.tenant(client_id) as tx:
            created = await store.insert(tx, users, self._clock.now()) if users else set()
            rest = [user.email_normalized for user in users if user.id not in created]
            known = await store.ids_of(tx, rest) if rest else {}
            news = [
                self._outbox.wrap(
                    events.UserCreated(target_id=user.id, method=_METHOD), caller, client_id=client_id
                )
                for user in users
                if user.id in created
            ]
            await self._outbox.emit_all(tx, news)
        return [
            item
            if isinstance(item, LineReport)
            else LineReport(item.line, LineStatus.CREATED, item.id)
            if item.id in created
            else LineReport(
                item.line, LineStatus.SKIPPED, known.get(item.email_normalized), code=EmailTaken.code
            )
            for item in batch
        ]


async def _batches(
    body: AsyncIterator[bytes], reader: _Reader
) -> AsyncIterator[list[ImportedUser | LineReport]]:
    """Yield what the lines hold, in batches; empty lines are passed over."""
    batch: list[ImportedUser | LineReport] = []
    try:
        async for number, line in lines_of(body):
            if number % _LINES_AT_ONCE == 0:
                # Judging lines is work without a pause; others' requests are not to wait for a whole batch.
                await asyncio.sleep(0)
            found = reader.read(number, line)
            if found is not None:
                batch.append(found)
            if len(batch) == _BATCH:
                yield batch
                batch = []
    except AppError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


class _Reader:
    """Reads lines; remembers the parameters that some hold for those that follow."""

    def __init__(self, policy: HashPolicy, now: datetime) -> None:
        self._policy = policy
        self._now = now
        self._firebase: FirebaseParameters | None = None

    def read(self, number: int, line: bytes | None) -> ImportedUser | LineReport | None:
        """Return the user of a line or its refusal; None for one that holds neither."""
        try:
            members = _members(line)
            if members is None:
                return None
            if "firebase_scrypt" in members:
                self._firebase = checked(ParametersLine, members).firebase_scrypt.parameters()
                return None
            return self._user(number, checked(UserLine, members))
        except AppError as error:
            return LineReport.of_error(number, error)

    def _user(self, number: int, line: UserLine) -> ImportedUser:
        email = Email.parse(line.email)
        return ImportedUser(
            line=number,
            id=UserId(new_id()),
            email=email.address,
            email_normalized=email.normalized,
            email_verified=line.email_verified,
            display_name=line.display_name or "",
            role=line.role or "user",
            status=line.status or UserStatus.ACTIVE,
            metadata_json=metadata_json(line.metadata or {}),
            locale=line.locale,
            phone=line.phone,
            created_at=min(line.created_at or self._now, self._now),
            password_hash=self._hash(line.password_hash) if line.password_hash else None,
        )

    def _hash(self, exported: str | FirebaseHash) -> str:
        """Return the stored form of a hash that may be evaluated.

        Raises:
            HashNotSupported: there is none, or evaluating it would cost too much.
        """
        try:
            if isinstance(exported, str):
                stored = read_exported(exported)
            elif self._firebase is not None:
                stored = firebase_hash(exported.hash, exported.salt, self._firebase)
            else:
                raise HashNotSupported(
                    "A line with the project's `firebase_scrypt` parameters must come first."
                )
        except ValueError:
            raise HashNotSupported from None
        if not self._policy.accepts_import(stored):
            raise HashNotSupported
        return stored


def _members(line: bytes | None) -> dict[str, Any] | None:
    """Parse a line; None when it is empty.

    Raises:
        LineTooLong, LineUnreadable: it is no JSON object of a reasonable size.
    """
    if line is None:
        raise LineTooLong
    text = line.removeprefix(codecs.BOM_UTF8).strip()
    if not text:
        return None
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        raise LineUnreadable from None
    if not isinstance(members, dict):
        raise LineUnreadable
    return members
