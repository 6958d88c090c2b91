"""Malformed answers by the million against the real line: no crash, no hang, no certificate that must not be.

Two processes, each with assaults one after the other (``assault.py``: 24 kinds of twists, 12 lies, mutations of
recorded exchanges); and beside them a search by hypothesis for the small ones (``explore.py``). Time on the wire is
virtual, so hangs are measured against the deadlines to the millisecond and cost nothing.
"""

import multiprocessing
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Final

from bench.assault import Tally
from bench.figures import BenchError, Effort, Figure

PROCESSES: Final = 2

ROUND: Final = 12_500
"""Answers of one assault; each has a new manifest, which is swept at its end."""

MAX_GROWTH: Final = 48.0
"""MiB by which a process may be larger after its last assault than after its second."""

MAX_BUSY: Final = 0.25
"""Seconds for which one board may keep the others waiting."""


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """See ``figures.Benchmark``."""
    wanted = effort.choose(1500, 50_000, 1_000_000)
    examples = effort.choose(20, 500, 5000)
    each = min(ROUND, wanted // PROCESSES)
    seed = random.SystemRandom().randrange(1 << 32)
    rounds = -(-wanted // each)
    tallies: list[Tally] = []
    sizes: dict[int, list[float]] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=spawn) as pool, ProcessPoolExecutor(1, mp_context=spawn) as other:
        search = other.submit(_explore, work, examples)  # in a process of its own: what hypothesis remembers is large
        running = [pool.submit(_assault, work, seed + number, each) for number in range(rounds)]
        for done in as_completed(running):
            tally, process, megabytes = done.result()
            tallies.append(tally)
            sizes.setdefault(process, []).append(megabytes)
            for fault in tally.faults:
                say(f"hostile: {fault}")
            faults = sum(len(one.faults) for one in tallies)
            say(f"hostile: {sum(one.twisted for one in tallies):,} of {wanted:,} answers, {faults} faults")
        try:
            found = search.result()
        except AssertionError as harm:
            raise BenchError(f"hypothesis found harm: {harm}") from harm
    ends = sum((one.ends for one in tallies), Counter[str]())
    honest = sum((one.honest for one in tallies), Counter[str]())
    twisted = sum(one.twisted for one in tallies)
    yield Figure("malformed answers", twisted, at_least=wanted, note=f"seed {seed}", timed=False)
    yield Figure("answers by hypothesis", found.twisted, note=f"{examples} examples of its search", timed=False)
    yield Figure("visits in bad faith", sum(ends.values()) - sum(honest.values()), note=_most(ends), timed=False)
    yield Figure("honest visits afterwards", sum(honest.values()), note=_most(honest), timed=False)
    yield Figure("certificates", sum(one.certificates for one in tallies), timed=False)
    for name, count in (
        ("crashes", sum(len(one.crashes) for one in tallies)),
        ("steps beyond their deadline", sum(len(one.hangs) for one in tallies)),
        ("certificates and passes that must not be", sum(len(one.unlawful) for one in tallies)),
        ("honest boards that do not pass afterwards", sum(len(one.bricked) for one in tallies)),
    ):
        yield Figure(name, count, at_least=0, at_most=0, timed=False)
    yield Figure("the longest visit", max(one.longest for one in tallies), "s", note="virtual", timed=False)
    busiest = max(one.busiest for one in tallies)
    yield Figure("one board keeps the others waiting", busiest, "s", at_most=MAX_BUSY, note="processor time")
    growth = max((max(after[1:]) - after[1] for after in sizes.values() if len(after) > 1), default=0.0)
    yield Figure("memory that a process gained", growth, "MiB", at_most=MAX_GROWTH, note="after its first assaults")


def _assault(work: Path, seed: int, replies: int) -> tuple[Tally, int, float]:
    """Carry one out; return also which process this is, and its size in MiB."""
    from bench.assault import Assault  # noqa: PLC0415 - in the child alone: it is heavy

    with tempfile.TemporaryDirectory(dir=work) as folder:
        tally = Assault(Path(folder), seed=seed).run(replies)
    return tally, multiprocessing.current_process().pid or 0, megabytes()


def _explore(work: Path, examples: int) -> Tally:
    from bench.explore import explore  # noqa: PLC0415 - as above

    with tempfile.TemporaryDirectory(dir=work) as folder:
        return explore(Path(folder), examples)


def megabytes() -> float:
    """Return the resident memory of this process (``proc_pid_status(5)``)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise BenchError("no VmRSS in /proc/self/status")


def _most(counted: Counter[str]) -> str:
    return ", ".join(f"{name} {times:,}" for name, times in counted.most_common(8))
