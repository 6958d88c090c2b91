"""Boards behind a paced wire: how near a unit comes to the time its bytes need.

One station runs all the while. A board is *plugged in* by making the symbolic link that its slot watches; it has power
long before, so that no start of a process is measured. First boards come one at a time, each the only one; then
sixteen at once.

The least time a unit can take is that of its bytes on the wire, 10 bits each, both directions (nothing goes both ways
at once: SMP asks and waits), and the board's own computing, by its own trace. What a unit takes beyond that is the
station's, and the virtual wire's own lateness, which is measured beside it: an echo of each frame's size, by a client
that does nothing else.

Sixteen boards at once also wait for each other: real ones compute on their own, virtual ones share the machine's cores.
That wait is measured beside it too: clients without a station ask sixteen other boards for their keys at once.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench.board_client import client_of
from bench.figures import BenchError, Effort, Figure
from bench.place import Place, Run, device_program
from bench.processes import Board, End, Event, StationRun, board_line
from bench.wire_shares import shares_of

BITS_A_BYTE: Final = 10
"""On the wire: a start bit, eight data bits, a stop bit."""

AT_ONCE: Final = 16

LIMITS: Final = {115200: 1.10, 921600: 1.30}
"""How many times the least time a unit may take, by baud."""

CROWD_LIMIT: Final = 1.15
"""How many times a lone unit's time the slowest of sixteen may take."""

CROWD_BAUD: Final = 115200
"""The rate at which that limit holds. At 921600 sixteen units want more computing at once than two cores have."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one line of boards gave."""

    lone: list[float]
    """Seconds of each unit that was alone; the first one after the station's start left out."""
    first: float
    """Seconds of that first one."""
    crowd: list[float]
    """Seconds of each of the units that came at once."""
    wire_bytes: float
    """Bytes a unit, both directions."""
    computing: float
    """Seconds that a board computed, in a lone unit."""
    queueing: float
    """Seconds by which the slowest of sixteen boards is later with its key than a lone one, without any station."""
    lateness: float
    """Seconds by which the wire was late over all exchanges of a unit."""
    exchanges: int
    shares: dict[str, int]
    """What the bytes of one unit were."""


def measure(work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
    """See ``figures.Benchmark``."""
    turns = effort.choose(1, 5, 15)
    lone = effort.choose(2, 6, 9)
    place = Place.make(work)
    shares: dict[str, int] = {}
    for baud in LIMITS:
        taken = []
        for number in range(turns):
            say(f"wire: {baud} baud, turn {number + 1} of {turns}")
            taken.append(_turn(place, work / f"{baud}-{number}", baud, lone))
        yield from _figures(baud, taken)
        shares = taken[0].shares
    total = sum(shares.values())
    for name, size in shares.items():
        yield Figure(
            f"share of the wire: {name}", size / total * 100, "%", note=f"{size} of {total} bytes", timed=False
        )


def _figures(baud: int, turns: Sequence[Turn]) -> Iterator[Figure]:
    wire = median(turn.wire_bytes for turn in turns) * BITS_A_BYTE / baud
    computing = median(turn.computing for turn in turns)
    lateness = median(turn.lateness for turn in turns)
    took = median(seconds for turn in turns for seconds in turn.lone)
    least = wire + computing
    rest = took - least - lateness
    crowds = [(max(turn.crowd) / median(turn.lone), median(turn.crowd) / median(turn.lone)) for turn in turns]
    at = f"at {baud}"
    units = sum(len(turn.lone) for turn in turns)
    yield Figure(f"{at}: a unit, times the least", took / least, "x", at_most=LIMITS[baud], note=f"median of {units}")
    yield Figure(f"{at}: a unit", took * 1e3, "ms", note="from its first step to PASS")
    wire_bytes = median(turn.wire_bytes for turn in turns)
    yield Figure(f"{at}: its bytes on the wire", wire * 1e3, "ms", note=f"{wire_bytes:.0f} bytes")
    yield Figure(f"{at}: the board's computing", computing * 1e3, "ms", note="by its own trace")
    yield Figure(
        f"{at}: lateness of the wire itself",
        lateness * 1e3,
        "ms",
        note=f"{turns[0].exchanges} exchanges; counts against us above, {(took - lateness) / least:.3f} x without it",
    )
    yield Figure(f"{at}: the rest", rest * 1e3, "ms", note="the station: token, manifest, and turning around")
    first = median(turn.first for turn in turns)
    yield Figure(f"{at}: the first unit after a start", first * 1e3, "ms", note="loads what others find loaded")
    limit = CROWD_LIMIT if baud == CROWD_BAUD else None
    slowest = median(slow for slow, _ in crowds)
    note = f"median of {len(turns)} crowds; the median board {median(middle for _, middle in crowds):.2f} x"
    yield Figure(f"{at}: slowest of {AT_ONCE} at once, times a lone one", slowest, "x", at_most=limit, note=note)
    queueing = median(turn.queueing for turn in turns)
    without = median((max(turn.crowd) - turn.queueing) / median(turn.lone) for turn in turns)
    note = f"without any station; counts against us above, {without:.2f} x without it"
    yield Figure(f"{at}: boards waiting for each other's computing", queueing * 1e3, "ms", note=note)


def _turn(place: Place, folder: Path, baud: int, lone: int) -> Turn:
    """Run one line of boards: some alone, one after the other, then a crowd."""
    count = lone + AT_ONCE
    sockets = folder / "sockets"
    sockets.mkdir(parents=True)
    with board_line(device_program(), folder / "line", count, baud=baud, trace=True) as boards:
        run = place.run(
            str(folder.name) + "-run", [sockets / board.slot for board in boards], quantity=count, baud=baud
        )
        station = StationRun(run.config)
        for _ in range(count):  # it is ready when it has told of each slot
            station.wait_for(lambda event: event.says("empty"))
        alone, crowd = boards[:lone], boards[lone:]
        for board in alone:
            _plug(station, sockets, [board])
        _plug(station, sockets, crowd)
        station.send(signal.SIGTERM)
        end = station.end()
        seconds = _unit_seconds(end, count)
        exchanges = alone[-1].trace
        lateness = _lateness(alone[-1], exchanges, baud)
        traces = [board.trace[: len(exchanges)] for board in alone[1:]]
    with board_line(device_program(), folder / "control", 1 + AT_ONCE, baud=baud) as boards:
        queueing = _queueing(boards)
    return Turn(
        lone=seconds[1:lone],
        first=seconds[0],
        crowd=seconds[lone:],
        wire_bytes=median(sum(request["in"] + request["out"] for request in trace) for trace in traces),
        computing=median(sum(request["us"] for request in trace) for trace in traces) / 1e6,
        queueing=queueing,
        lateness=lateness,
        exchanges=len(exchanges),
        shares=shares_of(_transcript(run, str(lone))),
    )


def _plug(station: StationRun, sockets: Path, boards: Sequence[Board]) -> None:
    """Plug boards in and wait until each has come to its end."""
    for board in boards:
        (sockets / board.slot).symlink_to(board.port)
    waiting = {board.slot.removeprefix("slot") for board in boards}

    def ended(event: Event) -> bool:
        if event.says("failed"):
            raise BenchError(f"slot {event.slot} failed: {event.facts['detail']}")
        if event.says("passed"):
            waiting.discard(event.slot)
        return not waiting

    station.wait_for(ended)


def _unit_seconds(end: End, count: int) -> list[float]:
    """Return what each slot's unit took, in the order of the slots."""
    began: dict[str, float] = {}
    took: dict[str, float] = {}
    for event in end.events:
        if event.says("running"):
            began.setdefault(event.slot, event.at)
        elif event.says("passed"):
            took[event.slot] = event.at - began[event.slot]
    return [took[str(number)] for number in range(1, count + 1)]


def _lateness(board: Board, exchanges: Sequence[dict[str, int]], baud: int) -> float:
    """Return how much later than their bytes a unit's exchanges end on this wire, for a client that does nothing else.

    An echo of the same number of bytes in both directions together stands for each exchange; the board's computing is
    taken off by its trace.
    """
    late = 0.0
    with client_of(board.port) as client:
        for exchange in exchanges:
            answer = client.echo((exchange["in"] + exchange["out"]) // 2)
            late += answer.seconds - answer.wire * BITS_A_BYTE / baud
    return late - sum(request["us"] for request in board.trace[len(exchanges) :]) / 1e6


def _queueing(boards: Sequence[Board]) -> float:
    """Return by how much the slowest of the boards but the first, all at once, is later with its key than the first."""

    def ask(board: Board) -> float:
        with client_of(board.port) as client:
            return client.key()

    lone, *crowd = boards
    alone = ask(lone)
    with ThreadPoolExecutor(len(crowd)) as clients:
        return max(0.0, max(clients.map(ask, crowd)) - alone)


def _transcript(run: Run, slot: str) -> Path:
    """Return the transcript of a slot's one unit."""
    found = [path for path in run.transcripts.iterdir() if path.stem.endswith(f"-{slot}")]
    if len(found) != 1:
        raise BenchError(f"{len(found)} transcripts of slot {slot}; expected one")
    return found[0]
