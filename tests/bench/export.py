"""``./run bench export``: units to each target, from a manifest of a million, recorded and in flat memory."""

import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bench.big_manifest import ORDER, fill
from bench.figures import Effort, Figure
from hsm.testing import open_signer
from softhsm import make_tokens
from station.exports.aws import Accounts, Bulk
from station.exports.azure import Azure
from station.exports.handover import ExportTarget, Terms, hand_over
from station.exports.jws_manifest import JwsManifest
from station.exports.leaf import Issuer
from station.exports.matter import Matter
from station.exports.naming import Naming
from station.exports.nrfcloud import NrfCloud
from station.exports.signature import TokenSeal, make_export_key, open_seal
from station.exports.tables import Form, Table
from station.manifest import Manifest, ManifestReader
from station.manifest.book import OwnBook
from station.manifest.handing import Lacking

MAX_SECONDS: Final = 60.0
"""For a million units, to each target that only writes files."""

MAX_MIB: Final = 160.0
"""Memory of the exporting process at its peak, however many units."""

PYARROW_MIB: Final = 100.0
"""What pyarrow takes besides."""

TOKEN_SHARE: Final = 0.3
"""Of the token's own C_Sign in a tight loop; a target made of signatures is as fast as its token lets it."""

SIGNED: Final = 20_000
"""Units of the target in which each is signed, at most."""

_MILLION: Final = 1_000_000
_ISSUER: Final = "CN=Big manifest issuing CA,O=Benchmark"
_PROBES: Final = 2000


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """Measure; see ``bench.figures.Benchmark``."""
    units = effort.choose(3_000, 100_000, _MILLION)
    manifest = work / "manifest.db"
    fill(manifest, units, notes=0, say=say)
    names = ("aws", "aws-accounts", "azure", "nrfcloud", "csv", "jsonl", "parquet", "matter")
    for name in names:
        say(f"{units:,} units to {name}")
        seconds, mib, busy = _in_child(partial(_export, manifest, work / "out", name))
        yield Figure(
            f"{name}: seconds a million units", seconds * _MILLION / units, "s", at_most=MAX_SECONDS,
            note=f"{units:,} units in {seconds:.1f} s ({busy * _MILLION / units:.1f} s of processor time a million)",
        )  # fmt: skip
        yield Figure(
            f"{name}: memory", mib, "MiB", at_most=MAX_MIB + (PYARROW_MIB if name == "parquet" else 0), timed=False
        )
    signed = min(units, SIGNED)
    say(f"{signed:,} units to jws, each signed in SoftHSM")
    seconds, mib, alone = _in_child(partial(_export_signed, manifest, work, signed))
    yield Figure("jws: units a second", signed / seconds, "/s")
    yield Figure(
        "jws: share of the token's own C_Sign", signed / seconds / alone, at_least=TOKEN_SHARE,
        note=f"one key signs {alone:,.0f} messages a second, asked one by one and in no hurry for files",
    )  # fmt: skip
    yield Figure("jws: memory", mib, "MiB", at_most=MAX_MIB, timed=False)


def _in_child(work: Callable[[], tuple[float, float, float]]) -> tuple[float, float, float]:
    """Run in a process of its own, whose peak of memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work)


def _issuer() -> Issuer:
    """Return a certificate with the name of the CA of the big manifest; nobody verifies its units here."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string(_ISSUER)
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2046, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, end)
    return Issuer.of(builder.sign(key, hashes.SHA256()))


def _target(name: str, issuer: Issuer) -> ExportTarget:
    naming = Naming.parse("{product_serial}")
    match name:
        case "aws":
            return Bulk(issuer, naming, "devices")
        case "aws-accounts":
            return Accounts(issuer, naming)
        case "azure":
            return Azure(issuer, naming, "group", individual=True)
        case "nrfcloud":
            return NrfCloud(issuer, naming)
        case "matter":
            return Matter(issuer, naming)
        case _:
            return Table(Form(name), naming)


def _export(manifest: Path, out: Path, name: str) -> tuple[float, float, float]:
    target = _target(name, _issuer())
    shutil.rmtree(out, ignore_errors=True)
    began, busy = time.monotonic(), time.process_time()
    with Manifest.open(manifest) as book, ManifestReader(manifest) as reader:
        units = reader.export(order=ORDER, lacking=Lacking(name, "bench"))
        done = hand_over(target, units, out, Terms("bench", 1), book=OwnBook(book))
    seconds, busy = time.monotonic() - began, time.process_time() - busy
    statement = json.loads((out / "export.json").read_text())
    assert statement["units"] == done.units
    return seconds, _peak(), busy


def _export_signed(manifest: Path, work: Path, count: int) -> tuple[float, float, float]:
    softhsm = make_tokens(work / "tokens", ["export"])
    with open_signer(softhsm, "export", writable=True) as signer:
        make_export_key(signer, work / "export.pem")
        seal = open_seal(signer, work / "export.pem")
        target = JwsManifest(_issuer(), Naming.parse("{product_serial}"), seal, "Benchmark")
        began = time.monotonic()
        with ManifestReader(manifest) as reader:
            hand_over(target, islice(reader.export(), count), work / "jws", Terms(), seal=seal)
        seconds = time.monotonic() - began
        alone = _alone(seal)
    return seconds, _peak(), alone


def _alone(seal: TokenSeal) -> float:
    """Return how many signatures a second the token makes when nothing else is done."""
    key = seal._key
    began = time.monotonic()
    for number in range(_PROBES):
        key.sign_message_blocking(b"message %d" % number)
    return _PROBES / (time.monotonic() - began)


def _peak() -> float:
    """Return MiB that this process held at the most; ``ru_maxrss`` would begin with what its parent held."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
