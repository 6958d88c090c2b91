"""The event loop of ``station.testing`` whose time passes only when nothing else can happen."""

import asyncio
import time

import pytest

from station.devices.smp import SmpDriver
from station.errors import NoAnswer
from station.testing import MemoryLink
from station.testing.virtual_time import Held, NothingHappens, VirtualLoop, _Jumper


def run(work):
    """Run a coroutine function in a virtual loop; return the loop."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(work(loop))
    return loop


def test_an_hour_passes_at_once_and_to_the_second():
    began = time.monotonic()
    assert run(lambda _loop: asyncio.sleep(3600)).time() == pytest.approx(3600)
    assert time.monotonic() - began < 5


def test_timers_fire_in_their_order():
    fired = []

    async def work(_loop):
        async def after(seconds):
            await asyncio.sleep(seconds)
            fired.append(seconds)

        await asyncio.gather(after(30), after(10), after(20))

    run(work)
    assert fired == [10, 20, 30]


def test_a_silent_board_costs_its_driver_the_five_seconds_that_it_says():
    async def work(_loop):
        near, _far = MemoryLink.pair()
        with pytest.raises(NoAnswer):
            await SmpDriver(near).identify()

    assert run(work).time() == pytest.approx(5, abs=0.1)


def test_no_time_passes_while_a_thread_works():
    class Disk:
        async def write(self):
            await asyncio.to_thread(time.sleep, 0.05)

    async def work(loop):
        waiting = asyncio.ensure_future(asyncio.sleep(1))
        await Held(Disk(), loop).write()
        assert loop.time() == 0
        waiting.cancel()

    run(work)


def test_a_program_that_waits_for_ever_is_told(monkeypatch):
    monkeypatch.setattr("station.testing.virtual_time.STUCK", 0.05)
    with pytest.raises(NothingHappens):
        _Jumper().select(None)
