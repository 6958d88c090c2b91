"""Malformed answers by the million against the real line: no crash, no hang, no certificate that must not be.

Two processes, each with assaults one after the other (``assault.py``: 24 kinds of twists, 12 lies, mutations of
recorded exchanges), one in four of them in a language of lines (23 kinds of twists, and lies of each language); beside
them a search by hypothesis for the small ones (``explore.py``). Time on the wire is virtual, so hangs are measured
against the deadlines to the millisecond and cost nothing. Honest boards that speak in lines, over wires that turn and
lose bits, follow (``text_noise.py``).
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
from bench.text_noise import Passed

PROCESSES: Final = 2

ROUND: Final = 12_500
"""Answers of one assault; each has a new manifest, which is swept at its end."""

TEXT: Final = ("nordic_at", "zephyr_shell", "described")
"""Languages of lines."""

FLIPS: Final = 2.5e-4
LOSSES: Final = 5e-5
"""Probabilities for each byte on the noisy wires; one in thirty thousand bits, about."""

MIN_PASSED: Final = 99.0
"""Percent of the boards that speak in lines that have to pass in the end."""

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
        running = [pool.submit(_assault, work, seed + number, each, _language(number)) for number in range(rounds)]
        noises = {name: pool.submit(_noise, work, seed, name, effort.choose(10, 150, 1500)) for name in TEXT}
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
    yield from _noise_figures({name: noise.result() for name, noise in noises.items()})
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


def _language(number: int) -> str:
    """Return what the boards of a round speak."""
    return TEXT[number // 4 % len(TEXT)] if number % 4 == 1 else "smp"


def _noise_figures(found: dict[str, tuple[Passed, list[str]]]) -> Iterator[Figure]:
    for name, (passed, faults) in found.items():
        where = f"{name}, three bytes in ten thousand harmed"
        yield Figure(f"{where}: passed at their first visit", passed.at_once / passed.boards * 100, "%", timed=False)
        in_the_end = passed.in_the_end / passed.boards * 100
        note = f"{passed.boards} boards, three visits"
        yield Figure(f"{where}: passed in the end", in_the_end, "%", at_least=MIN_PASSED, note=note, timed=False)
        wrong = "; ".join(faults[:3])
        yield Figure(f"{where}: lost or wrong", len(faults), at_least=0, at_most=0, note=wrong, timed=False)


def _noise(work: Path, seed: int, language: str, boards: int) -> tuple[Passed, list[str]]:
    from bench.assault import Assault  # noqa: PLC0415 - as below
    from bench.languages import LANGUAGES  # noqa: PLC0415
    from bench.text_noise import noisy_visits  # noqa: PLC0415

    with tempfile.TemporaryDirectory(dir=work) as folder:
        assault = Assault(Path(folder), seed=seed, language=LANGUAGES[language])
        with assault.opened():
            dice = random.Random(seed)  # noqa: S311 - a noisy wire, not a secret
            passed = noisy_visits(assault, boards, flips=FLIPS, losses=LOSSES, dice=dice)
    return passed, assault.tally.faults


def _assault(work: Path, seed: int, replies: int, language: str) -> tuple[Tally, int, float]:
    """Carry one out; return also which process this is, and its size in MiB."""
    from bench.assault import Assault  # noqa: PLC0415 - in the child alone: it is heavy
    from bench.languages import LANGUAGES  # noqa: PLC0415

    with tempfile.TemporaryDirectory(dir=work) as folder:
        tally = Assault(Path(folder), seed=seed, language=LANGUAGES[language]).run(replies)
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
