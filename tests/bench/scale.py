"""A manifest of a million units beside an empty one: what must not grow with it.

Both are made through the schema with its triggers (``big_manifest.py``), and measured by turns: issuing (the real
authority on a SoftHSM token, from the first sight of a board to its recorded certificate), look-ups by each of the four
identities, opening, and what the running line asks for now and then. The export is measured for its memory alone.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench.big_manifest import MODEL, ORDER, Identities, Units, fill
from bench.figures import Effort, Figure
from bench.hostile import megabytes
from bench.place import ISSUING_TOKEN, Place
from hsm import Authority, Profile, Signer, TokenUri, new_serial
from hsm.authority import LintedTbs
from hsm.testing import unordered
from station.exports import jsonl
from station.manifest import Manifest, ManifestReader

MAX_RATIO: Final = 1.2
"""What issuing may cost in the big manifest, times the empty one."""

MAX_LOOKUP: Final = 1.0
"""Milliseconds of a look-up: the whole history of a unit."""

MAX_OPENING: Final = 0.5
"""Seconds of opening the big manifest for writing."""

MAX_GROWTH: Final = 64.0
"""MiB that an export of all units may take."""

STATION: Final = 1
CONCURRENT: Final = 8
"""Units that are issued at the same time."""


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """See ``figures.Benchmark``."""
    count = effort.choose(2000, 100_000, 1_000_000)
    each, turns = effort.choose(20, 400, 800), effort.choose(1, 7, 11)
    big, empty = work / "big.db", work / "empty.db"
    began = time.perf_counter()
    units = fill(big, count, say=lambda text: say(f"scale: {text}"))
    seconds = time.perf_counter() - began
    yield Figure("units in the big manifest", count, note=f"made in {seconds:.0f} s, {_gigabytes(big):.2f} GB")
    fill(empty, 0)
    yield from _issuing(work, [empty, big], each, turns, say)
    yield from _opening(empty, big)
    yield from _lookups(big, units, effort.choose(50, 1000, 2000))
    yield from _export(big)


# Issuing.


def _issuing(work: Path, paths: Sequence[Path], each: int, turns: int, say: Callable[[str], None]) -> Iterator[Figure]:
    place = Place.make(work)
    uri = TokenUri.parse(place.tokens.uri(ISSUING_TOKEN))
    costs: dict[Path, list[tuple[float, float]]] = {path: [] for path in paths}
    with Signer.open(uri, environment=place.tokens.environment) as signer:
        for turn in range(turns):
            for path in paths if turn % 2 else reversed(paths):
                costs[path].append(asyncio.run(_issue(signer, place, path, each)))
            say(f"scale: issuing, turn {turn + 1} of {turns}")
    empty, big = (costs[path] for path in paths)
    for name, which in (("", 0), (", processor time", 1)):
        ratio = median(there[which] / here[which] for here, there in zip(empty, big, strict=True))
        here, there = (median(cost[which] for cost in costs[path]) * 1e3 for path in paths)
        note = f"{there:.2f} ms of {here:.2f} ms; median of {turns} turns, {CONCURRENT} units at once"
        yield Figure(f"issuing, times the empty manifest{name}", ratio, at_most=MAX_RATIO, note=note)


async def _issue(signer: Signer, place: Place, path: Path, count: int) -> tuple[float, float]:
    """Return the seconds that a unit takes, of the clock and of this process."""
    authority = await Authority.open(signer, issuer=place.issuer)
    profile = unordered(Profile.load("idevid"))
    keys = iter([ec.generate_private_key(ec.SECP256R1()).public_key() for _ in range(count)])
    with Manifest.open(path) as manifest:

        async def issue(key: ec.EllipticCurvePublicKey) -> None:
            hardware_id = secrets.token_hex(8)
            unit = await manifest.begin(
                hardware_id=hardware_id,
                model=MODEL,
                firmware_version="1.0.0",
                firmware_sha256=bytes(32),
                slot="1",
                order=ORDER,
            )
            drafts: list[LintedTbs] = []

            def draft(product_serial: str) -> LintedTbs:
                fields = {"product_serial": product_serial, "hardware_id": hardware_id, "model": MODEL, "order": ORDER}
                serial, now = new_serial(STATION), datetime.now(UTC)
                drafts.append(authority.draft(profile, key, fields=fields, serial=serial, now=now))
                return drafts[-1]

            intent = await manifest.reserve(unit.id, spki_sha256=_spki(key), draft=draft)
            await manifest.record(intent, await authority.issue(drafts[-1]))

        async def one_after_the_other() -> None:
            for key in keys:
                await issue(key)

        began, worked = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENT):
                group.create_task(one_after_the_other())
        return (time.perf_counter() - began) / count, (time.process_time() - worked) / count


def _spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


# Opening and reading.


def _opening(empty: Path, big: Path) -> Iterator[Figure]:
    seconds = {}
    for path in (empty, big):
        with _timed() as taken:
            manifest = Manifest.open(path)
        manifest.close()
        seconds[path] = taken[0]
    note = f"empty {seconds[empty] * 1e3:.1f} ms"
    yield Figure("opening it to write", seconds[big] * 1e3, "ms", at_most=MAX_OPENING * 1e3, note=note)


def _lookups(big: Path, units: Units, times: int) -> Iterator[Figure]:
    spell: dict[str, Callable[[Identities], str]] = {
        "hardware id": lambda unit: unit.hardware_id,
        "product serial": lambda unit: unit.product_serial,
        "public key": lambda unit: unit.spki_sha256.hex(),
        "certificate serial": lambda unit: f"{unit.certificate_serial:x}",
    }
    with ManifestReader(big) as reader:
        for name, spelled in spell.items():
            taken = sorted(_lookup(reader, units, spelled) for _ in range(times))
            note = f"median of {times} at random, 99 % under {taken[-1 - times // 100] * 1e3:.2f} ms"
            yield Figure(f"look-up by {name}", median(taken) * 1e3, "ms", at_most=MAX_LOOKUP, note=note)
        asked: dict[str, Callable[[], Any]] = {
            "the newest 20 units": lambda: list(reader.units(limit=20, newest_first=True)),
            "the orders, and what each has given": reader.orders,
            "names of the orders": reader.order_names,
            "void certificates": lambda: sum(1 for _ in reader.revocation_list()),
            "units in each state": reader.counts,
        }
        for name, ask in asked.items():
            with _timed() as seconds:
                ask()
            yield Figure(f"reading: {name}", seconds[0] * 1e3, "ms")


def _lookup(reader: ManifestReader, units: Units, spelled: Callable[[Identities], str]) -> float:
    unit = units(secrets.randbelow(units.count))
    identity = spelled(unit)
    with _timed() as seconds:
        found = reader.unit(identity)
    assert found is not None
    assert found.unit.hardware_id == unit.hardware_id
    return seconds[0]


def _export(big: Path) -> Iterator[Figure]:
    before = megabytes()
    with ManifestReader(big) as reader, Path(os.devnull).open("w", encoding="utf-8") as target, _timed() as seconds:
        count = jsonl.export(reader.export(), target)
    yield Figure("units exported a second", count / seconds[0], "1/s", note="JSON lines")
    yield Figure("memory that the export took", max(0.0, megabytes() - before), "MiB", at_most=MAX_GROWTH)


@contextmanager
def _timed() -> Iterator[list[float]]:
    """Yield a list that holds the seconds of the block when it has ended."""
    taken: list[float] = []
    began = time.perf_counter()
    yield taken
    taken.append(time.perf_counter() - began)


def _gigabytes(path: Path) -> float:
    return path.stat().st_size / 1e9
