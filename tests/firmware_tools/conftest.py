"""Fixtures of the reference device's tests: the program in its variants, boards on a socket, a CA of three lines.

Variants: against the system's Mbed TLS (Debian 12: 2.28), against the source of 3.6, and that one under the sanitizers.
A board that is done with is unplugged and has to end by itself, with nothing on stderr: this is where a sanitizer's
report, leaks included, fails a test.
"""

import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError
from smp import packet

from firmware_tools.build import build_device, fetch_mbedtls, system_mbedtls_version
from firmware_tools.provisioning_group import ChainWrite, ChainWriteResponse, CsrWrite

BUILD = Path(__file__).parents[2] / "build"
PATIENCE = 10.0
OPT_OUT = "WITHOUT_MBEDTLS_3_6"


def _mbedtls_source():
    if os.environ.get(OPT_OUT):
        pytest.skip(f"{OPT_OUT} is set")
    return fetch_mbedtls(BUILD)  # no network: an error, not a skip. Who can't have it says so with the variable


def _build(variant):
    if variant == "system":
        return build_device(BUILD)
    if variant == "source" and system_mbedtls_version() >= (3, 0, 0):
        pytest.skip("the system's own Mbed TLS is 3.x: the variant 'system' is this one")
    return build_device(BUILD, mbedtls_source=_mbedtls_source(), sanitize=variant == "sanitized")


@pytest.fixture(scope="session")
def mbedtls_source() -> Path:
    return _mbedtls_source()


@pytest.fixture(scope="session", params=["system", "source", "sanitized"])
def device(request):
    """The program, in each variant."""
    return _build(request.param)


@pytest.fixture(scope="session")
def sanitized():
    """The program under the sanitizers."""
    return _build("sanitized")


@pytest.fixture(scope="session")
def plain():
    """The program as the demo builds it."""
    return _build("system")


@pytest.fixture(scope="session")
def build_folder():
    return BUILD


class Board:
    """One device on a socket, and the wire of SMP to it."""

    def __init__(self, program: Path, storage: Path, *options: str) -> None:
        self.storage = storage
        self.wire, far = socket.socketpair()
        self.wire.settimeout(PATIENCE)
        self.noise = b""
        self._unread = b""
        with far:
            command = [program, "--storage", storage, "--hardware-id", "HW-0001", "--fd", str(far.fileno()), *options]
            self.process = subprocess.Popen(command, pass_fds=[far.fileno()], stderr=subprocess.PIPE, text=True)

    def line(self) -> bytes:
        while b"\n" not in self._unread:
            more = self.wire.recv(65536)
            if not more:
                raise ConnectionResetError
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        return line + b"\n"

    def message(self) -> bytes:
        """Read on to the end of the next SMP message; lines of log go to ``noise``."""
        decoder = None
        while True:
            line = self.line()
            if line.startswith(packet.START_DELIMITER):
                decoder = packet.decode()
                next(decoder)
            elif not line.startswith(packet.CONTINUE_DELIMITER) or decoder is None:
                self.noise += line
                continue
            try:
                decoder.send(line)
            except StopIteration as end:
                return end.value

    def exchange(self, message: bytes) -> bytes:
        self.wire.sendall(b"".join(packet.encode(message)))
        return self.message()

    def ask(self, request):
        """Send a request, return the response or the error in it."""
        answer = self.exchange(request.BYTES)
        assert answer[6] == request.header.sequence
        for kind in (request._Response, request._ErrorV2):
            with suppress(ValidationError):
                return kind.loads(answer)
        return request._ErrorV1.loads(answer)

    def csr(self) -> x509.CertificateSigningRequest:
        answer = self.ask(CsrWrite(off=0))
        assert len(answer.data) == answer.len
        return x509.load_der_x509_csr(answer.data)

    def install(self, chain: bytes, piece: int = 1900):
        """Send a chain in pieces; return the last answer."""
        for offset in range(0, len(chain), piece):
            part = chain[offset : offset + piece]
            if offset == 0:
                answer = self.ask(ChainWrite(off=0, data=part, len=len(chain), sha=sha256(chain).digest()))
            else:
                answer = self.ask(ChainWrite(off=offset, data=part))
            if not isinstance(answer, ChainWriteResponse):
                break
        return answer

    def kill(self) -> None:
        self.process.kill()
        self.join()

    def join(self) -> int:
        """Wait until the process has ended, whatever ended it."""
        self.wire.close()
        _, errors = self.process.communicate(timeout=PATIENCE)
        assert errors == ""
        return self.process.returncode

    def unplug(self) -> None:
        if self.process.returncode is None:
            assert self.join() == 0


@pytest.fixture
def power_on(tmp_path) -> Iterator[Callable[..., Board]]:
    """Start a board: ``power_on(program, *options, storage="board")``."""
    boards = []

    def start(program: Path, *options: str, storage: str = "board") -> Board:
        boards.append(Board(program, tmp_path / storage, *options))
        return boards[-1]

    yield start
    for board in boards:
        board.unplug()


class Ca:
    """A root, and an intermediate that signs boards; keys and dates are fixed, so that certificates repeat."""

    def __init__(self, intermediate_key=None) -> None:
        self._root = ec.derive_private_key(1, ec.SECP256R1())
        self._key = intermediate_key or ec.derive_private_key(2, ec.SECP256R1())
        self.intermediate = self.certify("Intermediate", self._key.public_key(), "Root", self._root, is_ca=True)

    @staticmethod
    def certify(subject, public_key, issuer, issuer_key, *, is_ca=False, critical_oid=None, names=None) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(public_key)
            .serial_number(4711)
            .not_valid_before(datetime(2026, 1, 1))  # noqa: DTZ001 - certificates are in UTC
            .not_valid_after(datetime(9999, 12, 31, 23, 59, 59))  # noqa: DTZ001 - the same
            .add_extension(x509.BasicConstraints(is_ca, 0 if is_ca else None), critical=True)
        )
        if critical_oid is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(critical_oid, b"\x05\x00"), critical=True)
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        algorithm = hashes.SHA384() if getattr(issuer_key, "key_size", 0) == 384 else hashes.SHA256()
        deterministic = True if isinstance(issuer_key, ec.EllipticCurvePrivateKey) else None
        certificate = builder.sign(issuer_key, algorithm, ecdsa_deterministic=deterministic)
        return certificate.public_bytes(serialization.Encoding.DER)

    def leaf(self, public_key, subject: str = "HW-0001", **wishes) -> bytes:
        return self.certify(subject, public_key, "Intermediate", self._key, **wishes)

    def chain(self, public_key) -> bytes:
        return self.leaf(public_key) + self.intermediate


@pytest.fixture(scope="session")
def ca() -> Ca:
    return Ca()


@pytest.fixture(scope="session")
def make_ca() -> type[Ca]:
    return Ca


@pytest.fixture(scope="session")
def board_class() -> type[Board]:
    return Board


def make_mcuboot_image(version, *, size=200, protected=False) -> tuple[bytes, bytes]:
    """Return an image in MCUboot's form, unsigned, and the hash by which it is named."""
    protected_tlvs = struct.pack("<HHHHI", 0x6908, 12, 0x50, 4, 7) if protected else b""
    header = struct.pack("<IIHHIIBBHII", 0x96F3B83D, 0, 32, len(protected_tlvs), size, 0, *version, 0)
    body = bytes(i * 7 % 251 for i in range(size))
    digest = sha256(header + body + protected_tlvs).digest()
    tlvs = struct.pack("<HHHH", 0x6907, 40, 0x10, 32) + digest
    return header + body + protected_tlvs + tlvs, digest


def tlv(kind, value) -> bytes:
    return struct.pack("<HH", kind, len(value)) + value


def key_tlv(key) -> bytes:
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return tlv(0x01, sha256(spki).digest())


def make_signed_image(version, keys, *, body=bytes(200), header_size=32, flags=0, spoil=lambda tlvs: tlvs) -> bytes:
    """Return an image in MCUboot's form, signed by each key as imgtool does it; ``spoil`` may change its TLVs."""
    header = struct.pack("<IIHHIIBBHII", 0x96F3B83D, 0, header_size, 0, len(body), flags, *version, 0)
    signed = header.ljust(header_size, b"\0") + body
    tlvs = [tlv(0x10, sha256(signed).digest())]
    for key in keys:
        signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
        tlvs += [key_tlv(key), tlv(0x22, signature.ljust(72, b"\0"))]
    area = b"".join(spoil(tlvs))
    return signed + struct.pack("<HH", 0x6907, 4 + len(area)) + area


@pytest.fixture(scope="session")
def image_key() -> ec.EllipticCurvePrivateKey:
    """What the images of boards with a bootloader are signed with."""
    return ec.derive_private_key(7, ec.SECP256R1())


@pytest.fixture(scope="session")
def image_key_file(image_key, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("image-key") / "image-key.pem"
    public = image_key.public_key()
    path.write_bytes(public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return path


@pytest.fixture(scope="session")
def signed_image(image_key) -> Callable[..., bytes]:
    return lambda version, keys=(image_key,), **wishes: make_signed_image(version, keys, **wishes)


@pytest.fixture(scope="session")
def mcuboot_image() -> Callable[..., tuple[bytes, bytes]]:
    return make_mcuboot_image
