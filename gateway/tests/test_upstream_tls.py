"""The client of the forward path over TLS: whom it believes, and that streams survive it."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.tests.upstream_peer import OK, Peer, PeerConnection, answering, soon
from gateway.upstream import Upstream, UpstreamUnavailable


def _tls(directory: Path, address: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Server and client settings with a certificate of its own for ``address``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "service")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / "service.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))


async def test_tls_when_the_certificate_fits_then_served_streamed_and_kept(tmp_path: Path) -> None:
    size = 4 * 1024 * 1024

    async def script(connection: PeerConnection) -> None:
        for _ in range(2):
            await connection.head()
            await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
        await connection.until_closed()

    server, client = _tls(tmp_path, "127.0.0.1")
    async with Peer(script, tls=server) as peer:
        upstream = Upstream(f"https://{peer.address}", client)
        for _ in range(2):
            response = await upstream.request(b"GET", b"/", [], None, soon(30))
            assert sum([len(chunk) async for chunk in response.body()]) == size
        assert peer.connections == 1
        await upstream.close()


async def test_tls_when_the_certificate_is_of_another_then_unavailable(tmp_path: Path) -> None:
    server, client = _tls(tmp_path, "127.0.0.2")
    async with Peer(answering(OK), tls=server) as peer:
        upstream = Upstream(f"https://{peer.address}", client)
        with pytest.raises(UpstreamUnavailable) as caught:
            await upstream.request(b"GET", b"/", [], None, soon())
        assert str(peer.port) not in str(caught.value)
        await upstream.close()
