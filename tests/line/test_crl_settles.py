"""What became of units while no line ran, or while the token was away, is on the lists as soon as that is over."""

import asyncio
from contextlib import asynccontextmanager
from functools import partial

from hsm import Timing
from hsm.revocation import read_crl
from station.config import load
from station.events import Notice
from station.line.control import ask
from station.line.crl_schedule import CrlSchedule
from station.line.daemon import run_line
from station.manifest import Act, LifeRequest, Manifest, ManifestReader

SECTION = '\n[crl]\ndirectory = "crl"\nevery = "1h"\noverlap = "1h"\nurl = "http://crl.example.com"\n'


@asynccontextmanager
async def running(line):
    """Run the daemon; yields what it tells of lists, and lets a test wait for some of it."""
    told, more = [], asyncio.Event()

    def watch(event):
        if isinstance(event, Notice) and event.subject == "crl":
            told.append(event)
            more.set()

    async def until(condition):
        async with asyncio.timeout(40):
            while not condition():
                more.clear()
                await more.wait()

    task = asyncio.create_task(run_line(load(line.config), watch=watch))
    try:
        yield told, until
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def listed(line):
    """Return the serials on the newest delta."""
    path = line.folder / "crl" / "delta.crl"
    return {entry.serial_number for entry in read_crl(path)} if path.exists() else set()


def certificates(line):
    with ManifestReader(line.manifest) as reader:
        units = [reader.unit(unit.hardware_id) for unit in sorted(reader.units(), key=lambda one: one.product_serial)]
    return [unit.issuances[-1].certificate_serial for unit in units]


async def test_acts_are_published_that_came_while_the_line_stood_and_while_the_token_was_away(line, monkeypatch):
    monkeypatch.setattr("hsm.signer.Timing", partial(Timing, reload=0.3, tick=0.02))
    monkeypatch.setattr("station.line.daemon.CrlSchedule", partial(CrlSchedule, look_seconds=0.2))
    line.set_boards(2)
    line.config.write_text(line.config.read_text() + SECTION)
    done = await asyncio.to_thread(line.station, "run", "--once")
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = certificates(line)
    with Manifest.open(line.manifest) as manifest:  # as a command that died before it told the CA's journal
        await manifest.act(LifeRequest(Act.SCRAP, "SN000001", "fell", "alice", "station"))

    tokens = line.folder / "tokens" / "tokens"
    async with running(line) as (told, until):
        await until(lambda: first in listed(line))
        tokens.rename(tokens.with_name("gone"))
        tokens.mkdir(mode=0o700)
        wish = {"do": "act", "act": "scrap", "unit": "SN000002", "reason": "fell too", "actor": "alice"}
        await asyncio.to_thread(ask, line.manifest, wish)
        await until(lambda: any(notice.code.startswith("token.") for notice in told))
        assert second not in listed(line)
        tokens.rmdir()
        tokens.with_name("gone").rename(tokens)
        await until(lambda: second in listed(line))
    assert {first, second} == listed(line)
    assert told[-1].code == ""
