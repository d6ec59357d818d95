"""gRPC: who may call, how errors cross, and that a peer's absence is a typed error."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chassis import deadlines
from chassis.context import Access, CallerContext, sign_context
from chassis.errors import AppError, Conflict, DeadlineExceeded, Kind, Unavailable
from chassis.internal_keys import BadCallerProof, InternalKeys
from chassis.rpc import CALLER, CONTEXT, PROOF, Channel, RpcServer, RpcService, TlsFiles, forwarded_caller
from contracts.gen.internal.orgs.v1 import clients_pb2, clients_pb2_grpc

ROOT = "cd" * 32
SERVICE = "internal.orgs.v1.ClientService"
GET = f"/{SERVICE}/GetClient"


class Servicer(clients_pb2_grpc.ClientServiceServicer):
    """Answers by the id it is asked for."""

    async def ResolveApiKey(self, request: Any, context: Any) -> clients_pb2.ResolveApiKeyResponse:  # noqa: N802
        return clients_pb2.ResolveApiKeyResponse(key_id=request.key_sha256.hex())

    async def AllowsOrigin(self, request: Any, context: Any) -> clients_pb2.AllowsOriginResponse:  # noqa: N802
        return clients_pb2.AllowsOriginResponse(allowed=bool(request.origin))

    async def GetClient(self, request: Any, context: Any) -> clients_pb2.Client:  # noqa: N802
        match request.client_id:
            case "taken":
                raise Conflict("It is taken.", retry_after=7, extra={"by": ["a", "b"], "since": 3})
            case "crash":
                raise RuntimeError("a secret detail")
            case "caller":
                return clients_pb2.Client(id=str(forwarded_caller().ip))
            case "time":
                return clients_pb2.Client(id=str(deadlines.remaining(60)))
            case name:
                return clients_pb2.Client(id=name)


def keys() -> InternalKeys:
    return InternalKeys.derive(ROOT, [("friend", "peer"), ("stranger", "peer"), ("gateway", "peer")])


def server(**changes: Any) -> RpcServer:
    service = RpcService(SERVICE, Servicer(), clients_pb2_grpc.add_ClientServiceServicer_to_server)
    values = {
        "process": "peer",
        "keys": keys(),
        "callers": {SERVICE: frozenset({"friend", "gateway"})},
        "tls": None,
        "share_port": False,
        "with_reflection": False,
    }
    return RpcServer([service], **{**values, **changes})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A running server's port."""
    running = server()
    yield await running.start("127.0.0.1:0")
    await running.stop(0)


async def ask(
    port: int, client_id: str, *, caller: str = "friend", own_keys: InternalKeys | None = None
) -> str:
    channel = Channel(f"127.0.0.1:{port}", caller=caller, callee="peer", keys=own_keys or keys())
    await channel.start()
    try:
        stub: Any = clients_pb2_grpc.ClientServiceStub(channel)  # type: ignore[call-overload]
        answer = await stub.GetClient(clients_pb2.GetClientRequest(client_id=client_id))
        return str(answer.id)
    finally:
        await channel.stop()


async def test_call_when_caller_is_listed_then_answered(port: int) -> None:
    assert await ask(port, "hello") == "hello"


async def test_call_when_caller_is_not_listed_then_forbidden(port: int) -> None:
    with pytest.raises(AppError) as refusal:
        await ask(port, "hello", caller="stranger")
    assert refusal.value.kind is Kind.FORBIDDEN


async def test_call_when_key_is_of_another_pair_then_unauthenticated(port: int) -> None:
    forged = InternalKeys({("friend", "peer"): keys().key("stranger", "peer")})
    with pytest.raises(AppError) as refusal:
        await ask(port, "hello", own_keys=forged)
    assert refusal.value.kind is Kind.UNAUTHENTICATED


async def raw(port: int, metadata: tuple[tuple[str, str], ...]) -> clients_pb2.Client:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = clients_pb2_grpc.ClientServiceStub(channel)
        request = clients_pb2.GetClientRequest(client_id="caller")
        answer: clients_pb2.Client = await stub.GetClient(request, metadata=metadata)
        return answer


async def test_call_when_proof_is_missing_or_of_another_method_then_unauthenticated(port: int) -> None:
    other = keys().prove("friend", "peer", f"/{SERVICE}/ResolveApiKey")
    for metadata in (
        (),
        ((CALLER, "friend"),),
        ((CALLER, "friend"), (PROOF, other)),
        ((CALLER, "friend"), (PROOF, "1.x")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await raw(port, metadata)
        assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("ago", "is_good"), [(0, True), (28, True), (-88, True), (118, True), (-95, False), (125, False)]
)
async def test_call_when_clocks_differ_then_proof_and_caller_are_good_and_replay_stays_bounded(
    port: int, ago: int, is_good: bool
) -> None:
    """F-10: both live for 30 s, and for the 90 s more that the clocks of two machines may differ by."""
    then = time.time() - ago
    context = CallerContext(access=Access.PUBLIC, request_id="r", ip="198.51.100.9")
    key = keys().key("gateway", "peer")
    old_proof = ((CALLER, "gateway"), (PROOF, keys().prove("gateway", "peer", GET, now=then)))
    new_proof = ((CALLER, "gateway"), (PROOF, keys().prove("gateway", "peer", GET)))
    old_caller = (CONTEXT, sign_context(context, key, "RPC", GET, now=then).decode())
    new_caller = (CONTEXT, sign_context(context, key, "RPC", GET).decode())
    assert (await raw(port, (*new_proof, new_caller))).id == "198.51.100.9"
    for metadata in ((*old_proof, new_caller), (*new_proof, old_caller)):
        if is_good:
            assert (await raw(port, metadata)).id == "198.51.100.9"
        else:
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await raw(port, metadata)
            assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_forwarded_caller_when_signed_for_the_pair_then_known_else_refused(port: int) -> None:
    context = CallerContext(access=Access.PUBLIC, request_id="r", ip="198.51.100.9")
    proof = ((CALLER, "gateway"), (PROOF, keys().prove("gateway", "peer", GET)))
    signed = sign_context(context, keys().key("gateway", "peer"), "RPC", GET).decode()
    assert (await raw(port, (*proof, (CONTEXT, signed)))).id == "198.51.100.9"
    forged = sign_context(context, keys().key("stranger", "peer"), "RPC", GET).decode()
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await raw(port, (*proof, (CONTEXT, forged)))
    assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.aio.AioRpcError) as missing:
        await raw(port, proof)
    assert missing.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_error_when_raised_by_the_callee_then_arrives_whole(port: int) -> None:
    with pytest.raises(AppError) as refusal:
        await ask(port, "taken")
    error = refusal.value
    assert (error.kind, error.code, error.detail, error.retry_after, error.extra) == (
        Kind.CONFLICT,
        "conflict",
        "It is taken.",
        7,
        {"by": ["a", "b"], "since": 3},
    )


async def test_error_when_unknown_then_says_nothing(port: int) -> None:
    with pytest.raises(AppError) as refusal:
        await ask(port, "crash")
    assert (refusal.value.kind, refusal.value.code) == (Kind.INTERNAL, "internal_error")
    assert "secret" not in str(refusal.value)


async def test_call_when_peer_is_away_then_unavailable() -> None:
    with pytest.raises(Unavailable):
        await ask(1, "hello")


async def test_call_when_peer_starts_anew_then_waits_for_it() -> None:
    first = server()
    port = await first.start("127.0.0.1:0")
    channel = Channel(f"127.0.0.1:{port}", caller="friend", callee="peer", keys=keys())
    await channel.start()
    stub: Any = clients_pb2_grpc.ClientServiceStub(channel.for_stubs)
    request = clients_pb2.GetClientRequest(client_id="hello")
    assert (await stub.GetClient(request)).id == "hello"
    await first.stop(0)
    with pytest.raises(Unavailable):
        await stub.GetClient(request, wait_for_ready=False)
    calls = [asyncio.create_task(stub.GetClient(request)) for _ in range(20)]
    second = server()
    await second.start(f"127.0.0.1:{port}")
    assert [(await call).id for call in calls] == ["hello"] * 20
    await channel.stop()
    await second.stop(0)


async def test_call_when_peer_stays_away_then_the_wait_is_short_and_within_the_budget() -> None:
    channel = Channel("127.0.0.1:1", caller="friend", callee="peer", keys=keys())
    await channel.start()
    stub: Any = clients_pb2_grpc.ClientServiceStub(channel.for_stubs)
    request = clients_pb2.GetClientRequest(client_id="hello")

    async def seconds(budget: float, **options: Any) -> float:
        deadlines.set_budget(budget)
        started = time.monotonic()
        with pytest.raises((Unavailable, DeadlineExceeded)):
            await stub.GetClient(request, **options)
        return time.monotonic() - started

    # Each in a task of its own: a budget is the task's.
    assert 0.9 < await asyncio.create_task(seconds(10)) < 2
    assert await asyncio.create_task(seconds(0.3)) < 0.8
    assert await asyncio.create_task(seconds(10, wait_for_ready=False)) < 0.8
    await channel.stop()


async def test_deadline_when_budget_is_short_then_passed_on(port: int) -> None:
    deadlines.set_budget(2)
    assert 0 < float(await ask(port, "time")) < 5
    deadlines.set_budget(-1)
    with pytest.raises(DeadlineExceeded):
        await ask(port, "time")
    deadlines.set_budget(60)


async def test_channel_when_one_of_two_addresses_is_dead_then_still_answered(port: int) -> None:
    channel = Channel(f"127.0.0.1:1,127.0.0.1:{port}", caller="friend", callee="peer", keys=keys())
    await channel.start()
    stub: Any = clients_pb2_grpc.ClientServiceStub(channel)  # type: ignore[call-overload]
    for _ in range(6):
        assert (await stub.GetClient(clients_pb2.GetClientRequest(client_id="x"))).id == "x"
    await channel.stop()


async def test_mtls_names_the_caller_by_certificate(tmp_path: Path) -> None:
    ca = _Authority()
    running = server(tls=ca.issue("localhost"))
    port = await running.start("127.0.0.1:0")

    async def call(tls: TlsFiles) -> str:
        # Names resolve through DNS here, as certificates are for names.
        channel = Channel(f"localhost:{port}", caller="ignored", callee="peer", keys=_AnyKeys({}), tls=tls)
        await channel.start()
        try:
            stub: Any = clients_pb2_grpc.ClientServiceStub(channel)  # type: ignore[call-overload]
            return str((await stub.GetClient(clients_pb2.GetClientRequest(client_id="x"))).id)
        finally:
            await channel.stop()

    assert await call(ca.issue("friend")) == "x"
    with pytest.raises(AppError) as refusal:
        await call(ca.issue("stranger"))
    assert refusal.value.kind is Kind.FORBIDDEN
    other = _Authority()
    with pytest.raises(Unavailable):
        await call(TlsFiles(other.issue("friend").certificate, other.issue("friend").key, ca.pem))
    await running.stop(0)


class _AnyKeys(InternalKeys):
    """Keys of nobody: with certificates no proof counts."""

    def prove(self, caller: str, callee: str, method: str, *, now: float | None = None) -> str:
        return "none"


class _Authority:
    """A certificate authority for one test."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.pem = self._sign(self._name, self._key, is_ca=True)

    def issue(self, name: str) -> TlsFiles:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, is_ca=False)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return TlsFiles(certificate, pem, self.pem)

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_ca: bool) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        name = subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(str(name))]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


def test_internal_keys_round_trip_and_hold_only_their_pairs() -> None:
    rendered = InternalKeys.derive(ROOT, [("friend", "peer")]).render()
    read = InternalKeys.parse(rendered)
    assert read.key("friend", "peer") == keys().key("friend", "peer")
    with pytest.raises(BadCallerProof):
        read.key("gateway", "peer")
