"""The running line while its token is away: real boards, a real token whose folder is taken away and brought back."""

import asyncio
from contextlib import asynccontextmanager

from hsm import Timing
from station.config import load
from station.events import SlotChanged, SlotState
from station.line.daemon import run_line
from station.manifest import ManifestReader

QUICK = Timing(reload=0.3, tick=0.02)


@asynccontextmanager
async def running(line, ports):
    """Run the daemon; yields the events, and lets a test wait for some."""
    line.name_slots(ports)
    told, more = [], asyncio.Event()

    def watch(event):
        told.append(event)
        more.set()

    async def until(condition):
        async with asyncio.timeout(40):
            while not condition(told):
                more.clear()
                await more.wait()

    task = asyncio.create_task(run_line(load(line.config), watch=watch))
    try:
        yield until
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def passed(told):
    return {event.slot for event in told if isinstance(event, SlotChanged) and event.state is SlotState.PASSED}


async def test_boards_wait_for_the_token_and_go_on_by_themselves(line, monkeypatch):
    monkeypatch.setattr("hsm.signer.Timing", lambda: QUICK)
    tokens = line.folder / "tokens" / "tokens"
    async with line.virtual_line() as boards, running(line, boards.ports[:1]) as until:
        await until(lambda told: passed(told) == {"1"})
    async with line.virtual_line() as boards, running(line, boards.ports) as until:
        await until(lambda told: any(isinstance(event, SlotChanged) and event.slot == "1" for event in told))
        tokens.rename(tokens.with_name("gone"))
        tokens.mkdir(mode=0o700)
        await until(
            lambda told: (
                {event.slot for event in told if isinstance(event, SlotChanged) and event.code == "token.asleep"}
                | passed(told)
                >= {"2", "3", "4"}
            )
        )
        tokens.rmdir()
        tokens.with_name("gone").rename(tokens)
        await until(lambda told: passed(told) >= {"2", "3", "4"})
    with ManifestReader(line.manifest) as reader:
        units = [reader.unit(unit.hardware_id) for unit in reader.units()]
    assert len(units) == 4
    assert all(len(unit.issuances) == 1 and unit.proof is not None for unit in units)
    audit = line.station("ca", "audit")
    assert (audit.returncode, audit.stderr) == (0, ""), audit.stdout


def test_line_that_is_killed_while_it_waits_loses_nothing(line):
    """The intents stand; the next start ends with the same certificates."""
    tokens = line.folder / "tokens" / "tokens"
    away = tokens.with_name("gone")
    process = line.start("run", "--json")
    try:
        for event in line.events(process):
            if not away.exists():
                tokens.rename(away)
                tokens.mkdir(mode=0o700)
            if event.get("code") == "token.asleep" or event.get("state") in {"passed", "failed"}:
                break
    finally:
        line.finish(process)
    tokens.rmdir()
    away.rename(tokens)
    done = line.station("run", "--once", seconds=100)
    assert done.returncode == 0, done.stdout + done.stderr
    line.judge()
    audit = line.station("ca", "audit")
    assert (audit.returncode, audit.stderr) == (0, ""), audit.stdout
