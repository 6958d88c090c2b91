"""The child process of ``issue``: pinned to one core, prints one JSON object a figure.

Usage: ``python -m bench.issue_pinned FOLDER UNITS ROUNDS``; the folder holds what ``Place.make`` made.
"""

import asyncio
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import Mechanism

from bench.place import ISSUING_TOKEN, Place
from hsm import Authority, Csr, Profile, Signer, TokenUri, new_serial
from hsm.authority import LintedTbs
from softhsm import make_tokens
from station.manifest import Manifest
from station.orders.taken import TakenNotes
from station.testing.orders import open_signed

CONCURRENT: Final = (1, 8, 64)
"""How many units ask for a certificate at the same time."""

BEGIN_AT_ONCE: Final = 256
"""Units that are begun together, before the clock runs."""

ROW_BYTES: Final = 800
"""Of the row in the raw commit: about what a TBS and its serials take."""

STATION_ID: Final = 1
ORDER: Final = "BENCHMARK"


def main(folder: Path, units: int, rounds: int) -> None:
    """Measure all in turn, ``rounds`` times, and print medians."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before any thread starts: threads inherit it
    place = Place(folder, make_tokens(folder / "tokens", [ISSUING_TOKEN]))
    requests = list(_requests(units))
    rates: dict[str, list[float]] = {}
    uri = TokenUri.parse(place.tokens.uri(ISSUING_TOKEN))
    with Signer.open(uri, environment=place.tokens.environment) as signer:
        for turn in range(rounds):
            measured = {
                "raw_sign": _raw_signatures(signer, place.issuer, units),
                "raw_commit": _raw_commits(folder / f"raw-{turn}.db", min(units, 1000)),
            }
            for concurrent in CONCURRENT:
                path = folder / f"manifest-{turn}-{concurrent}.db"
                issued = asyncio.run(_issuance(signer, place, path, requests, concurrent))
                measured[f"issue_{concurrent}"], measured[f"processor_{concurrent}"] = issued
            for name, rate in measured.items():
                rates.setdefault(name, []).append(rate)
            print(json.dumps({"turn": turn + 1}), flush=True)  # noqa: T201 - this is the output
    for name, values in rates.items():
        line = {"name": name, "median": median(values), "least": min(values), "most": max(values)}
        print(json.dumps(line), flush=True)  # noqa: T201 - this is the output


def _requests(count: int) -> Iterator[bytes]:
    """Make CSRs as boards would; keys in software, since the boards are not what is measured."""
    for number in range(count):
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"HW-{number:06d}")])
        key = ec.generate_private_key(ec.SECP256R1())
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        yield request.public_bytes(Encoding.DER)


def _raw_signatures(signer: Signer, issuer: x509.Certificate, count: int) -> float:
    """Return C_Sign a second: python-pkcs11 in a tight loop, on one digest, with nothing around it."""
    public = issuer.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)

    def loop(session: Any) -> float:
        (key,) = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
        digest = bytes(32)
        began = time.perf_counter()
        for _ in range(count):
            key.sign(digest, mechanism=Mechanism.ECDSA)
        return count / (time.perf_counter() - began)

    return signer.call_blocking(loop)


def _raw_commits(path: Path, count: int) -> float:
    """Return commits of one row a second, as durable as the manifest's."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, content BLOB)")
        began = time.perf_counter()
        for _ in range(count):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO row (content) VALUES (?)", (bytes(ROW_BYTES),))
            connection.execute("COMMIT")
        return count / (time.perf_counter() - began)


async def _issuance(
    signer: Signer, place: Place, path: Path, requests: Sequence[bytes], concurrent: int
) -> tuple[float, float]:
    """Return certificates a second, each from CSR to recorded row: of the clock, and of this process on the core."""
    authority = await Authority.open(signer, issuer=place.issuer)
    profile = Profile.load("idevid")
    with Manifest.open(path) as manifest:
        orders = await open_signed(manifest, name=ORDER, quantity=len(requests), station_id=STATION_ID)
        orders.at_station(
            frozenset(), lambda seal: TakenNotes(signer, seal, manifest.identity, folder=path.with_suffix(".notes"))
        )
        order = orders.warrant(ORDER)
        work = iter(list(zip(await _begun(manifest, len(requests)), requests, strict=True)))

        async def issue(unit_id: int, request: bytes) -> None:
            csr = Csr.parse(request)
            made: list[LintedTbs] = []

            def draft(product_serial: str) -> LintedTbs:
                fields = {"product_serial": product_serial, "hardware_id": f"HW-{unit_id:06d}"}
                fields |= {"model": "reference-device", "order": ORDER}
                serial, now = new_serial(STATION_ID), datetime.now(UTC)
                key, spki = csr.public_key, csr.spki
                made.append(authority.draft(profile, key, fields=fields, serial=serial, now=now, spki=spki))
                return made[-1]

            intent = await manifest.reserve(
                unit_id, spki_sha256=csr.spki_sha256, draft=draft, order=order.terms, taken=order.taken
            )
            warrant = order.unit(intent.product_serial, holder=f"HW-{unit_id:06d}", product=order.terms.product)
            await manifest.record(intent, await authority.issue(made[-1], warrant=warrant))

        async def one_after_the_other() -> None:
            for unit_id, request in work:
                await issue(unit_id, request)

        began, worked = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrent):
                group.create_task(one_after_the_other())
        return len(requests) / (time.perf_counter() - began), len(requests) / (time.process_time() - worked)


async def _begun(manifest: Manifest, count: int) -> list[int]:
    """Begin so many units and return their ids: identified, and nothing more."""

    async def begin(number: int) -> int:
        unit = await manifest.begin(
            hardware_id=f"HW-{number:06d}",
            model="reference-device",
            firmware_version="1.0.0",
            firmware_sha256=bytes(32),
            slot="1",
            order=ORDER,
        )
        return unit.id

    ids: list[int] = []
    for first in range(0, count, BEGIN_AT_ONCE):
        ids += await asyncio.gather(*map(begin, range(first, min(first + BEGIN_AT_ONCE, count))))
    return ids


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
