"""``kill -9`` of the station at random moments: invariants I1, I3 and I5 on a line that is never let in peace.

Boards stay powered in a process of their own. The station is started and killed, again and again, until a start came to
its end with all boards. Each round has new boards and an order of its own, which is for one board less than there are:
one has to be refused. All rounds share a manifest. After each the judge (``kill_judge.py``) asks the boards themselves.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.figures import BenchError, Effort, Figure
from bench.kill_judge import Judge
from bench.place import Place, Run, device_program
from bench.processes import Board, End, Event, StationRun, board_line
from station.manifest import OrderExhausted

BOARDS: Final = 16
"""In a round."""

SURPLUS: Final = 1
"""Boards in a round that the order is not for."""

AT_START: Final = 5
"""One kill in so many comes while the station starts; the others when boards are being worked on."""

START_SECONDS: Final = 1.5
"""About what a start takes: such a kill comes somewhere in it."""

WORK_SECONDS: Final = 0.009
"""About what a board takes among others: all other kills come somewhere in the time of the round's boards."""


@dataclass(slots=True)
class Toll:
    """What the kills did."""

    wanted: int
    done: int = 0
    at_start: int = 0
    caught: Counter[str] = field(default_factory=Counter)
    """In which step boards were when the station died."""


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """See ``figures.Benchmark``."""
    boards = effort.choose(4, BOARDS, BOARDS)
    seed = random.SystemRandom().randrange(1 << 32)
    dice = random.Random(seed)  # noqa: S311 - moments, not secrets
    place = Place.make(work)
    program = device_program()
    toll = Toll(wanted=effort.choose(3, 25, 300))
    judge = Judge(work / "manifest.db", place.issuer)
    rounds = 0
    while toll.done < toll.wanted:
        rounds += 1
        with board_line(program, work / f"line-{rounds}", boards) as plugged:
            ports = [board.port for board in plugged]
            run = place.run(f"ROUND-{rounds}", ports, quantity=boards - SURPLUS, manifest=judge.manifest)
            _round(run, plugged, toll, dice)
            judge.ask(plugged, expected=boards - SURPLUS)
        say(f"kill: {toll.done} of {toll.wanted} kills, {rounds * boards} boards")
    steps = ", ".join(f"{step} {times}" for step, times in toll.caught.most_common())
    yield Figure("kills", toll.done, note=f"{toll.at_start} of them in a start; seed {seed}", timed=False)
    yield Figure("boards in work at a kill", toll.caught.total(), note=steps, timed=False)
    yield from judge.verdict()


def _round(run: Run, boards: Sequence[Board], toll: Toll, dice: random.Random) -> None:
    """Start and kill until a start came to its end."""
    while True:
        station = StationRun(run.config, once=True)
        end = _killed(station, toll, dice, len(boards)) if toll.done < toll.wanted else station.end()
        for event in end.events:
            if event.says("failed") and event.facts["code"] != OrderExhausted.code:
                raise BenchError(f"slot {event.slot} failed: {event.facts['detail']}")
        if end.status == -signal.SIGKILL:
            continue
        if sum(end.summary[name] for name in ("passed", "done_before", "failed")) != len(boards):
            raise BenchError("the station ended before every board had its end")
        return


def _killed(station: StationRun, toll: Toll, dice: random.Random, boards: int) -> End:
    """Kill a station at a random moment; it may have ended before."""
    at_start = toll.done % AT_START == AT_START - 1
    if at_start:
        time.sleep(dice.uniform(0, START_SECONDS))
    else:
        station.wait_for(lambda event: event.says("running"))
        time.sleep(dice.uniform(0, WORK_SECONDS * boards))
    station.send(signal.SIGKILL)
    end = station.end()
    if end.status == -signal.SIGKILL:
        toll.done += 1
        toll.at_start += at_start
        last: dict[str, Event] = {event.slot: event for event in end.events}
        toll.caught.update(event.facts["step"] for event in last.values() if event.says("running"))
    return end
