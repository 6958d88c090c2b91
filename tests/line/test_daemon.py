"""The running line: boards come and go, ports are held by others, boards are copies of each other."""

import asyncio
import fcntl
import os
import shutil
import socket
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from firmware_tools.build import build_device
from firmware_tools.virtual_line.line import VirtualLine
from firmware_tools.virtual_line.wire import Cut, CutKind, Direction, Wire
from station.config import load
from station.errors import LinkError
from station.events import SlotState
from station.line import daemon
from station.line.daemon import opened, run_line
from station.line.slot_worker import REOPEN
from station.manifest import ManifestReader

BUILD = Path(__file__).parents[2] / "build"


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


async def test_a_slot_takes_no_more_new_boards_a_minute_than_the_configuration_says(line):
    text = line.config.read_text()
    line.config.write_text(text.replace("[ca]", "new_units_per_minute = 1\n\n[ca]", 1))
    async with line.virtual_line() as boards:
        board = boards.boards[0]
        async with running(line, [board.port]) as watcher:
            await watcher.wait_for("1", SlotState.PASSED)
            seen = len(watcher.told)
            await asyncio.to_thread(board.unplug)
            await watcher.wait_for("1", SlotState.EMPTY, after=seen)
            await asyncio.to_thread(boards.ship, board)
            end = await watcher.wait_for("1", SlotState.FAILED, SlotState.PASSED, after=seen)
    assert end.code == "slot.too_many_new_boards"
    assert not history(line, board.hardware_id).issuances


async def test_a_rehearsal_may_be_as_fast_as_it_likes(line):
    rehearsal = daemon.pace_of(load(line.config))
    line.name_slots([line.slots / "nobody"])
    assert (rehearsal, daemon.pace_of(load(line.config))) == (None, 12)


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


async def test_a_name_that_leads_to_another_port_is_another_board(line):
    async with line.virtual_line() as boards:
        first, second = boards.boards[:2]
        async with running(line, [first.port]) as watcher:
            passed = await watcher.wait_for("1", SlotState.PASSED)
            seen = len(watcher.told)
            fresh = first.port.with_name("fresh")
            fresh.symlink_to(second.port.readlink())
            fresh.replace(first.port)  # and the first board stays powered: nothing hangs up
            after = await watcher.wait_for("1", SlotState.PASSED, after=seen)
    assert passed.hardware_id != after.hardware_id


async def test_a_port_that_hangs_up_at_once_is_not_opened_as_fast_as_can_be(line):
    loop = asyncio.get_running_loop()
    opened = asyncio.Queue()

    def hang_up(_reader, writer):
        opened.put_nowait(loop.time())
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        number = server.sockets[0].getsockname()[1]
        async with running(line, [f"socket://127.0.0.1:{number}"]):
            first, second = await opened.get(), await opened.get()
    assert second - first >= REOPEN


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
    assert end.code == "unit.cloned"
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


async def test_a_board_with_the_old_csr_writer_is_provisioned(line):
    program = build_device(BUILD, legacy_csr=True)
    async with VirtualLine(program, line.slots, 1) as boards, running(line, boards.ports) as watcher:
        end = await watcher.wait_for("1", SlotState.PASSED)
    assert history(line, end.hardware_id).proof is not None


@pytest.mark.parametrize("hung", ["manifest", "token"])
async def test_the_watchdog_is_not_fed_while_a_thread_hangs(line, hung, tmp_path, monkeypatch):
    release = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        async with opened(load(line.config)) as shop:
            if hung == "manifest":
                shop.manifest._writer.submit(lambda _connection, _at: release.wait(30))
                busy = asyncio.create_task(shop.manifest.answer())
            else:
                busy = asyncio.create_task(shop.authority.key.signer.call(lambda _: release.wait(30)))
            await asyncio.sleep(0)
            feeding = asyncio.create_task(daemon._feed_watchdog(0.01, shop))
            try:
                await asyncio.sleep(0.2)
                with pytest.raises(BlockingIOError):
                    ear.recv(100)
                release.set()
                await busy
                async with asyncio.timeout(5):
                    assert await asyncio.get_running_loop().sock_recv(ear, 100) == b"WATCHDOG=1"
            finally:
                release.set()
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)


async def test_a_line_that_hears_of_no_port_any_more_ends_with_an_error(line, monkeypatch):
    line.name_slots([line.slots / "nobody"])
    made = []

    def hotplug_for(slots):
        made.append(hotplug := real(slots))
        return hotplug

    real = daemon.hotplug_for
    monkeypatch.setattr(daemon, "hotplug_for", hotplug_for)
    watcher = Watcher()
    running = asyncio.create_task(run_line(load(line.config), watch=watcher))
    await watcher.wait_for("1", SlotState.EMPTY)
    made[0].close()
    async with asyncio.timeout(10):
        with pytest.raises(LinkError) as caught:
            await running
    assert caught.value.code == "link.no_hotplug"


async def test_a_slot_that_dies_of_a_bug_ends_the_line_with_that_bug(line, caplog):
    line.name_slots([line.slots / "nobody", line.slots / "no one"])

    def watch(event):
        if event.slot == "2":
            raise RuntimeError("a bug")

    async with asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="a bug"):
            await run_line(load(line.config), watch=watch)
    assert "a slot died" in caplog.text
