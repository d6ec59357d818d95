"""Hashing of passwords in a bounded pool of separate, low-priority processes.

A hash costs as much as a thousand token validations: it must not run in the event loop, must not wait without
end, and on a shared machine yields to everything else. When `queue` passwords wait, more are refused at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
import unicodedata
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram

from chassis import deadlines
from chassis.errors import DeadlineExceeded
from services.identity.errors import HashingInterrupted, Overloaded
from services.identity.passwords.schemes import SCHEMES, HashPolicy, Scheme, scheme_of

log = structlog.get_logger()

MAX_BYTES = 72
"""bcrypt reads no more; a longer password is refused, never cut."""

_LONGEST_WAIT_SECONDS = 30.0
_LONGEST_HASH_SECONDS = 60.0
_STOP_SECONDS = 2.0
_RESTART_SECONDS = 0.5
_WORKER = Path(__file__).with_name("hash_worker.py")
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")

QUEUED = Gauge("password_hash_queue_depth", "Passwords waiting to be hashed.", multiprocess_mode="livesum")
BUSY = Gauge("password_hash_busy", "Workers that are hashing.", multiprocess_mode="livesum")
SHED = Counter("password_hash_shed_total", "Passwords refused because too many wait.")
DIED = Counter("password_hash_worker_deaths_total", "Workers that died.")
SECONDS = Histogram(
    "password_hash_seconds",
    "Time a worker took.",
    ["scheme", "operation"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5),
)


def normalize(password: str) -> bytes:
    """Return the bytes that are hashed: UTF-8 of the NFC form, so that keyboards do not matter.

    NIST SP 800-63B-4 §3.1.1.2 asks for NFC or NFKC; the same on every face. Nothing is trimmed.
    """
    return unicodedata.normalize("NFC", password).encode()


@dataclass(slots=True, eq=False)
class _Task:
    request: dict[str, Any]
    scheme: str
    answer: asyncio.Future[dict[str, Any]]
    is_started: bool = field(default=False)


class PasswordHasher:
    """Hashes and verifies passwords by the configured policy."""

    def __init__(self, policy: HashPolicy, *, workers: int, queue: int, niceness: int) -> None:
        """Take the policy, the count of processes, how many may wait, and by how much they yield."""
        self.policy = policy
        self.stored_schemes: Collection[Scheme] = SCHEMES
        """The schemes that stored hashes have, as far as it is known; any, until somebody has looked."""
        self._workers = workers
        self._queue = queue
        self._niceness = niceness
        self._waiting: deque[_Task] = deque()
        self._wake = asyncio.Condition()
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the workers."""
        self._running = [asyncio.create_task(self._work()) for _ in range(self._workers)]

    async def stop(self) -> None:
        """End the workers; what waits is refused."""
        for worker in self._running:
            worker.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        while self._waiting:
            _refuse(self._waiting.popleft())
        QUEUED.set(0)

    async def hash(self, password: str) -> str:
        """Hash a new password, which the password policy has accepted.

        Raises:
            ValueError: it is longer than can be hashed; nothing is ever cut.
            Overloaded: too many wait.
            HashingInterrupted: the worker died.
        """
        encoded = normalize(password)
        if len(encoded) > MAX_BYTES:
            raise ValueError("a password over 72 bytes cannot be hashed")
        policy = self.policy
        request = {"do": "hash", "password": encoded.decode(), "scheme": policy.scheme, "cost": policy.cost}
        answer = await self._submit(request, policy.scheme)
        return str(answer["hash"])

    async def verify(self, stored: str | None, password: str) -> bool:
        """Check a password against a stored hash, or for as long against a decoy when there is none.

        A password over 72 bytes matches nothing and costs nothing, whoever it is for. A stored hash of an
        unknown scheme or an absurd cost matches nothing.

        Raises:
            Overloaded: too many wait.
            HashingInterrupted: the worker died.
        """
        encoded = normalize(password)
        if len(encoded) > MAX_BYTES:
            return False
        if stored is not None and not self.policy.accepts(stored):
            log.error("stored password hash not accepted", form=stored[:7])
            stored = None
        evaluated = stored or self.policy.decoy()
        evening = self.policy.evening(self.stored_schemes)
        request = {
            "do": "verify",
            "password": encoded.decode(),
            "hash": evaluated,
            "even_cost": evening.bcrypt_cost,
            "even_argon2id": evening.argon2id,
        }
        answer = await self._submit(request, scheme_of(evaluated))
        return stored is not None and answer["matches"] is True

    def is_same(self, one: str, other: str) -> bool:
        """Whether two given passwords are one password."""
        return normalize(one) == normalize(other)

    async def _submit(self, request: dict[str, Any], scheme: str) -> dict[str, Any]:
        if len(self._waiting) >= self._queue:
            SHED.inc()
            raise Overloaded
        longest_wait = deadlines.remaining(_LONGEST_WAIT_SECONDS)
        task = _Task(request, scheme, asyncio.get_running_loop().create_future())
        self._waiting.append(task)
        QUEUED.set(len(self._waiting))
        try:
            async with self._wake:
                self._wake.notify()
            async with asyncio.timeout(longest_wait):
                return await task.answer
        except TimeoutError:
            if task.is_started:
                raise DeadlineExceeded from None
            SHED.inc()
            raise Overloaded from None
        finally:
            if task in self._waiting:  # whoever asked has gone; make room
                self._waiting.remove(task)

    async def _work(self) -> None:
        """Keep one worker process, for ever: a task at a time, a new process when the old one dies."""
        while True:
            try:
                process = await _spawn(self._niceness)
            except OSError:
                log.exception("hash worker does not start")
                await asyncio.sleep(_RESTART_SECONDS)
                continue
            watch = asyncio.create_task(self._watch(process))
            try:
                while await self._serve_one(process):
                    pass
            finally:
                watch.cancel()
                await _end(process)
            DIED.inc()
            log.error("hash worker died", returncode=process.returncode)

    async def _serve_one(self, process: asyncio.subprocess.Process) -> bool:
        """Do the next task; false when the process has died."""
        task = await self._next(process)
        if task is None:
            return False
        task.is_started = True
        BUSY.inc()
        started = time.perf_counter()
        try:
            # Not `wait_for`, which in Python 3.11 may swallow the cancellation that stops this worker.
            async with asyncio.timeout(_LONGEST_HASH_SECONDS):
                answer = await _ask(process, task.request)
        except TimeoutError:
            answer = None
        except BaseException:
            _refuse(task)
            raise
        finally:
            BUSY.dec()
        if answer is None:
            _refuse(task)
            return False
        SECONDS.labels(task.scheme, task.request["do"]).observe(time.perf_counter() - started)
        if not task.answer.done():
            task.answer.set_result(answer)
        return True

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Wake the keeper of a process that ends: one that dies idle is replaced before it is needed."""
        await process.wait()
        async with self._wake:
            self._wake.notify_all()

    async def _next(self, process: asyncio.subprocess.Process) -> _Task | None:
        """Wait for the next task for a process; None when the process has ended."""
        async with self._wake:
            await self._wake.wait_for(lambda: self._waiting or process.returncode is not None)
            if process.returncode is not None:
                self._wake.notify()  # the task that this may have been woken for is another worker's
                return None
            task = self._waiting.popleft()
            QUEUED.set(len(self._waiting))
            return task


async def _spawn(niceness: int) -> asyncio.subprocess.Process:
    """Start a process. Cancelled, it is ended first: asyncio may hang when starting itself is cancelled."""
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(_WORKER),
            str(niceness),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await _end(await starting)
        raise


async def _ask(process: asyncio.subprocess.Process, request: dict[str, Any]) -> dict[str, Any] | None:
    """Send one request and return the answer; None when the process has died."""
    if process.stdin is None or process.stdout is None:
        raise LookupError("the worker was started without pipes")
    try:
        process.stdin.write(json.dumps(request).encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
    except (ConnectionError, RuntimeError):
        return None
    if not line.endswith(b"\n"):
        return None
    answer: dict[str, Any] = json.loads(line)
    return answer


async def _end(process: asyncio.subprocess.Process) -> None:
    """Let the process end by closing its input; kill it when it does not."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _refuse(task: _Task) -> None:
    if not task.answer.done():
        task.answer.set_exception(HashingInterrupted())
