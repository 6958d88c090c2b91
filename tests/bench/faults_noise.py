"""Boards behind wires on which bits are turned, at 115200 baud."""

import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.judge import Judge, Verdict
from bench.place import Place
from bench.stations import Starter
from firmware_tools.virtual_line.line import VirtualLine
from firmware_tools.virtual_line.wire import Wire
from station.config import load

BAUD: Final = 115200
AT_ONCE: Final = 48
VISITS: Final = 3
"""How often a person puts a board in that fails, unless told."""

BITS: Final = 8
"""A turned start or stop bit is a lost byte on a real UART; here only the eight that carry data are turned."""

PATIENCE: Final = 240.0
"""Seconds for one line of boards, unless told."""

_TOKENS: Final = threading.Lock()
"""A module has one environment at a time in a process: two places take turns to have their orders signed."""


@dataclass
class Noise:
    """What noisy wires gave."""

    units: int
    at_once: int
    """Passed at their first visit."""
    verdict: Verdict


def noise(
    place: Place,
    program: Path,
    stations: Starter,
    rate: float,
    units: int,
    *,
    say: Callable[[str], None],
    visits: int = VISITS,
    patience: float = PATIENCE,
) -> Noise:
    """Let so many units pass, or not.

    Args:
        place: tokens and a CA, unused.
        program: the device.
        stations: starts them.
        rate: bits that are turned, as a share of all.
        units: how many.
        say: tells how far it is.
        visits: how often a board is put in at the most.
        patience: seconds after which a line of boards is left as it is.
    """
    work = place.folder
    manifest = work / "manifest.db"
    found = Noise(units, 0, Verdict())
    flashes: dict[str, Path] = {}
    signatures: dict[Path, None] = {}
    wire = Wire(baud=BAUD, flip_rate=1 - (1 - rate) ** BITS)
    while len(flashes) < units:
        boards = min(AT_ONCE, units - len(flashes))
        name = f"NOISE-{len(flashes)}"
        with VirtualLine(program, work / name / "boards", boards, wire=_seeded(wire, boards, name)) as line:
            with _TOKENS:
                run = place.run(f"{name}-run", line.ports, quantity=boards, manifest=manifest)
            found.at_once += _visits(stations, run.config, line, most=visits, patience=patience)
            flashes |= {board.hardware_id: board.storage / "flash.bin" for board in line.boards}
        signatures[load(run.config).ca.signatures] = None
        found.verdict = Judge(manifest, place.issuer, tuple(signatures)).judge(flashes)
        passed = found.verdict.passed
        say(f"faults: one bit in {1 / rate:,.0f}: {passed} of {len(flashes)} units passed, {found.at_once} at once")
    return found


def _seeded(wire: Wire, boards: int, name: str) -> dict[str, Wire]:
    """Return a wire for each slot; the dice of each depend on the round, so that no two rounds are alike."""
    seed = zlib.crc32(name.encode())
    return {
        f"slot{number}": Wire(baud=wire.baud, flip_rate=wire.flip_rate, seed=seed + number)
        for number in range(1, boards + 1)
    }


def _visits(stations: Starter, config: Path, line: VirtualLine, *, most: int, patience: float) -> int:
    """Serve the boards of a line; return how many passed at their first visit."""
    station = stations.start(config)
    visits = dict.fromkeys((board.slot.removeprefix("slot") for board in line.boards), 1)
    ended: Counter[str] = Counter()
    passed: set[str] = set()
    at_once = 0
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and not station.ends_within(0.1):
        events = [event for event in station.events() if event.get("state") in {"passed", "done_before", "failed"}]
        seen: Counter[str] = Counter()
        for event in events:
            slot = str(event["slot"])
            seen[slot] += 1
            if seen[slot] <= ended[slot]:
                continue  # told before
            ended[slot] += 1
            if event["state"] != "failed":
                at_once += slot not in passed and visits[slot] == 1
                passed.add(slot)
            elif slot not in passed and visits[slot] < most:
                visits[slot] += 1
                board = line.board(f"slot{slot}")
                board.unplug()
                board.plug()
        if all(slot in passed or ended[slot] >= most for slot in visits):
            break
    station.kill()
    station.end()
    return at_once
