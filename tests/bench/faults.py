"""A line that is hurt on purpose: kills of station, boards and HSM at random moments, and wires that turn bits.

**Kills** come in blocks of a hundred. A block has tokens, a CA and a manifest of its own; in it, rounds of boards, each
with an order for one board less than there are. A round is a row of *lives*: a station is started (by ``starter.py``),
and then things happen to it at moments that the dice choose: boards lose their power or their cable, at a moment, at a
byte, or in the middle of a flash operation; the token's folder is gone for a while; and in the end the station gets its
``kill -9``, one in five while it starts. When most boards are done, one life is left in peace, and the judge reads what
boards, token and manifest hold.

The dice of a block depend on the seed and the block's number only. Each finished block is one line of ``faults.jsonl``
in the folder that is worked in: a run that was interrupted goes on behind the last one. A block in which the judge
finds something is kept there whole.

**Bits**: boards behind wires at 115200 baud on which bits are turned. A board that fails is taken out and put in again,
as a person does, three times at the most.
"""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from bench.faults_kills import KILLS, Block
from bench.faults_noise import Noise, noise
from bench.faults_report import Report
from bench.figures import Effort, Figure
from bench.judge import NAMES
from bench.place import Place, device_program
from bench.stations import starter

REPORT: Final = "faults.jsonl"

MIN_PASSED: Final = 99.9
"""Percent of the units that have to pass in the end with one bit in ten thousand turned."""


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """See ``figures.Benchmark``."""
    program = device_program()
    wanted = effort.choose(12, 150, 2000)
    report = Report.resumed(work.parent / REPORT, wanted=wanted, seed=random.SystemRandom().randrange(1 << 32))
    if report.blocks:
        say(f"faults: goes on behind kill {report.kills} of {wanted}, from {report.path}")
    with starter() as stations:
        while report.kills < wanted:
            number = len(report.blocks) + 1
            block = Block(
                Place.make(work / f"block-{number}"),
                program,
                stations,
                random.Random(f"{report.seed}/{number}"),  # noqa: S311 - moments, not secrets
                kills=min(effort.choose(12, 50, 100), wanted - report.kills),
                boards=effort.choose(4, 16, 16),
            )
            report.add(block.run(say=lambda text: say(f"faults: {report.kills} of {wanted} kills, {text}")))
    yield from _kill_figures(report)
    # most in the storm never pass, whoever waits: they are left alone after a while
    worse, patience = effort.choose(8, 48, 240), effort.choose(15, 40, 60)
    places = [Place.make(work / name) for name in ("noise", "storm")]
    with starter() as stations, starter() as others, ThreadPoolExecutor(effort.choose(2, 1, 1)) as hands:
        noisy = hands.submit(noise, places[0], program, stations, 1e-4, effort.choose(16, 192, 1008), say=say)
        storm = hands.submit(noise, places[1], program, others, 1e-3, worse, say=say, visits=1, patience=patience)
        yield from _noise_figures("one bit in 10,000 turned", noisy.result(), MIN_PASSED)
        yield from _noise_figures("one bit in 1,000 turned", storm.result(), None)


def _noise_figures(name: str, found: Noise, least: float | None) -> Iterator[Figure]:
    yield Figure(f"{name}: units", found.units, note=f"{found.verdict.passed} passed", timed=False)
    yield Figure(f"{name}: passed at their first visit", found.at_once / found.units * 100, "%")
    yield Figure(f"{name}: passed in the end", found.verdict.passed / found.units * 100, "%", at_least=least)
    wrong, note = len(found.verdict.faults), "; ".join(found.verdict.faults[:3])
    yield Figure(f"{name}: passed wrongly", wrong, at_least=0, at_most=0, timed=False, note=note)


def _kill_figures(report: Report) -> Iterator[Figure]:
    verdict = report.verdict
    note = ", ".join(f"{victim} {report.hit[victim]}" for victim in KILLS)
    yield Figure("kills", report.kills, note=f"{note}; seed {report.seed}", timed=False)
    steps = ", ".join(f"{step} {times}" for step, times in report.caught.most_common())
    yield Figure("boards in work when a station died", report.caught.total(), note=steps, timed=False)
    yield Figure("boards", verdict.boards, note="their flash was read, not asked for", timed=False)
    yield Figure("boards that passed", verdict.passed, timed=False)
    yield Figure("signed again after a kill", verdict.signed_again, note="the same bytes, from the intent", timed=False)
    for name in NAMES:
        found = getattr(verdict, name)
        note = "; ".join(found[:3])
        yield Figure(name.replace("_", " "), len(found), at_least=0, at_most=0, timed=False, note=note)
