"""Issuance with journal on one core: ``Csr.parse``, ``Manifest.reserve``, ``Authority.issue``, ``Manifest.record``.

A child process does it, pinned to one core with all its threads (``issue_pinned.py``). Beside it, in the same process
and by turns, what the parts can do alone: the token's raw signatures, and SQLite's raw commits.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bench.figures import BenchError, Effort, Figure
from bench.place import Place

MIN_RATE: Final = 1000.0

CONCURRENT: Final = (1, 8, 64)
"""As in ``issue_pinned``."""

COUNTED: Final = 64
"""The number of units at once that the limit is about: what a full line asks for."""


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """See ``figures.Benchmark``."""
    units = effort.choose(100, 2000, 5000)
    turns = effort.choose(1, 3, 9)
    Place.make(work)
    command = [sys.executable, "-m", "bench.issue_pinned", str(work), str(units), str(turns)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    rates: dict[str, dict[str, Any]] = {}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        say(f"issue: {turns} turns of {units} units")
        for line in child.stdout:
            facts = json.loads(line)
            if "turn" in facts:
                say(f"issue: turn {facts['turn']} of {turns}")
            else:
                rates[facts["name"]] = facts
    if child.returncode:
        raise BenchError("the pinned process failed; its reason stands above")
    for concurrent in CONCURRENT:
        rate = rates[f"issue_{concurrent}"]
        at_once = f"{concurrent} units at once" if concurrent > 1 else "one unit at a time"
        yield Figure(
            f"certificates a second, {at_once}",
            rate["median"],
            "1/s",
            at_least=MIN_RATE if concurrent == COUNTED else None,
            note=f"median of {turns}, {rate['least']:.0f} to {rate['most']:.0f}",
        )
    yield Figure(
        f"the same a second of processor time, {COUNTED} at once",
        rates[f"processor_{COUNTED}"]["median"],
        "1/s",
        note="all threads: what the core could do if the disk took no time and no other program ran",
    )
    signatures, commits = rates["raw_sign"]["median"], rates["raw_commit"]["median"]
    ours = rates[f"issue_{COUNTED}"]["median"]
    yield Figure("the token alone, C_Sign in a tight loop", signatures, "1/s", note="python-pkcs11, P-256")
    yield Figure("issuance as a share of it", ours / signatures * 100, "%", note=f"{COUNTED} units at once")
    yield Figure("SQLite alone, a commit a row", commits, "1/s", note="WAL, synchronous=FULL, 800 bytes")
    yield Figure("issuance as a share of it", ours / commits * 100, "%", note="two commits each, shared between units")
