"""A clock that goes back or jumps ahead: refused, unless by a little."""

from datetime import UTC, datetime, timedelta

import pytest

from hsm.durable import JUMP_TOLERANCE, SteadyClock
from station.manifest import (
    CLOCK_TOLERANCE,
    ClockJumped,
    ClockWentBack,
    Manifest,
    ManifestReader,
)
from station.manifest.testing import ORDER, begin


@pytest.fixture
def path(tmp_path):
    return tmp_path / "manifest.db"


class Clock:
    def __init__(self):
        self.now = datetime(2026, 7, 1, 12, tzinfo=UTC)

    def __call__(self):
        return self.now


async def test_clock_that_went_back_stops_the_line(path):
    clock = Clock()
    with Manifest.open(path, clock=clock) as manifest:
        await manifest.open_order(ORDER)
        clock.now -= CLOCK_TOLERANCE + timedelta(seconds=1)
        with pytest.raises(ClockWentBack, match="set the clock"):
            await begin(manifest, "board-1")
        clock.now += timedelta(seconds=2)
        await begin(manifest, "board-1")


async def test_clock_behind_the_last_event_is_refused_at_open(path):
    clock = Clock()
    with Manifest.open(path, clock=clock) as manifest:
        await manifest.open_order(ORDER)
    clock.now -= timedelta(days=1)
    with pytest.raises(ClockWentBack):
        Manifest.open(path, clock=clock)


async def test_clock_that_steps_back_a_little_leaves_events_in_order(path):
    clock = Clock()
    with Manifest.open(path, clock=clock) as manifest:
        await manifest.open_order(ORDER)
        clock.now -= timedelta(seconds=1)
        await begin(manifest, "board-1")
    with ManifestReader(path) as reader:
        assert [event.at for event in reader.events()] == ["2026-07-01T12:00:00.000Z"] * 3  # version, order, begin


class SetAhead:
    """A computer whose clock can be set, and is up for as long as it is."""

    def __init__(self):
        self.now, self.up = datetime(2026, 7, 1, 12, tzinfo=UTC), 1000.0

    def later(self, **step):
        self.now += timedelta(**step)
        self.up += timedelta(**step).total_seconds()


async def test_clock_that_is_set_ahead_stops_the_line_until_it_is_right(path):
    computer = SetAhead()
    with Manifest.open(path, clock=SteadyClock(lambda: computer.now, lambda: computer.up)) as manifest:
        await manifest.open_order(ORDER)
        computer.later(days=3)  # of work, or of sleep
        await begin(manifest, "board-1")
        computer.now += timedelta(days=400)
        for _ in range(2):
            with pytest.raises(ClockJumped, match=r"set ahead by 400 days.*2027-08-08.*start the station anew"):
                await begin(manifest, "board-2")
            computer.later(hours=1)
        computer.now -= timedelta(days=400)
        await begin(manifest, "board-2")
    with ManifestReader(path) as reader:
        assert max(event.at for event in reader.events()) == "2026-07-04T14:00:00.000Z"


async def test_clock_that_went_back_and_is_set_right_did_not_jump(path):
    computer = SetAhead()
    with Manifest.open(path, clock=SteadyClock(lambda: computer.now, lambda: computer.up)) as manifest:
        await manifest.open_order(ORDER)
        computer.now -= timedelta(hours=1)
        with pytest.raises(ClockWentBack):
            await begin(manifest, "board-1")
        computer.now += timedelta(hours=1)
        await begin(manifest, "board-1")


async def test_clock_that_steps_ahead_a_little_is_believed(path):
    computer = SetAhead()
    with Manifest.open(path, clock=SteadyClock(lambda: computer.now, lambda: computer.up)) as manifest:
        await manifest.open_order(ORDER)
        computer.now += JUMP_TOLERANCE
        await begin(manifest, "board-1")


def test_the_clock_of_an_open_file_is_a_steady_one(path, monkeypatch):
    with Manifest.open(path) as manifest:
        monkeypatch.setattr("hsm.durable.clock.time.clock_gettime", lambda _: 0.0)  # hours less than before
        with pytest.raises(ClockJumped):
            manifest.event(None, "", "", "note", {})


def test_a_file_that_is_opened_after_the_clock_was_set_ahead_is_refused(path, monkeypatch):
    monkeypatch.setattr("hsm.durable.clock.time.clock_gettime", lambda _: 0.0)
    with pytest.raises(ClockJumped, match="set it right"):
        Manifest.open(path)
    assert not path.exists()
