"""The running line: boards come and go, ports are held by others, boards are copies of each other."""

import asyncio
import fcntl
import os
import shutil
from contextlib import asynccontextmanager

import pytest

from firmware_tools.build import build_device
from firmware_tools.virtual_line import VirtualLine
from firmware_tools.wire import Cut, CutKind, Direction, Wire
from station.config import load
from station.events import SlotState
from station.line.daemon import run_line
from station.manifest import ManifestReader


class Watcher:
    """Collects what the line tells, and lets a test wait for it."""

    def __init__(self) -> None:
        self.told = []
        self._more = asyncio.Event()

    def __call__(self, event) -> None:
        self.told.append(event)
        self._more.set()

    async def wait_for(self, slot: str, *states: SlotState, after: int = 0, seconds: float = 30):
        """Return the first event of the slot with one of these states, among those from number ``after`` on."""
        async with asyncio.timeout(seconds):
            while True:
                for event in self.told[after:]:
                    if event.slot == slot and event.state in states:
                        return event
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def running(line, ports, **slot_keys):
    """Run the daemon on these ports."""
    line.name_slots(ports, **slot_keys)
    watcher = Watcher()
    task = asyncio.create_task(run_line(load(line.config), watch=watcher))
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def history(line, hardware_id):
    with ManifestReader(line.manifest) as reader:
        return reader.unit(hardware_id)


async def test_a_board_that_leaves_makes_room_for_the_next(line):
    async with line.virtual_line() as boards:
        board = boards.boards[0]
        async with running(line, [board.port]) as watcher:
            first = await watcher.wait_for("1", SlotState.PASSED)
            seen = len(watcher.told)
            await asyncio.to_thread(board.unplug)
            await watcher.wait_for("1", SlotState.EMPTY, after=seen)
            await asyncio.to_thread(boards.ship, board)
            second = await watcher.wait_for("1", SlotState.PASSED, after=seen)
    assert first.hardware_id != second.hardware_id
    assert (first.product_serial, second.product_serial) == ("SN000001", "SN000002")


async def test_a_finished_board_that_comes_back_turns_blue(line):
    async with line.virtual_line() as boards:
        board = boards.boards[0]
        async with running(line, [board.port]) as watcher:
            await watcher.wait_for("1", SlotState.PASSED)
            seen = len(watcher.told)
            await asyncio.to_thread(board.unplug)
            await watcher.wait_for("1", SlotState.EMPTY, after=seen)
            await asyncio.to_thread(board.plug)
            end = await watcher.wait_for("1", SlotState.DONE_BEFORE, after=seen)
    assert end.product_serial == "SN000001"
    assert len(history(line, end.hardware_id).issuances) == 1


async def test_a_fixture_sees_that_another_board_was_put_in(line):
    async with line.virtual_line() as boards:
        board, other = boards.boards[:2]
        async with running(line, [board.port], fixture="true") as watcher:
            first = await watcher.wait_for("1", SlotState.PASSED)
            seen = len(watcher.told)
            board.power_off()  # the adapter stays, the board is gone
            await watcher.wait_for("1", SlotState.EMPTY, after=seen)
            board.power_on()
            again = await watcher.wait_for("1", SlotState.DONE_BEFORE, after=seen)
            assert again.hardware_id == first.hardware_id
    assert other.hardware_id != first.hardware_id


async def test_a_port_that_another_program_holds_is_used_when_it_is_free(line):
    async with line.virtual_line() as boards:
        board = boards.boards[0]
        holder = os.open(board.port, os.O_RDWR | os.O_NOCTTY)
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            async with running(line, [board.port]) as watcher:
                end = await watcher.wait_for("1", SlotState.FAILED)
                assert end.code == "link.busy"
                seen = len(watcher.told)
                fcntl.flock(holder, fcntl.LOCK_UN)
                await watcher.wait_for("1", SlotState.PASSED, after=seen)
        finally:
            os.close(holder)


async def test_a_cloned_flash_stops_at_the_second_board(line):
    async with line.virtual_line() as boards:
        first, clone = boards.boards[:2]
        async with running(line, [first.port]) as watcher:
            await watcher.wait_for("1", SlotState.PASSED)
        await asyncio.to_thread(clone.power_off)
        shutil.copytree(first.storage, clone.storage, dirs_exist_ok=True)
        await asyncio.to_thread(clone.power_on)
        async with running(line, [clone.port]) as watcher:
            end = await watcher.wait_for("1", SlotState.FAILED)
    assert end.code == "unit.foreign_certificate"
    assert not history(line, clone.hardware_id).issuances


@pytest.mark.parametrize("after", [60, 300, 500, 700, 900, 1100, 1300])
async def test_a_cable_that_breaks_after_so_many_bytes_costs_nothing(line, after):
    broken = asyncio.Event()
    loop = asyncio.get_running_loop()
    wire = Wire(cut=Cut(Direction.TO_STATION, after=after, kind=CutKind.UNPLUG))

    def on_cut(_board, _cut) -> None:
        loop.call_soon_threadsafe(broken.set)

    async with line.virtual_line(wire={"slot1": wire}, on_cut=on_cut) as boards:
        board = boards.boards[0]
        async with running(line, [board.port]) as watcher:
            async with asyncio.timeout(30):
                cut = asyncio.create_task(broken.wait())
                passed = asyncio.create_task(watcher.wait_for("1", SlotState.PASSED))
                await asyncio.wait([cut, passed], return_when=asyncio.FIRST_COMPLETED)
                passed.cancel()
            assert broken.is_set(), "the exchange is shorter than this cut; lower it"
    async with line.virtual_line() as boards:
        port = boards.boards[0].port
        async with running(line, [port]) as watcher:
            await watcher.wait_for("1", SlotState.PASSED, SlotState.DONE_BEFORE)
        unit = history(line, boards.boards[0].hardware_id)
    assert len(unit.issuances) == 1
    assert unit.proof is not None


async def test_a_board_with_the_old_csr_writer_is_provisioned(line, tmp_path):
    program = build_device(tmp_path / "legacy", legacy_csr=True)
    async with VirtualLine(program, line.slots, 1) as boards, running(line, boards.ports) as watcher:
        end = await watcher.wait_for("1", SlotState.PASSED)
    assert history(line, end.hardware_id).proof is not None
