"""The process that ``batch`` measures: pinned before any thread starts, it signs folders, then lets the token sign.

Prints a line of JSON a turn, then one a figure.
"""

import asyncio
import json
import os
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import Mechanism

from hsm import Authority, KeyKind, Profile, Signer
from hsm.batch import Batch, End, Outcome, request_files
from hsm.issuing import Desk
from hsm.journal import CaJournal
from hsm.testing import TemporaryCa, temporary_ca

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
"""Where requests and certificates are: to make a file on ext4 was seen to cost 30 or 900 microseconds, by the block
group that its folder happens to be in. The journal is on the disk that is measured."""

_WARM: Final = 1000
"""Requests after which memory is looked at first."""
_RAW_SECONDS: Final = 1.0
"""About how long the token is measured alone, before and after each turn."""


def main(folder: Path, kind: KeyKind, cores: int, count: int, turns: int) -> None:
    """Measure, ``turns`` times, and print medians."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])  # before any thread starts: threads inherit it
    found: dict[str, list[float]] = {}
    with (
        TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else folder) as files,
        temporary_ca(folder, intermediate_kind=kind, counts=folder / "counts") as ca,
    ):
        requests = Path(files) / "requests"
        requests.mkdir()
        for number, content in enumerate(_requests(count)):
            (requests / f"unit-{number:06d}.csr").write_bytes(content)
        for turn in range(turns):
            before = _raw(ca.signer, kind)
            measured = asyncio.run(_batch(ca, Path(files), folder / f"ca-{turn}.db", count))
            measured["raw"] = (before + _raw(ca.signer, kind)) / 2
            measured["share"] = measured["batch"] / measured["raw"] * 100
            for name, value in measured.items():
                found.setdefault(name, []).append(value)
            print(json.dumps({"turn": turn + 1}), flush=True)  # noqa: T201 - this is the output
    for name, values in found.items():
        line = {"name": name, "median": median(values), "least": min(values), "most": max(values)}
        print(json.dumps(line), flush=True)  # noqa: T201 - this is the output


def _requests(count: int) -> Iterator[bytes]:
    """Make CSRs as devices would; keys in software, since devices are not what is measured."""
    for number in range(count):
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"HW-{number:06d}")])
        key = ec.generate_private_key(ec.SECP256R1())
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        yield request.public_bytes(Encoding.DER)


def _raw(signer: Signer, kind: KeyKind) -> float:
    """Return C_Sign a second: python-pkcs11 in a tight loop, with nothing around it."""
    mechanism = Mechanism.ECDSA if kind is KeyKind.P256 else Mechanism.SHA256_RSA_PKCS
    message = bytes(32 if kind is KeyKind.P256 else 400)

    def loop(session: Any) -> float:
        (key,) = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < _RAW_SECONDS:
            for _ in range(16):
                key.sign(message, mechanism=mechanism)
            done += 16
        return done / (time.perf_counter() - began)

    return signer.call_blocking(loop)


async def _batch(ca: TemporaryCa, files: Path, path: Path, count: int) -> dict[str, float]:
    """Sign the folder with a new journal; return rates and how much memory grew."""
    authority = await Authority.open(ca.signer, issuer=ca.issuer, chain=[ca.root])
    out = files / "out"
    out.mkdir()
    ends: Counter[End] = Counter()
    memory: list[int] = []

    def tell(outcome: Outcome) -> None:
        ends[outcome.end] += 1
        if ends.total() in {min(_WARM, count // 2), count}:
            memory.append(_resident())

    with CaJournal.open(path) as journal:
        fields = {"product_serial": "BENCHMARK"}
        desk = Desk(authority, journal, Profile.load("tls-client"), 1, fields, batch="bench")
        began, worked = time.perf_counter(), time.process_time()
        await Batch(desk, out, tell=tell).sign(request_files(files / "requests"))
        seconds, processor = time.perf_counter() - began, time.process_time() - worked
    if ends != {End.SIGNED: count}:
        raise RuntimeError(f"not all were signed: {ends}")
    shutil.rmtree(out)
    return {
        "batch": count / seconds,
        "processor": count / processor,
        "growth": (memory[-1] - memory[0]) / 2**20,
    }


def _resident() -> int:
    """Return bytes of memory in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main(Path(sys.argv[1]), KeyKind(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
