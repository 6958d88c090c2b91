"""What stops a slot or the whole line: copies of boards, a bad fixture, and the way on after that."""

import asyncio
import re
import shutil
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from click.testing import CliRunner

from station.cli.root import root
from station.config import load
from station.devices.smp import SmpDriver
from station.events import Notice, SlotChanged, SlotState
from station.line import daemon, policy
from station.line.daemon import run_line
from station.manifest import Manifest, ManifestReader
from station.ports.link import open_link
from station.testing.orders import install_order


class Watcher:
    """Collects what the line tells, and lets a test wait for it."""

    def __init__(self):
        self.told = []
        self._more = asyncio.Event()

    def __call__(self, event):
        self.told.append(event)
        self._more.set()

    async def wait_for(self, wanted, *, after=0, seconds=20):
        """Return the first event, from number ``after`` on, that is wanted."""
        async with asyncio.timeout(seconds):
            while True:
                for event in self.told[after:]:
                    if wanted(event):
                        return event
                self._more.clear()
                await self._more.wait()


def slot(name, *states, code=None):
    return lambda event: (
        isinstance(event, SlotChanged)
        and event.slot == name
        and event.state in states
        and (code is None or event.code == code)
    )


@asynccontextmanager
async def running(line, ports, monkeypatch=None):
    """Run the daemon on these ports; hands out the watcher and the line."""
    line.name_slots(ports)
    watcher, made = Watcher(), []
    if monkeypatch is not None:
        real = daemon._Line

        def make(*arguments):
            made.append(real(*arguments))
            return made[0]

        monkeypatch.setattr(daemon, "_Line", make)
    task = asyncio.create_task(run_line(load(line.config), watch=watcher))
    try:
        yield watcher, made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def events(line, step):
    with ManifestReader(line.manifest) as reader:
        return [event for event in reader.events() if event.step == step]


async def make_its_key(board):
    link = await open_link(str(board.port), 115200)
    try:
        await SmpDriver(link).make_key()
    finally:
        link.close()


async def test_the_same_key_on_two_boards_stops_the_whole_line(line):
    async with line.virtual_line() as boards:
        first, clone, third = boards.boards[:3]
        await make_its_key(first)
        for board in (first, clone):
            await asyncio.to_thread(board.power_off)
        shutil.rmtree(clone.storage)
        shutil.copytree(first.storage, clone.storage)
        await asyncio.to_thread(first.power_on)
        async with running(line, [first.port, clone.port, third.port.with_name("nobody")]) as (watcher, _):
            await watcher.wait_for(slot("1", SlotState.PASSED))
            await asyncio.to_thread(clone.power_on)
            end = await watcher.wait_for(lambda event: getattr(event, "code", "") == "manifest.duplicate_key")
            assert end.hardware_id == clone.hardware_id
            notice = await watcher.wait_for(lambda event: isinstance(event, Notice) and event.subject == "line")
            assert notice.code == "line.alarm"
            idle = await watcher.wait_for(slot("3", SlotState.FAILED))
            assert (idle.code, "The line stopped" in idle.sentence) == ("line.alarm", True)
    assert [event.kind for event in events(line, "quarantine")] == ["stopped"]


async def test_a_stopped_line_begins_with_no_board_until_it_is_released(line, monkeypatch):
    async with line.virtual_line() as boards:
        first, clone, third = boards.boards[:3]
        async with running(line, [first.port]) as (watcher, _):
            await watcher.wait_for(slot("1", SlotState.PASSED))
        await asyncio.to_thread(clone.power_off)
        await asyncio.to_thread(third.unplug)
        shutil.copytree(first.storage, clone.storage, dirs_exist_ok=True)
        async with running(line, [clone.port, third.port], monkeypatch) as (watcher, made):
            await asyncio.to_thread(clone.power_on)
            await watcher.wait_for(slot("1", SlotState.FAILED, code="unit.cloned"))
            await watcher.wait_for(slot("2", SlotState.FAILED, code="line.alarm"))
            await asyncio.to_thread(third.plug)
            await asyncio.to_thread(clone.unplug)
            seen = len(watcher.told)
            assert made[0].release() == ["1", "2"]
            end = await watcher.wait_for(slot("2", SlotState.PASSED, SlotState.FAILED), after=seen)
            assert (end.state, end.hardware_id) == (SlotState.PASSED, third.hardware_id)
            assert not any(slot("2", SlotState.RUNNING)(event) for event in watcher.told[:seen])
    assert [event.kind for event in events(line, "quarantine")] == ["stopped", "released", "released"]


async def test_board_after_board_that_says_nothing_stops_that_slot_only(line, monkeypatch):
    monkeypatch.setattr(policy, "IDENTIFY", replace(policy.IDENTIFY, deadline=0.2, tries=1))
    text = line.config.read_text()
    line.config.write_text(text.replace("[ca]", "[quarantine]\nboards = 2\n\n[ca]", 1))
    boards = asyncio.Queue()

    async def be_silent(reader, writer):
        boards.put_nowait(writer)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(be_silent, "127.0.0.1", 0) as server:
        number = server.sockets[0].getsockname()[1]
        async with running(line, [f"socket://127.0.0.1:{number}", line.slots / "nobody"], monkeypatch) as (
            watcher,
            made,
        ):
            for _ in range(2):
                board = await asyncio.wait_for(boards.get(), 10)
                seen = len(watcher.told)
                await watcher.wait_for(slot("1", SlotState.FAILED), after=seen)
                board.close()
            end = await watcher.wait_for(slot("1", SlotState.FAILED, code="slot.suspected"))
            assert "This slot stopped: 2 boards in a row" in end.sentence
            assert boards.empty()
            assert made[0].release("1") == ["1"]
            await asyncio.wait_for(boards.get(), 10)
    assert not any(getattr(event, "code", "").startswith("line.") for event in watcher.told)
    assert [(event.slot, event.kind) for event in events(line, "quarantine")] == [("1", "stopped"), ("1", "released")]


async def test_what_a_scrapped_unit_gives_back_is_there_for_the_next_board_at_once(line):
    line.config.write_text(re.sub(r'(\[order\]\nname = )"[^"]*"', r'\1"WO-SMALL"', line.config.read_text()))
    await asyncio.to_thread(install_order, line.config, quantity=1, scrap_allowance=1, serial_format="T{number}")
    async with line.virtual_line() as boards:
        board = boards.boards[0]
        async with running(line, [board.port]) as (watcher, _):
            assert (await watcher.wait_for(slot("1", SlotState.PASSED))).product_serial == "T1"
            seen = len(watcher.told)
            await asyncio.to_thread(board.replace_by_blank)
            full = await watcher.wait_for(slot("1", SlotState.FAILED), after=seen)
            scrap = ["unit", "scrap", "T1", "--reason", "fell", "--config", str(line.config)]
            assert (await asyncio.to_thread(CliRunner().invoke, root, scrap)).exit_code == 0
            seen = len(watcher.told)
            await asyncio.to_thread(board.unplug)
            await asyncio.to_thread(board.plug)
            again = await watcher.wait_for(slot("1", SlotState.PASSED), after=seen)
    assert (full.code, again.product_serial) == ("manifest.order_exhausted", "T2")


def test_two_stations_never_write_one_manifest(line):
    with line.start("run", "--json") as process:
        next(iter(line.events(process)))
        second = line.station("run", "--once")
        code, _ = line.finish(process, 15)
    assert second.returncode == 1
    assert f"process {process.pid}" in second.stderr
    assert second.stderr.count("\n") == 1
    assert code == 0


def test_a_clock_behind_the_last_event_stops_the_line_before_a_board_is_touched(line):
    with Manifest.open(line.manifest, clock=lambda: datetime.now(UTC) + timedelta(days=2)) as manifest:
        manifest.event(None, "1", "quarantine", "released", {})
    with ManifestReader(line.manifest) as reader:
        before = len(list(reader.events()))
    ended = line.station("run", "--once")
    assert ended.returncode == 1
    assert "clock" in ended.stderr
    assert ended.stderr.count("\n") == 1
    with ManifestReader(line.manifest) as reader:
        assert len(list(reader.events())) == before
