"""How long ``station --help`` takes, beside an interpreter that does nothing."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from bench.figures import Effort, Figure
from bench.processes import STATION

MAX_SECONDS: Final = 0.2


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """See ``figures.Benchmark``."""
    times = effort.choose(3, 20, 100)
    say(f"cli: {times} times")
    floor, ours = [], []
    for _ in range(times):  # by turns, so that a busy moment meets both
        floor.append(_seconds([sys.executable, "-c", "pass"], work))
        ours.append(_seconds([str(STATION), "--help"], work))
    note = f"median of {times}, {min(ours) * 1e3:.0f} to {max(ours) * 1e3:.0f}"
    yield Figure("station --help", median(ours) * 1e3, "ms", at_most=MAX_SECONDS * 1e3, note=note)
    yield Figure("python -c pass", median(floor) * 1e3, "ms", note="the same interpreter: nothing can be faster")


def _seconds(command: Sequence[str], folder: Path) -> float:
    began = time.monotonic()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began
