"""The probe port: what a kubelet and Prometheus ask without a certificate, and nothing else."""

from __future__ import annotations

import asyncio
import datetime
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PROGRAM = """
import asyncio
from chassis.app import App
from chassis.settings import Settings

async def face(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the api"})

async def away():
    raise OSError("away")

app = App("probed", Settings.load(), lambda probes: face, required={"database": away})
asyncio.run(app.run())
"""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A folder with `tls.crt` and `tls.key`, self-signed for localhost, thus also the CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "tls.key").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    return tmp_path


@contextmanager
def running(certificate: Path, port: int, probe_port: int) -> Iterator[Popen[bytes]]:
    """A process that demands certificates on its port, and has a probe port."""
    env = {
        "PATH": os.environ["PATH"],
        "PORT": str(port),
        "PROBE_PORT": str(probe_port),
        "INTERNAL_TLS_CERT": str(certificate / "tls.crt"),
        "INTERNAL_TLS_KEY": str(certificate / "tls.key"),
        "INTERNAL_TLS_CA": str(certificate / "tls.crt"),
    }
    with Popen([sys.executable, "-c", PROGRAM], env=env, stderr=PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=20)
            assert process.returncode == 0, errors.decode()


async def until_alive(client: httpx.AsyncClient, url: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await client.get(f"{url}/healthz")
            except httpx.ConnectError:
                await asyncio.sleep(0.05)
            else:
                return


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


async def test_probe_port_when_certificates_are_demanded_then_probes_answer_and_the_api_does_not(
    certificate: Path,
) -> None:
    port, probe_port = free_ports(2)
    url = f"http://127.0.0.1:{probe_port}"
    with running(certificate, port, probe_port):
        async with httpx.AsyncClient() as client:
            await until_alive(client, url)
            assert (await client.get(f"{url}/healthz")).json() == {"status": "ok"}
            ready = await client.get(f"{url}/readyz")
            assert (ready.status_code, ready.json()["checks"]) == (503, {"database": "away"})
            assert "python_info" in (await client.get(f"{url}/metrics")).text
            assert (await client.get(f"{url}/api/auth/me")).status_code == 404
            assert (await client.post(f"{url}/healthz")).status_code == 404

        trusting = ssl.create_default_context(cafile=str(certificate / "tls.crt"))
        async with httpx.AsyncClient(verify=trusting) as nameless:
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError, httpx.ConnectError)):
                await nameless.get(f"https://localhost:{port}/")
        trusting.load_cert_chain(certificate / "tls.crt", certificate / "tls.key")
        async with httpx.AsyncClient(verify=trusting) as named:
            assert (await named.get(f"https://localhost:{port}/")).text == "the api"
