"""64 boards at once, through the whole station: how many units a second, and how much memory.

The boards have no wire: a byte takes no time, so that what is left is the station, the token, the disk, and the
boards' own computing, all on the same two cores.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Final

from bench.figures import BenchError, Effort, Figure
from bench.place import Place, device_program
from bench.processes import End, StationRun, board_line

BOARDS: Final = 64
MIN_RATE: Final = 40.0
MAX_MEMORY: Final = 150.0
MEGABYTE: Final = 1e6


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """See ``figures.Benchmark``."""
    boards = effort.choose(8, BOARDS, BOARDS)
    repeats = effort.choose(1, 3, 9)
    place = Place.make(work)
    program = device_program()
    ends: list[End] = []
    computing: list[float] = []
    for repeat in range(repeats):
        say(f"line: run {repeat + 1} of {repeats}, {boards} boards")
        with board_line(program, work / f"line-{repeat}", boards, trace=True) as plugged:
            run = place.run(f"run-{repeat}", [board.port for board in plugged], quantity=boards)
            ends.append(StationRun(run.config, once=True).end())
            computing.append(sum(request["us"] for board in plugged for request in board.trace) / 1e6)
    summaries = [end.summary for end in ends]
    failed = [event.facts["detail"] for end in ends for event in end.events if event.says("failed")]
    if any(not summary["seconds"] for summary in summaries):
        raise BenchError("no board came to an end")
    passed = min(summary["passed"] for summary in summaries)
    yield Figure(
        "boards that passed, of the run with the fewest",
        passed,
        f"of {boards}",
        at_least=boards,
        at_most=boards,
        timed=False,
        note=failed[0] if failed else "",
    )
    rates = [summary["passed"] / summary["seconds"] for summary in summaries]
    yield Figure(
        "units a second",
        median(rates),
        "1/s",
        at_least=MIN_RATE,
        note=f"first board's arrival to last board's end; median of {repeats}, {min(rates):.0f} to {max(rates):.0f}",
    )
    yield Figure("the same in seconds", median(summary["seconds"] for summary in summaries), "s")
    yield Figure("station from start to end", median(end.seconds for end in ends), "s", note="the process as a whole")
    idle = _start_alone(place, work, say)
    work_per_unit = median((end.processor - idle.processor) / boards for end in ends)
    yield Figure(
        "processor time of the station a unit",
        work_per_unit * 1e3,
        "ms",
        note=f"all threads; {idle.processor:.2f} s for its start and end are taken off",
    )
    yield Figure("computing of the board a unit", median(computing) / boards * 1e3, "ms", note="by its own trace")
    yield Figure(
        "memory of the station at its peak",
        max(end.peak for end in ends) / MEGABYTE,
        "MB",
        at_most=MAX_MEMORY,
        timed=False,
    )


def _start_alone(place: Place, work: Path, say: Callable[[str], None]) -> End:
    """Run a station whose one slot is empty: what its start and end cost."""
    say("line: a station without boards")
    run = place.run("run-idle", [work / "nothing"], quantity=1)
    station = StationRun(run.config, once=True)
    return station.end()
