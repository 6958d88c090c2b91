"""TLS 1.3 with OpenSSL: an issued server certificate and an issued client certificate trust each other's CA."""

import socket
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from hsm import Authority, Csr, KeyKind, Profile
from hsm.certificate_files import Form, written
from hsm.issuing import Desk
from hsm.journal import CaJournal
from hsm.testing import temporary_ca

HOST = "server.example.com"


@pytest.fixture(scope="module", params=[KeyKind.P256, KeyKind.RSA2048], ids=lambda kind: kind.value)
def folder(request, tmp_path_factory):
    """A folder with keys and chains of a server and two clients, one of them of another CA."""
    import asyncio  # noqa: PLC0415 - only here

    made = tmp_path_factory.mktemp("tls")
    for ca in ("ours", "theirs"):
        with temporary_ca(made / ca, intermediate_kind=request.param) as opened:
            asyncio.run(_certify(made, opened, ca))
    return made


async def _certify(folder, ca, prefix):
    authority = await Authority.open(ca.signer, issuer=ca.issuer, chain=[ca.root])
    with CaJournal.open(folder / f"{prefix}.db") as journal:
        for who, profile in (("server", "tls-server"), ("client", "tls-client")):
            key = ec.generate_private_key(ec.SECP256R1())
            request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
            desk = Desk(authority, journal, Profile.load(profile), 1, {"product_serial": "ci-7"})
            names = [x509.DNSName(HOST)] if who == "server" else []
            issued = await desk.issue(Csr.parse(request.public_bytes(Encoding.DER)), names=names)
            (folder / f"{prefix}-{who}.pem").write_bytes(written(issued.der, authority.chain, Form.CHAIN))
            (folder / f"{prefix}-{who}.key").write_bytes(
                key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            )
    (folder / f"{prefix}-root.pem").write_bytes(ca.root.public_bytes(Encoding.PEM))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def handshake(folder, client, *, root="ours-root.pem", host=HOST):
    """Let s_client meet s_server; return what each said, and the client's exit code."""
    port = free_port()
    server = subprocess.Popen(
        [
            *("openssl", "s_server", "-accept", str(port), "-naccept", "1", "-tls1_3", "-Verify", "3"),
            *("-verify_return_error", "-CAfile", "ours-root.pem", "-key", "ours-server.key"),
            *("-cert", "ours-server.pem", "-cert_chain", "ours-server.pem"),
        ],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with server:
        for line in server.stdout:
            if line.startswith("ACCEPT"):
                break
        given = ["-key", f"{client}.key", "-cert", f"{client}.pem", "-cert_chain", f"{client}.pem"] if client else []
        done = subprocess.run(
            [
                *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3", "-CAfile", root),
                *("-verify_return_error", "-verify_hostname", host, *given),
            ],
            cwd=folder,
            input="Q\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        said, _ = server.communicate(timeout=30)
    return said, done.stdout + done.stderr, done.returncode


def test_server_and_client_shake_hands(folder):
    server, client, _ = handshake(folder, "ours-client")
    assert "Verification: OK" in client
    assert "TLSv1.3" in client
    assert "CN = ci-7" in server or "CN=ci-7" in server
    assert "verify error" not in server


def test_server_refuses_a_client_of_another_ca(folder):
    server, _, _ = handshake(folder, "theirs-client")
    assert "verify error" in server


def test_server_refuses_a_client_without_a_certificate(folder):
    server, _, _ = handshake(folder, None)
    assert "peer did not return a certificate" in server


def test_server_refuses_a_server_certificate_as_a_clients(folder):
    server, _, _ = handshake(folder, "ours-server")
    assert "unsuitable certificate purpose" in server or "unsupported certificate purpose" in server


def test_client_refuses_a_server_of_another_name(folder):
    _, client, code = handshake(folder, "ours-client", host="other.example.com")
    assert "ostname mismatch" in client
    assert code


def test_client_refuses_a_server_of_another_ca(folder):
    _, client, code = handshake(folder, "ours-client", root="theirs-root.pem")
    assert "verify error" in client
    assert code
