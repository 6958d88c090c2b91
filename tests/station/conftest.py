"""Fixtures of the station's tests: a tty without hardware, and a CA of two lines."""

import os
import pty
import select
import tty
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ChainMaker = Callable[[bytes], list[bytes]]

CONFIG = """
[station]
id = 1
[ca]
token = "pkcs11:token=none?pin-source=prompt:"
[order]
name = "WO-1"
trusted = ["oem.pem"]
[product]
model = "reference-device"
locks = []
"""


class PtyPort:
    """A pseudo-terminal: ``path`` is the station's end, the master is ours."""

    def __init__(self) -> None:
        self.master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)

    def say(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.master, data) :]

    def hear(self, size: int, seconds: float = 5.0) -> bytes:
        heard = b""
        while len(heard) < size and select.select([self.master], [], [], seconds)[0]:
            heard += os.read(self.master, size - len(heard))
        return heard

    def unplug(self) -> None:
        for descriptor in (self._slave, self.master):
            if descriptor >= 0:
                os.close(descriptor)
        self.master = self._slave = -1


@pytest.fixture
def pty_port() -> Iterator[PtyPort]:
    port = PtyPort()
    yield port
    port.unplug()


@pytest.fixture(scope="session")
def config_text() -> Callable[..., str]:
    """Text of a line that flashes and needs no token: ``config_text(ports, product="", slot="")``, lines of each."""

    def text(ports: Iterable[object], *, product: str = "", slot: str = "") -> str:
        slots = (f'[[slot]]\nname = "{n}"\nport = "{port}"\n{slot}\n' for n, port in enumerate(ports, 1))
        return f"{CONFIG}{product}\n{''.join(slots)}"

    return text


@pytest.fixture(scope="session")
def make_chain() -> ChainMaker:
    """Sign a CSR: a leaf and its issuer, DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Intermediate CA of the tests")])
    issuer = _certificate(name, name, key.public_key(), key, x509.BasicConstraints(ca=True, path_length=0))
    return lambda csr: [_leaf(csr, name, key), issuer]


def _leaf(csr: bytes, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> bytes:
    request = x509.load_der_x509_csr(csr)
    public_key = request.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    return _certificate(request.subject, issuer, public_key, key)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    key: ec.EllipticCurvePrivateKey,
    constraints: x509.BasicConstraints | None = None,
) -> bytes:
    builder = x509.CertificateBuilder(issuer, subject, public_key, x509.random_serial_number())
    date = partial(datetime, tzinfo=UTC)
    builder = builder.not_valid_before(date(2025, 1, 1)).not_valid_after(date(2045, 1, 1))
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
