"""The writing thread: commits are shared, errors are not, and nothing is reported before it is durable."""

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from hsm.durable import writer
from station.manifest import (
    Manifest,
    ManifestError,
    ManifestReader,
    ManifestUnwritable,
    RowRefused,
    operations,
    order_operations,
)
from station.manifest.testing import ORDER, begin, provision


@pytest.fixture
async def manifest(tmp_path):
    with Manifest.open(tmp_path / "manifest.db") as opened:
        await opened.open_order(ORDER)
        yield opened


@contextlib.contextmanager
def held(manifest):
    """Hold the writer inside an operation, so that what is asked for in the block waits and shares a commit."""
    entered, release = threading.Event(), threading.Event()

    def hold(_connection, _at):
        entered.set()
        assert release.wait(10)

    future = manifest._writer.submit(hold)
    entered.wait(10)
    try:
        yield
    finally:
        release.set()
        future.result(10)


async def together(manifest, *awaitables):
    """Start all while the writer is held; return their ends and how many commits they took."""
    with held(manifest):
        before = manifest.commits + 1  # the one of the operation that holds
        tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
        await asyncio.sleep(0)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    return ends, manifest.commits - before


async def test_operations_that_wait_share_one_commit(manifest):
    ends, commits = await together(manifest, *(begin(manifest, f"board-{number}") for number in range(64)))
    assert len({unit.id for unit in ends}) == 64
    assert commits == 1


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.rename(path.with_name("elsewhere"))])
async def test_nothing_is_reported_once_the_file_is_gone(manifest, tmp_path, lose):
    lose(tmp_path / "manifest.db")
    with pytest.raises(ManifestUnwritable, match="put it back") as caught:
        await begin(manifest, "board")
    assert caught.value.code == "manifest.gone"


async def test_file_that_was_put_back_is_written_again(manifest, tmp_path):
    path, elsewhere = tmp_path / "manifest.db", tmp_path / "elsewhere"
    path.rename(elsewhere)
    with pytest.raises(ManifestUnwritable):
        await begin(manifest, "board")
    elsewhere.rename(path)
    assert (await begin(manifest, "board")).hardware_id == "board"


async def test_lone_operation_does_not_wait_for_others(manifest):
    before = manifest.commits
    await begin(manifest, "board-1")
    assert manifest.commits == before + 1


async def test_lone_operation_that_fails_leaves_nothing_of_what_it_did(manifest):
    def half(connection, at):
        operations.event(connection, at, unit_id=None, slot="1", step="half", kind="done", facts={})
        raise RowRefused("no", code="test.no")

    before = manifest.commits
    with pytest.raises(RowRefused):
        await manifest._writer.perform(half)
    assert manifest.commits == before
    await begin(manifest, "board")
    with sqlite3.connect(manifest.path) as connection:
        assert connection.execute("SELECT count(*) FROM event WHERE step = 'half'").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize(
    ("boards", "savepoints"), [(("board",), 0), (("board", "board-2"), 0), (("board", "bad\n", "board-2"), 3)]
)
async def test_operations_that_go_well_have_no_savepoint_whose_pages_each_statement_would_go_through(
    manifest, boards, savepoints
):
    said = []

    def listen(connection, at):
        connection.set_trace_callback(said.append)

    await manifest._writer.perform(listen)
    _, commits = await together(manifest, *(begin(manifest, board) for board in boards))
    assert commits == 1
    assert any(text.startswith("INSERT INTO unit") for text in said)
    assert said.count("SAVEPOINT operation") == savepoints


async def test_operation_that_fails_in_a_shared_commit_fails_alone(manifest):
    ends, commits = await together(
        manifest, begin(manifest, "board-1"), begin(manifest, "bad\n"), begin(manifest, "board-2")
    )
    assert [type(end).__name__ for end in ends] == ["UnitRecord", "RowRefused", "UnitRecord"]
    assert commits == 1


def fail_at_commit(connection, at):
    """Break a rule that SQLite checks at COMMIT only."""
    connection.execute("PRAGMA defer_foreign_keys = ON")
    operations.event(connection, at, unit_id=4711, slot="1", step="x", kind="y", facts={})


async def test_commit_that_fails_is_reported_to_all_and_stores_nothing(manifest):
    ends, commits = await together(
        manifest,
        begin(manifest, "board-1"),
        manifest._writer.perform(fail_at_commit),
        begin(manifest, "board-2"),
    )
    assert all(isinstance(end, RowRefused) for end in ends)
    assert commits == 0
    with ManifestReader(manifest.path) as reader:
        assert list(reader.units()) == []


async def test_events_of_a_commit_that_failed_go_with_the_next(manifest):
    async def note():
        manifest.event(None, "1", "noted", "done", {})

    await together(manifest, note(), manifest._writer.perform(fail_at_commit))
    await begin(manifest, "board-1")
    with ManifestReader(manifest.path) as reader:
        assert [event.step for event in reader.events()] == ["version", "order", "noted", "begin"]


async def test_events_alone_share_a_commit_and_need_no_other_operation(manifest):
    before = manifest.commits
    for _ in range(100):
        manifest.event(None, "1", "noted", "done", {})
    with ManifestReader(manifest.path) as reader:
        async with asyncio.timeout(10):
            while sum(1 for _ in reader.events()) < 101:  # noqa: ASYNC110  # only the file tells
                await asyncio.sleep(writer.EVENT_SECONDS / 5)
    assert manifest.commits == before + 1


async def test_events_that_can_not_be_written_stop_the_line_at_last(manifest, monkeypatch):
    monkeypatch.setattr(writer, "EVENT_LIMIT", 3)
    with held(manifest):
        for _ in range(3):
            manifest.event(None, "1", "noted", "done", {})
        with pytest.raises(ManifestUnwritable) as refused:
            manifest.event(None, "1", "noted", "done", {})
    assert refused.value.code == "manifest.overloaded"


async def test_what_a_cancelled_caller_asked_for_is_done(manifest):
    with held(manifest):
        task = asyncio.ensure_future(begin(manifest, "board-1"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await begin(manifest, "board-1")).attempts == 2


async def test_callers_of_an_event_loop_that_ended_harm_nobody(manifest):
    async def leave():
        task = asyncio.ensure_future(begin(manifest, "board-1"))
        await asyncio.sleep(0)
        task.cancel()

    with held(manifest):
        await asyncio.to_thread(asyncio.run, leave())
    assert (await begin(manifest, "board-1")).attempts == 2


def test_caller_without_an_event_loop_gets_its_result(tmp_path):
    with Manifest.open(tmp_path / "manifest.db") as manifest:
        manifest._writer.submit(partial(order_operations.open_order, terms=ORDER)).result(10)
        with pytest.raises(ManifestError):
            manifest._writer.submit(partial(operations.attempt, issuance_id=1)).result(10)


async def test_two_event_loops_are_served_by_one_manifest(manifest):
    here, there = await asyncio.gather(
        begin(manifest, "board-1"), asyncio.to_thread(lambda: asyncio.run(begin(manifest, "board-2")))
    )
    assert {here.hardware_id, there.hardware_id} == {"board-1", "board-2"}


async def test_full_disk_refuses_and_space_heals(manifest):
    connection = manifest._db.conn
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    done = []

    async def fill():
        for number in range(1000):
            done.append(await provision(manifest, f"board-{number}"))  # noqa: PERF401  # the ones that were reported

    with pytest.raises(ManifestUnwritable) as refused:
        await fill()
    assert refused.value.code == "manifest.disk_full"
    connection.execute("PRAGMA max_page_count = 1000000")
    await provision(manifest, "board-after")
    with ManifestReader(manifest.path) as reader:
        assert reader.unit("board-after").unit.state == "passed"
        assert reader.counts()["passed"] == len(done) + 1


FULL_AT_COMMIT = """
import asyncio, json, pathlib, resource, sys
from station.manifest import Manifest, ManifestError
from station.manifest.testing import ORDER, provision

async def main(path):
    done = []
    with Manifest.open(path) as manifest:
        await manifest.open_order(ORDER)
        wal = path.with_name(path.name + "-wal").stat().st_size
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (wal + 100_000, hard))
        code = None
        async def slot(number):
            for turn in range(100):
                done.append((await provision(manifest, f"board-{number}-{turn}")).product_serial)
        try:
            await asyncio.gather(*(slot(number) for number in range(8)))
        except ManifestError as error:
            code = error.code
        manifest.event(None, "1", "while-full", "noted", {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await provision(manifest, "board-after")
    print(json.dumps({"code": code, "done": done}))

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


def test_file_that_may_not_grow_refuses_at_commit_and_loses_nothing(tmp_path):
    path = tmp_path / "manifest.db"
    child = subprocess.run(
        [sys.executable, "-c", FULL_AT_COMMIT, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert child.returncode == 0, child.stderr
    said = json.loads(child.stdout)
    assert said["code"] == "manifest.io"
    with ManifestReader(path) as reader:
        passed = {unit.product_serial for unit in reader.units(state="passed")}
        steps = [event.step for event in reader.events()]
        after = reader.unit("board-after").unit
    assert set(said["done"]) <= passed
    assert after.state == "passed"
    assert "while-full" in steps


async def test_foreign_transaction_is_waited_for_and_then_named(manifest):
    manifest._db.conn.execute("PRAGMA busy_timeout = 50")
    with contextlib.closing(sqlite3.connect(manifest.path, isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(ManifestUnwritable) as refused:
            await begin(manifest, "board-1")
        assert refused.value.code == "manifest.busy"
        shell.execute("ROLLBACK")
    assert (await begin(manifest, "board-1")).attempts == 1


class _DeadDisk:
    """A connection whose commits and rollbacks fail, as on a disk that was torn out."""

    def __init__(self, connection):
        self._connection = connection

    def execute(self, sql):
        if sql == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(sql)

    def rollback(self):
        raise sqlite3.OperationalError("disk I/O error")

    def __getattr__(self, name):
        return getattr(self._connection, name)


async def test_disk_that_refuses_even_the_rollback_lets_no_caller_wait_for_ever(manifest, monkeypatch):
    monkeypatch.setattr(manifest._writer, "_connection", _DeadDisk(manifest._writer._connection))
    for _ in range(2):
        async with asyncio.timeout(5):
            with pytest.raises(ManifestError):
                await manifest.answer()
