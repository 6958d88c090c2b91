"""A manifest with as many units as one likes, made quickly: for benchmarks of what must not grow with the file.

::

    identities = fill(path, 1_000_000)          # three minutes and 2.9 GB
    identities(41)                              # what unit 42 is found by
    python tests/bench/big_manifest.py FILE UNITS [NOTES]

Every row goes through the schema with all its triggers, so what stands in the file is what a line could have written:
one bulk connection does it with ``executemany`` in large transactions, without an fsync before the end. That is the
only difference to the station's own writer.

Nothing is random: unit n is the same in every file. Certificates are of a real one's form and size, with the unit's
serial, product serial and key in it; they parse, and their signatures and keys are only bytes. One unit in
``VOID_EVERY`` has a void certificate before its live one.
"""

import asyncio
import hashlib
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from hsm.durable import time_text
from hsm.serials import serial_text
from station.manifest import Manifest, OrderTerms

ORDER: Final = "BIG"
MODEL: Final = "reference-device"
STARTED: Final = datetime(2026, 1, 5, 6, tzinfo=UTC)
"""When the first unit was begun; the others follow by ``UNIT_SECONDS``."""

UNIT_SECONDS: Final = 0.25
VOID_EVERY: Final = 500
BATCH: Final = 2000
"""Units in one round of statements."""

_FIRMWARE: Final = hashlib.sha256(b"firmware 1.0.0").digest()
_SERIAL_OCTETS: Final = 16
_POINT: Final = 64
"""Octets of a P-256 point without its leading 04."""

_MATTER: Final = "1.3.6.1.4.1.37244.2.1=FFF1,1.3.6.1.4.1.37244.2.2=8000"
"""Vendor and product id (Matter Core 6.2.2.2): so the same units can be exported as DACs."""

_SAME_WIDTH: Final = "SN{number:08d}"
"""Serial format of the order: all serials have one length, so that one template serves all certificates."""


@dataclass(frozen=True, slots=True)
class Identities:
    """What one unit can be found by."""

    hardware_id: str
    product_serial: str
    spki_sha256: bytes
    certificate_serial: int


class _Template:
    """One real certificate, cut where the units differ."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name.from_rfc4514_string("CN=Big manifest issuing CA,O=Benchmark")
        self._serial, self._product_serial = 1 << 120, _SAME_WIDTH.format(number=0)
        subject = x509.Name.from_rfc4514_string(f"CN={self._product_serial},O=Benchmark,{_MATTER}")
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(self._serial)
            .not_valid_before(STARTED)
            .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._spki_head, self._point = spki[:-_POINT], spki[-_POINT:]
        whole, self._tbs = certificate.public_bytes(Encoding.DER), certificate.tbs_certificate_bytes
        self._head, self._tail = whole.split(self._tbs)

    def spki_sha256(self, point: bytes) -> bytes:
        return hashlib.sha256(self._spki_head + point).digest()

    def tbs(self, serial: int, product_serial: str, point: bytes) -> bytes:
        tbs = self._tbs.replace(self._serial.to_bytes(_SERIAL_OCTETS), serial.to_bytes(_SERIAL_OCTETS), 1)
        tbs = tbs.replace(self._product_serial.encode(), product_serial.encode(), 1)
        return tbs.replace(self._point, point, 1)

    def certificate(self, tbs: bytes) -> bytes:
        return self._head + tbs + self._tail


_TEMPLATE: Final = _Template()


def fill(path: Path, units: int, *, notes: int = 1, say: Callable[[str], None] | None = None) -> "Units":
    """Make a manifest with units that passed.

    Args:
        path: where; must not exist yet.
        units: how many. Each writes four events of the schema (begin, intent, record, pass), and ``notes`` more.
        notes: events a unit beside the schema's own, as the steps of a line write them.
        say: told now and then how far it is.

    Returns:
        What its units are found by.
    """
    asyncio.run(_open_order(path, units))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute(f"PRAGMA cache_size = -{1 << 20}")  # the unique indexes are hit at random
        made = Units(units)
        for first in range(0, units, BATCH):
            connection.execute("BEGIN")
            _write(connection, made, range(first, min(first + BATCH, units)), notes)
            connection.execute("COMMIT")
            if say is not None and first % (BATCH * 25) == 0:
                say(f"{first:,} of {units:,} units in the manifest")
        connection.execute("PRAGMA locking_mode = NORMAL")
        connection.execute("PRAGMA journal_mode = WAL")
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return made


async def _open_order(path: Path, units: int) -> None:
    """Make the file, with an order for all units and as many again: all that a change of orders touches in here."""
    with Manifest.open(path, clock=lambda: STARTED) as manifest:
        terms = OrderTerms(
            name=ORDER,
            product=MODEL,
            profile="idevid",
            quantity=2 * units + 1_000_000,
            serial_format=_SAME_WIDTH,
            first_number=1,
        )
        await manifest.open_order(terms)


@dataclass(frozen=True, slots=True)
class Units:
    """The units of a manifest, each computed from its number."""

    count: int

    def __call__(self, number: int) -> Identities:
        """Return the identities of a unit, counted from 0."""
        point = _point(number)
        return Identities(
            f"BIG-{number:08d}",
            _SAME_WIDTH.format(number=1 + number),
            _TEMPLATE.spki_sha256(point),
            _certificate_serial(number, "live"),
        )


def _point(number: int) -> bytes:
    return hashlib.sha512(b"key %d" % number).digest()


def _certificate_serial(number: int, which: str) -> int:
    # The first octet is the station's, as in the line's own serials; so all have the template's length.
    return int.from_bytes(b"\x01" + hashlib.sha256(b"%s %d" % (which.encode(), number)).digest()[: _SERIAL_OCTETS - 1])


def _write(connection: sqlite3.Connection, units: Units, numbers: range, notes: int) -> None:
    """Bring some units from their first visit to their pass."""
    (row,) = connection.execute("SELECT id FROM production_order WHERE name = ?", (ORDER,)).fetchone()
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM unit").fetchone()
    (issuance,) = connection.execute("SELECT coalesce(max(id), 0) FROM issuance").fetchone()
    at = time_text(STARTED + timedelta(seconds=numbers[-1] * UNIT_SECONDS))
    ids = {number: last + 1 + offset for offset, number in enumerate(numbers)}
    known = {number: units(number) for number in numbers}
    many = connection.executemany
    many(
        "INSERT INTO unit (id, hardware_id, order_id, model, firmware_version, firmware_sha256, state, attempts, slot, "
        "first_seen_at, changed_at) VALUES (?, ?, ?, ?, '1.0.0', ?, 'open', 1, '1', ?, ?)",
        ((ids[number], known[number].hardware_id, row, MODEL, _FIRMWARE, at, at) for number in numbers),
    )
    many(
        "INSERT INTO event (at, unit_id, slot, step, kind, facts) VALUES (?, ?, '1', 'key', 'done', ?)",
        ((at, ids[number], '{"ms": "412"}') for number in numbers for _ in range(notes)),
    )
    many(
        "UPDATE unit SET product_serial = ?, changed_at = ? WHERE id = ?",
        ((known[number].product_serial, at, ids[number]) for number in numbers),
    )
    many(
        "INSERT INTO public_key (spki_sha256, unit_id) VALUES (?, ?)",
        ((known[number].spki_sha256, ids[number]) for number in numbers),
    )
    intent = (
        "INSERT INTO issuance (id, unit_id, state, spki_sha256, certificate_serial, tbs, tbs_sha256, signing_tries, "
        "intended_at, changed_at) VALUES (?, ?, 'intent', ?, ?, ?, ?, 1, ?, ?)"
    )
    record = (
        "UPDATE issuance SET state = 'recorded', certificate = ?, certificate_sha256 = ?, changed_at = ? WHERE id = ?"
    )

    def issue(chosen: list[int], which: str) -> Iterator[tuple[int, int]]:
        """Issue a certificate to each; yield (issuance, unit's number)."""
        nonlocal issuance
        intents, records, made = [], [], []
        for number in chosen:
            issuance += 1
            serial = _certificate_serial(number, which)
            tbs = _TEMPLATE.tbs(serial, known[number].product_serial, _point(number))
            certificate = _TEMPLATE.certificate(tbs)
            digest = hashlib.sha256(tbs).digest()
            spki = known[number].spki_sha256
            intents.append((issuance, ids[number], spki, serial_text(serial), tbs, digest, at, at))
            records.append((certificate, hashlib.sha256(certificate).digest(), at, issuance))
            made.append((issuance, number))
        many(intent, intents)
        many(record, records)
        return iter(made)

    given_up = issue([number for number in numbers if number % VOID_EVERY == VOID_EVERY - 1], "void")
    many(
        "UPDATE issuance SET state = 'void', void_reason = 'the board was erased', changed_at = ? WHERE id = ?",
        [(at, gone) for gone, _ in given_up],
    )
    live = list(issue(list(numbers), "live"))
    signature = hashlib.sha512(b"signature").digest()
    many(
        "INSERT INTO proof (issuance_id, challenge, message, signature, read_back_sha256, locks, seconds, at) "
        "SELECT ?, ?, ?, ?, certificate_sha256, 3, 8.5, ? FROM issuance WHERE id = ?",
        ((issued, _point(number)[:32], _point(number), signature, at, issued) for issued, number in live),
    )


if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]), notes=int(sys.argv[3]) if sys.argv[3:] else 1, say=print)
