"""For tests of what uses a manifest: boards and a certificate authority in software, and their way through the rows.

Shipped so that people who write exports, drivers or reports can fill a manifest in three lines::

    with Manifest.open(tmp_path / "manifest.db") as manifest:
        await manifest.open_order(ORDER)
        board = await provision(manifest, "board-1")

Never for a real line: the authority's key is made in memory, and nobody checks a board.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from station.manifest.manifest import Manifest
from station.manifest.rows import Intent, OrderTerms, Proof, RecordedCertificate, UnitRecord

ORDER: Final = OrderTerms("order-1", "sensor", "idevid", quantity=1000, serial_format="SN{number:06d}", first_number=1)
"""Terms of an order that is large enough for most tests."""

FIRMWARE: Final = hashlib.sha256(b"firmware 1.0.0").digest()

_SERIAL_BITS: Final = 126


@cache
def _authority() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True, slots=True)
class SoftDraft:
    """What is to be signed, and the certificate that comes of it."""

    tbs: bytes
    tbs_sha256: bytes
    serial: int
    certificate: bytes
    """DER."""


@dataclass(slots=True)
class SoftBoard:
    """A board with a key of its own."""

    hardware_id: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    drafts: list[SoftDraft] = field(default_factory=list)
    """What was drafted for it, the last one last."""

    @property
    def spki_sha256(self) -> bytes:
        """Digest of its public key."""
        spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(spki).digest()

    def draft(self, product_serial: str, *, serial: int | None = None) -> SoftDraft:
        """Draft a certificate for the board's key, as ``Manifest.reserve`` wants it."""
        now = datetime.now(UTC)
        name = x509.Name.from_rfc4514_string(f"CN={product_serial}")
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(x509.Name.from_rfc4514_string("CN=Software authority of a test"))
            .public_key(self.key.public_key())
            .serial_number(serial or 1 + secrets.randbits(_SERIAL_BITS))
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=1))
            .sign(_authority(), SHA256())
        )
        tbs = certificate.tbs_certificate_bytes
        made = SoftDraft(
            tbs, hashlib.sha256(tbs).digest(), certificate.serial_number, certificate.public_bytes(Encoding.DER)
        )
        self.drafts.append(made)
        return made

    def proof(self, certificate: bytes) -> Proof:
        """Sign a challenge."""
        challenge = secrets.token_bytes(32)
        message = challenge + hashlib.sha256(certificate).digest()  # bound to both, as a board's own is
        return Proof(challenge, message, self.key.sign(message, ec.ECDSA(SHA256())), certificate)


async def begin(manifest: Manifest, hardware_id: str, *, order: str = ORDER.name, slot: str = "1") -> UnitRecord:
    """Begin an attempt with a board of the model ``sensor``."""
    return await manifest.begin(
        hardware_id=hardware_id,
        model="sensor",
        firmware_version="1.0.0",
        firmware_sha256=FIRMWARE,
        slot=slot,
        order=order,
    )


async def reserve(manifest: Manifest, board: SoftBoard, unit: UnitRecord) -> Intent:
    """Reserve a certificate for a board."""
    return await manifest.reserve(unit.id, spki_sha256=board.spki_sha256, draft=board.draft)


async def issue(manifest: Manifest, board: SoftBoard, *, order: str = ORDER.name) -> RecordedCertificate:
    """Bring a board to its recorded certificate."""
    unit = await begin(manifest, board.hardware_id, order=order)
    intent = await reserve(manifest, board, unit)
    return await manifest.record(intent, board.drafts[-1].certificate)


async def provision(
    manifest: Manifest, hardware_id: str, *, order: str = ORDER.name, locks: int = 3
) -> RecordedCertificate:
    """Bring a new board to its pass."""
    board = SoftBoard(hardware_id)
    recorded = await issue(manifest, board, order=order)
    await manifest.passed(recorded.unit_id, board.proof(recorded.der), locks, 1.5)
    return recorded
