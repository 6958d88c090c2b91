"""Two tokens hold the line's key and the first fails: each is told of the numbers that it signs for."""

import asyncio
import contextlib
import shutil
import sqlite3
from contextlib import asynccontextmanager, closing

import pytest
from bench.copied_ca import with_copied_ca

from hsm import Timing
from hsm.data_objects import read_marks
from station.config import load
from station.events import SlotChanged, SlotState
from station.line.daemon import run_line
from station.orders.taken import NAME
from station.signing import open_signer

QUICK = Timing(reload=0.3, tick=0.02)


@pytest.fixture
def spared(line):
    """The line, with an issuing key that two tokens hold."""
    with_copied_ca(line.folder, ("intermediate", "spare"))
    return line


@asynccontextmanager
async def running(line, boards):
    """Run the daemon; lets a test wait for boards that passed."""
    line.name_slots([board.port for board in boards])
    passed, more = set(), asyncio.Event()

    def watch(event):
        if isinstance(event, SlotChanged) and event.state is SlotState.PASSED:
            passed.add(event.slot)
        more.set()

    async def until(slots):
        async with asyncio.timeout(40):
            while not passed >= slots:
                more.clear()
                await more.wait()

    task = asyncio.create_task(run_line(load(line.config), watch=watch))
    try:
        yield until
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def put_in(board):
    await asyncio.to_thread(board.plug)
    await asyncio.to_thread(board.power_on)


def known(line):
    """Return how many numbers each token knows to be taken."""
    with closing(sqlite3.connect(line.manifest)) as shell:
        (uid,) = shell.execute("SELECT uid FROM production_order").fetchone()
    with contextlib.chdir(line.folder), closing(open_signer(load(line.config).ca)) as group:
        return [
            max((int(mark.label.rpartition(".")[2]) for mark in read_marks(signer, f"{NAME}{uid}")), default=0)
            for signer in group.signers
        ]


def folder_of(line, label):
    """Return the folder of a token: SoftHSM writes the label into its object."""
    objects = (line.folder / "tokens" / "tokens").glob("*/token.object")
    (found,) = [path.parent for path in objects if label.encode() in path.read_bytes()]
    return found


async def test_a_spare_that_stands_in_is_told_and_the_first_one_is_no_obstacle_when_it_comes_back(
    spared, monkeypatch, tmp_path
):
    monkeypatch.setattr("hsm.signer.Timing", lambda: QUICK)
    first, gone = folder_of(spared, "intermediate"), tmp_path / "gone"
    async with spared.virtual_line() as line:
        boards = line.boards
        for board in boards[1:]:
            await asyncio.to_thread(board.unplug)
        async with running(spared, boards) as until:
            await until({"1"})
            first.rename(gone)
            await put_in(boards[1])
            await until({"2"})
            gone.rename(first)
            await put_in(boards[2])
            await until({"3"})
        newest = tmp_path / "newest.db"
        assert (await asyncio.to_thread(spared.station, "manifest", "backup", str(newest))).returncode == 0
        assert known(spared)[1] >= 2
        assert max(known(spared)) == 3

        first.rename(gone)  # who starts now would not hear what only the first token knows
        refused = await asyncio.to_thread(spared.station, "run", "--once")
        assert refused.returncode == 1
        assert "intermediate is away, and may hold it" in refused.stderr
        gone.rename(first)

        async with running(spared, boards) as until:
            await put_in(boards[3])
            await until({"4"})
    held = await spared.read_boards()
    assert len(set(held.values())) == 4
    assert known(spared)[0] == 4
    shutil.copy(newest, spared.manifest)  # an older copy, and the spare alone would not know
    refused = await asyncio.to_thread(spared.station, "run", "--once")
    assert refused.returncode == 1
    assert "older copy" in refused.stderr or "manifest accept" in refused.stderr
