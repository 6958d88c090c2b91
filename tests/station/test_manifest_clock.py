"""A clock that goes back: refused, unless by a little."""

from datetime import UTC, datetime, timedelta

import pytest

from station.manifest import (
    CLOCK_TOLERANCE,
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
