"""Revocation lists on a schedule inside the daemon: told, retried, and never in the way of the boards."""

import asyncio
import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hsm import Authority, Signer, TokenUri
from hsm.durable import OpenFile, utc_now
from hsm.journal import CaJournal
from hsm.journal.schema import _ALL, JOURNAL
from hsm.revocation import Reason, Target, number_of, read_crl, revoke, revoker_of, shard_of
from station.config import load
from station.config.certificates import load_certificate
from station.line.crl_schedule import CrlSchedule
from station.manifest import Act, LifeRequest, Manifest
from station.manifest.testing import ORDER, provision
from station.revoking import mark, pending

STATION = Path(sys.executable).with_name("station")

SECTION = """
[crl]
directory = "crl"
every = "1h"
overlap = "1h"
url = "http://crl.example.com"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A line's folder with tokens and a CA."""
    folder = tmp_path_factory.mktemp("schedule") / "line"
    subprocess.run([STATION, "init", folder, "--softhsm", "--rehearsal", "2"], check=True, capture_output=True)
    with (folder / "station.toml").open("a") as file:
        file.write(SECTION)
    return folder


@pytest.fixture
def config(made, tmp_path):
    """The same, with a journal and lists of its own."""
    text = (made / "station.toml").read_text()
    text = text.replace('directory = "crl"', f'directory = "{tmp_path / "crl"}"')
    text = text.replace("[ca]\n", f'[ca]\njournal = "{tmp_path / "ca.db"}"\n', 1)
    path = made / f"{tmp_path.name}.toml"
    path.write_text(text)
    yield load(path)
    path.unlink()


class Told:
    """What a schedule says, and a clock for it."""

    def __init__(self):
        self.notices = []
        self.offset = dt.timedelta()

    def __call__(self, notice):
        self.notices.append(notice)

    def now(self):
        return dt.datetime.now(dt.UTC) + self.offset

    @property
    def last(self):
        return self.notices[-1].sentence


@asynccontextmanager
async def scheduled(config, **options):
    told = Told()
    uri = TokenUri.parse(config.ca.token)
    with Signer.open(uri, environment=config.ca.environment) as signer:
        authority = await Authority.open(signer, issuer=load_certificate(config.ca.certificate))
        yield CrlSchedule(config, config.crl, [authority], told, now=told.now, **options), told


def revoke_one(config, serial=17, shard=None):
    revoker = revoker_of(load_certificate(config.ca.certificate))
    with CaJournal.open(config.ca.journal) as journal:
        revoke(journal, revoker, [Target(serial, shard)], Reason.SUPERSEDED)


async def test_first_look_publishes_everything(config):
    async with scheduled(config) as (schedule, told):
        await schedule.look()
    order = f"shards/{shard_of(config.order.name)}.crl"
    assert told.last == f"published full.crl (number 1), {order} (number 1)"
    assert (config.crl.directory / order).exists()


async def test_nothing_is_made_by_a_clock_that_was_set_ahead(config, monkeypatch):
    async with scheduled(config) as (schedule, told):
        await schedule.look()
        await schedule.look()
        told.offset = dt.timedelta(days=400)
        with monkeypatch.context() as patch:
            patch.setattr("hsm.durable.clock.time.clock_gettime", lambda _: 0.0)  # less than the clock went on
            await schedule.look()
        assert told.notices[-1].code == "journal.clock_jumped"
        told.offset = dt.timedelta()
        await schedule.look()
    assert told.last == "nothing is due any more"


async def test_a_look_without_anything_due_says_nothing(config):
    async with scheduled(config) as (schedule, told):
        await schedule.look()
        await schedule.look()
        told.notices.clear()
        await schedule.look()
    assert told.notices == []


async def test_a_revocation_is_published_by_the_next_look(config):
    async with scheduled(config) as (schedule, told):
        await schedule.look()
        await schedule.look()
        revoke_one(config, shard=shard_of(config.order.name))
        await schedule.look()
    assert told.last == f"published delta.crl (number 3), shards/{shard_of(config.order.name)}.crl (number 3)"
    assert [entry.serial_number for entry in read_crl(config.crl.directory / "delta.crl")] == [17]


async def test_acts_are_read_again_only_when_one_was_added(config, monkeypatch):
    read = []

    def counted(*arguments):
        read.append(arguments)
        return pending(*arguments)

    monkeypatch.setattr("station.line.crl_schedule.pending", counted)
    async with scheduled(config) as (schedule, _):
        await schedule.look()
        await schedule.look()
        read.clear()
        for _ in range(3):
            await schedule.look()
        assert not read
        revoke_one(config)
        await schedule.look()
        await schedule.look()
        assert len(read) == 1


async def test_an_act_in_the_manifest_is_seen_by_the_next_look(config, tmp_path):
    config = replace(config, station=replace(config.station, manifest=tmp_path / "other.db"))
    with CaJournal.open(config.ca.journal) as journal, Manifest.open(config.station.manifest) as manifest:
        await manifest.open_order(ORDER)
        await provision(manifest, "A1")
        with journal.reader() as reader:
            before = mark(config, reader)
            await provision(manifest, "B2")
            assert mark(config, reader) == before
            await manifest.act(LifeRequest(Act.SCRAP, "A1", "fell", "alice", "station"))
            assert mark(config, reader) != before


async def test_each_list_comes_again_when_its_time_has_come(config):
    async with scheduled(config) as (schedule, told):
        await schedule.look()
        told.offset = dt.timedelta(minutes=61)
        await schedule.look()
    crl = read_crl(config.crl.directory / "full.crl")
    assert number_of(crl) == 2
    assert crl.next_update_utc - crl.last_update_utc == dt.timedelta(hours=2)


async def test_a_list_that_somebody_removed_comes_again(config):
    async with scheduled(config) as (schedule, _):
        await schedule.look()
        (config.crl.directory / "full.crl").unlink()
        await schedule.look()
    assert (config.crl.directory / "full.crl").exists()


async def test_a_list_that_was_signed_and_never_published_comes_again(config, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    shard = shard_of(config.order.name)
    async with scheduled(config) as (schedule, told):
        await schedule.look()
        await schedule.look()
        revoke_one(config, shard=shard)
        with monkeypatch.context() as patch:
            patch.setattr("hsm.revocation.folder.replace_file", full)
            await schedule.look()
        assert told.notices[-1].code == "crl.folder"
        await schedule.look()
    assert len(read_crl(config.crl.directory / "shards" / f"{shard}.crl")) == 1


async def test_an_older_journal_is_told_while_nothing_is_due(config, tmp_path):
    async with scheduled(config) as (schedule, told):
        await schedule.look()
        shutil.copy(config.ca.journal, tmp_path / "copy.db")
        await schedule.look()  # the delta, with the next number
        shutil.copy(tmp_path / "copy.db", config.ca.journal)
        await schedule.look()
    assert told.notices[-1].code == "crl.number_behind"


async def test_a_journal_of_an_older_program_is_brought_up_to_date(config):
    first = replace(JOURNAL, schema=2, migrate=_ALL[0].apply, last_entry="SELECT NULL")
    OpenFile(first, config.ca.journal, clock=utc_now).close()
    async with scheduled(config) as (schedule, told):
        await schedule.look()
    assert told.last.startswith("published full.crl")


async def test_a_failure_is_told_once_and_tried_again(config):
    config.crl.directory.write_text("a file where a folder should be")
    async with scheduled(config) as (schedule, told):
        await schedule.look()
        await schedule.look()
        assert [notice.code for notice in told.notices] == ["crl.folder"]
        assert "the line goes on" in told.last
        config.crl.directory.unlink()
        await schedule.look()
    assert told.last.startswith("published full.crl")
    assert told.notices[-1].code == ""


async def test_a_journal_that_another_program_writes_to_is_waited_for(config):
    async with scheduled(config) as (schedule, told):
        with CaJournal.open(config.ca.journal):
            await schedule.look()
        assert told.notices[-1].code == "journal.locked" or told.last.startswith("published")
        await schedule.look()
    assert (config.crl.directory / "full.crl").exists()


async def test_an_older_journal_is_told_and_nothing_is_published(config):
    async with scheduled(config) as (schedule, told):
        await schedule.look()
        before = (config.crl.directory / "full.crl").read_bytes()
        for path in config.ca.journal.parent.glob("ca.db*"):
            path.unlink()
        await schedule.look()
    assert told.notices[-1].code == "crl.number_behind"
    assert (config.crl.directory / "full.crl").read_bytes() == before


async def test_what_is_being_published_is_finished_when_the_line_stops(config, monkeypatch):
    begun, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    real = os.fsync

    def slow(descriptor):
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)
        real(descriptor)

    async with scheduled(config) as (schedule, _):
        monkeypatch.setattr("hsm.files.os.fsync", slow)
        task = asyncio.create_task(schedule.run())
        await begun.wait()
        task.cancel()
        go_on.set()
        await asyncio.gather(task, return_exceptions=True)
    files = {path.name for path in config.crl.directory.rglob("*") if path.is_file()}
    assert files == {"full.crl", f"{shard_of(config.order.name)}.crl"}


async def test_schedule_looks_again_and_again(config):
    async with scheduled(config, look_seconds=0.01) as (schedule, told):
        twice = asyncio.Event()  # full and shards, and then the delta that adds to them
        schedule._watch = lambda notice: (told(notice), len(told.notices) == 2 and twice.set())
        task = asyncio.create_task(schedule.run())
        await twice.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert told.notices[1].sentence == "published delta.crl (number 2)"


def test_daemon_publishes_and_units_certificates_are_revoked_by_order(made):
    """The whole way: the line runs, the order is recalled, the shard tells of each unit."""
    run = subprocess.run(
        [STATION, "run", "--once", "--json"], cwd=made, capture_output=True, text=True, timeout=110, check=False
    )
    assert run.returncode == 0, run.stderr
    events = [json.loads(line) for line in run.stdout.splitlines()]
    assert [event["subject"] for event in events if event["event"] == "notice"][:1] == ["crl"]
    config = load(made / "station.toml")
    recall = ["ca", "revoke", "--order", config.order.name, "--reason", "cessationOfOperation", "--yes"]
    said = subprocess.run([STATION, *recall], cwd=made, capture_output=True, text=True, check=True).stdout
    assert "revoked: 2 certificates" in said
    subprocess.run([STATION, "ca", "crl", "publish", "--due"], cwd=made, capture_output=True, check=True)
    shard = read_crl(made / "crl/shards" / f"{shard_of(config.order.name)}.crl")
    assert len(shard) == 2
    assert len(read_crl(made / "crl/delta.crl")) == 2


def test_daemon_that_runs_lets_a_revocation_be_written(made):
    """The CA's journal is open only while lists are made."""
    command = [STATION, "run", "--json"]
    with subprocess.Popen(command, cwd=made, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as line:
        try:
            for text in line.stdout:
                if json.loads(text)["event"] == "slot":
                    break
            done = subprocess.run(
                [STATION, "ca", "revoke", "abcdef", "--unknown", "--reason", "unspecified"],
                cwd=made,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            line.send_signal(signal.SIGTERM)
            line.communicate(timeout=60)
    assert done.returncode == 0, done.stderr
