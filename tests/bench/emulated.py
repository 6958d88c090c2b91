"""Four emulated microcontrollers from blank flash to PASS: the firmware is signed, packed, flashed and proven.

It is what ``./run demo --emulated`` does, with its own wires and with faster ones. Each board is a QEMU of its own, on
the cores that the station has too.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bench.figures import BenchError, Effort, Figure
from bench.place import ROOT
from firmware_tools.build import build_firmware
from firmware_tools.errors import BuildError

BOARDS: Final = 4
MAX_SECONDS: Final = 30.0
BAUDS: Final = (115_200, 921_600)

_STATION: Final = (sys.executable, "-c", "from station.cli import main; main()")


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """See ``figures.Benchmark``."""
    try:
        build_firmware(ROOT / "build")
    except BuildError as error:
        raise BenchError(str(error)) from error
    boards = effort.choose(2, BOARDS, BOARDS)
    for baud in BAUDS[effort.choose(1, 0, 0) :]:
        say(f"emulated: {boards} microcontrollers, wires of {baud} baud")
        began = time.monotonic()
        told = _demo(work / f"demo-{baud}", boards, baud)
        whole, summary = time.monotonic() - began, told[-1]
        yield Figure(
            f"at {baud}: boards that passed",
            summary["passed"],
            f"of {boards}",
            at_least=boards,
            at_most=boards,
            timed=False,
        )
        yield Figure(
            f"at {baud}: from blank to PASS",
            summary["seconds"],
            "s",
            at_most=MAX_SECONDS,
            note="first board's arrival to last board's end",
        )
        yield Figure(f"at {baud}: flashing of it", _flashing(told), "s", note="of the slowest board")
        yield Figure(f"at {baud}: with tokens, CA, keys, image, bundle and order", whole, "s", note="built before")


def _demo(folder: Path, boards: int, baud: int) -> list[dict[str, Any]]:
    """Run the demo in a new folder, and return what it told."""
    (folder / "boards").mkdir(parents=True)
    (folder / "boards" / "build").symlink_to(ROOT / "build", target_is_directory=True)
    options = ["--emulated", "--boards", str(boards), "--baud", str(baud), "--json", "--dir", str(folder)]
    done = subprocess.run([*_STATION, "demo", *options], capture_output=True, text=True, check=False, timeout=300)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    if not told or told[-1]["event"] != "summary":
        raise BenchError(f"the demo ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return told


def _flashing(told: list[dict[str, Any]]) -> float:
    """Return how long the slowest board was being written, from step to step."""
    begins: dict[str, float] = {}
    longest = 0.0
    for event in told:
        if event["event"] != "slot" or "percent" in event:
            continue
        at = datetime.fromisoformat(event["time"]).timestamp()
        if event["step"] == "flash":
            begins[event["slot"]] = at
        elif (began := begins.pop(event["slot"], None)) is not None:
            longest = max(longest, at - began)
    return longest
