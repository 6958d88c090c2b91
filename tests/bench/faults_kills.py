"""One block of kills; ``faults.py`` tells what a block, a round and a life are."""

import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.faults_report import BlockReport
from bench.judge import Judge, Verdict
from bench.place import Place, Run
from bench.stations import Starter, Station
from firmware_tools.provisioning import DeviceState
from firmware_tools.virtual_line.faults import SOUND, Faults, StateDeath
from firmware_tools.virtual_line.line import VirtualBoard, VirtualLine
from firmware_tools.virtual_line.wire import Cut, CutKind, Direction, Wire
from station.config import load
from station.manifest import ManifestReader, UnitState

KILLS: Final = ("station", "station at start", "board", "board at a byte", "board in its flash", "HSM")
"""The victims."""

SURPLUS: Final = 1
"""Boards in a round that the order is not for."""

LEFT: Final = 2
"""Units of an order that are still open when a round is left to come to its end."""

START_SECONDS: Final = 0.2
"""About what a start takes: a kill ``at start`` comes somewhere in it."""

LIFE_SECONDS: Final = 0.25
"""About what the boards of a round take: other kills of a station come somewhere in it."""

BYTES: Final = 1600
"""About what a unit has on the wire in each direction."""

FINAL_TRIES: Final = 4

Happening = tuple[float, Callable[[], None]]
"""When, in seconds of a life, and what."""


class Block:
    """Rounds of boards with one manifest."""

    def __init__(
        self, place: Place, program: Path, stations: Starter, dice: random.Random, *, kills: int, boards: int
    ) -> None:
        """Prepare.

        Args:
            place: tokens and a CA, unused.
            program: the device.
            stations: starts them.
            dice: all that is random.
            kills: how many are wanted.
            boards: in a round.
        """
        self._place = place
        self._program = program
        self._stations = stations
        self._dice = dice
        self._wanted = kills
        self._count = boards
        self._report = BlockReport()
        self._manifest = place.folder / "manifest.db"
        self._flashes: dict[str, Path] = {}
        self._orders: list[str] = []
        self._signatures: list[Path] = []

    def run(self, say: Callable[[str], None]) -> BlockReport:
        """Kill until there were as many as wanted; each round comes to its end."""
        report = self._report
        while report.hit.total() < self._wanted:
            name = f"ROUND-{len(self._orders) + 1}"
            report.verdict = self._round(name)
            boards, found = report.verdict.boards, len(report.verdict.faults)
            say(f"and {report.hit.total()} of {self._wanted} in this block; {boards} boards, {found} faults")
            if found:
                kept = self._place.folder.parent.parent / f"faults-{self._place.folder.name}-{time.time_ns()}"
                shutil.copytree(self._place.folder, kept, symlinks=True)
                say(f"what the judge found is kept in {kept}: {report.verdict.faults[:3]}")
                break
        return report

    def _round(self, name: str) -> Verdict:
        quantity = self._count - SURPLUS
        self._orders.append(name)
        wire = Wire(baud=self._dice.choice((None, 115200, 921600)))
        line = VirtualLine(
            self._program,
            self._place.folder / f"boards-{name}",
            self._count,
            wire=wire,
            on_cut=lambda _board, _cut: self._report.hit.update(["board at a byte"]),
        )
        with line:
            run = self._place.run(name, line.ports, quantity=quantity, manifest=self._manifest)
            while self._report.hit.total() < self._wanted and self._passed(name) < quantity - LEFT:
                self._life(run, line.boards, wire)
            self._in_peace(run, line.boards, wire, lambda: self._passed(name) == quantity)
            self._flashes |= {board.hardware_id: board.storage / "flash.bin" for board in line.boards}
        self._signatures.append(load(run.config).ca.signatures)
        judge = Judge(self._manifest, self._place.issuer, tuple(dict.fromkeys(self._signatures)))
        return judge.judge(self._flashes, full=self._orders)

    def _passed(self, order: str) -> int:
        if not self._manifest.exists():
            return 0
        with ManifestReader(self._manifest) as reader:
            return sum(unit.order == order and unit.state is UnitState.PASSED for unit in reader.units())

    # One life of a station.

    def _life(self, run: Run, boards: Sequence[VirtualBoard], wire: Wire) -> None:
        """Start a station, let things happen, and kill it."""
        dice, report = self._dice, self._report
        deaths = sum(board.deaths for board in boards)
        for board in boards:
            self._prepare(board, wire)
        options = ["--once"] if dice.random() < 0.5 else []
        station = self._stations.start(run.config, *options)
        began = time.monotonic()
        at_start = dice.random() < 0.2
        if at_start:
            end = dice.uniform(0, START_SECONDS)
        else:
            _wait_for_work(station)
            began = time.monotonic()
            end = dice.uniform(0, LIFE_SECONDS)
        for moment, happen in sorted(self._happenings(boards, end), key=lambda happening: happening[0]):
            if station.ends_within(max(0.0, began + moment - time.monotonic())):
                break
            happen()
        if not station.ends_within(max(0.0, began + end - time.monotonic())):
            station.kill()
        ended = station.end()
        if ended.killed:
            report.hit["station at start" if at_start else "station"] += 1
            report.caught.update(ended.last_steps())
        self._token_returns()
        report.hit["board in its flash"] += sum(board.deaths for board in boards) - deaths

    def _prepare(self, board: VirtualBoard, wire: Wire) -> None:
        """Let a board suffer in this life what the dice say: mostly nothing."""
        dice = self._dice
        faults, cut = SOUND, None
        chance = dice.random()
        if chance < 0.04:
            faults = Faults.brown_outs(dice, dice.randint(1, 3))
        elif chance < 0.06:
            state = dice.choice([DeviceState.KEYED, DeviceState.PROVISIONED, DeviceState.LOCKED])
            faults = Faults(deaths=(StateDeath(state),), restart=dice.uniform(0, 0.1))
        elif chance < 0.12:
            kind = dice.choice([CutKind.UNPLUG, CutKind.POWER])
            cut = Cut(dice.choice(list(Direction)), dice.randint(1, BYTES), kind)
        wanted = Wire(baud=wire.baud, cut=cut)
        if faults != board.faults or wanted != board.wire or not board.running:
            board.unplug()
            board.faults, board.wire = faults, wanted
            board.plug()

    def _happenings(self, boards: Sequence[VirtualBoard], end: float) -> Iterator[Happening]:
        dice = self._dice
        for _ in range(dice.randint(0, 2)):
            board, moment = dice.choice(boards), dice.uniform(0, end)
            back = moment + dice.uniform(0, 0.15)
            if dice.random() < 0.5:
                yield moment, self._hits("board", board, board.power_off)
                yield back, lambda board=board: board.power_on() if board.plugged else None  # type: ignore[misc]
            else:
                yield moment, self._hits("board", board, board.unplug)
                yield back, board.plug
        if dice.random() < 0.2:
            moment = dice.uniform(0, end)
            yield moment, self._token_goes
            yield moment + dice.uniform(0, 0.3), self._token_returns

    def _hits(self, victim: str, board: VirtualBoard, harm: Callable[[], None]) -> Callable[[], None]:
        def happen() -> None:
            if board.running:
                self._report.hit[victim] += 1
                harm()

        return happen

    def _token_goes(self) -> None:
        self._report.hit["HSM"] += 1
        self._tokens.rename(self._tokens.with_name("away"))

    def _token_returns(self) -> None:
        away = self._tokens.with_name("away")
        if away.exists():
            away.rename(self._tokens)

    @property
    def _tokens(self) -> Path:
        return self._place.tokens.conf.parent / "tokens"

    def _in_peace(self, run: Run, boards: Sequence[VirtualBoard], wire: Wire, done: Callable[[], bool]) -> None:
        """Let a station serve all boards; a person plugs in again what failed."""
        for board in boards:
            board.unplug()
            board.faults, board.wire = SOUND, Wire(baud=wire.baud)
        for _ in range(FINAL_TRIES):
            for board in boards:
                board.unplug()
                board.plug()
            self._stations.start(run.config, "--once").end()
            if done():
                return


def _wait_for_work(station: Station) -> None:
    while not station.ends_within(0.005):
        if station.says(b'"running"'):
            return
