"""Times as they are stored, and the guards against a clock that goes back, or ahead of itself."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from hsm.durable.kind import FileKind

CLOCK_TOLERANCE: Final = timedelta(seconds=5)
"""How far the clock may step back (NTP does so). Events then share the last one's time; their order is their id's."""

JUMP_TOLERANCE: Final = timedelta(minutes=10)
"""How far the clock may step ahead at once. Set right again it stops the writing for as long."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time of this computer, aware of its zone."""
    return datetime.now(UTC)


def time_text(moment: datetime) -> str:
    """Return a time as it is stored: ``2026-01-31T12:34:56.789Z``; such texts sort as times do."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def seconds_up() -> float:
    """Return for how long this computer is up, in seconds, its sleep counted; nobody sets this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClockJumpedError(Exception):
    """The clock was set ahead; ``seen`` is what it says, ``by`` is how far."""

    def __init__(self, seen: datetime, by: timedelta) -> None:
        super().__init__(f"the clock was set ahead by {by}")
        self.seen = seen
        self.by = by


class SteadyClock:
    """The time of this computer, as long as it goes no faster than the computer is up.

    What is stored with a time far ahead can't be taken back, and nothing is stored after it until that time has come.
    So a clock that jumps ahead is not believed; whoever starts the program anew does.
    """

    def __init__(self, clock: Clock = utc_now, up: Callable[[], float] = seconds_up) -> None:
        """Begin with the time as it is.

        Args:
            clock: the time, aware of its zone.
            up: seconds that only grow, also while the computer sleeps.
        """
        self._clock = clock
        self._up = up
        self._booted = clock() - timedelta(seconds=up())
        """When this computer was started, by the latest time that was believed."""

    def __call__(self) -> datetime:
        """Return the time.

        Raises:
            ClockJumpedError: it was set ahead by more than ``JUMP_TOLERANCE`` of what was believed before. That a clock
                that went back is set right is no such thing.
        """
        now = self._clock()
        booted = now - timedelta(seconds=self._up())
        if booted - self._booted > JUMP_TOLERANCE:
            raise ClockJumpedError(now, booted - self._booted)
        self._booted = max(self._booted, booted)
        return now


STEADY: Final = SteadyClock()
"""The time for all files of this process: one that is opened after the clock was set ahead is no safer."""


class Stamps:
    """Times that never go back; not thread-safe by itself."""

    def __init__(self, kind: FileKind, clock: Clock) -> None:
        """Start with nothing behind.

        Args:
            kind: of the file that the times are for.
            clock: the time, aware of its zone.
        """
        self._kind = kind
        self._clock = clock
        self._last = datetime.min.replace(tzinfo=UTC)

    def start_after(self, last: str) -> None:
        """Take the time of the last event that is stored."""
        self._last = datetime.fromisoformat(last)

    def next(self) -> str:
        """Return the time now, or the last one if the clock stepped back a little.

        Raises:
            ErrorKinds.clock_went_back: by more than the tolerance. Rows with wrong times would be worse than a line
                that stands.
            ErrorKinds.clock_jumped: ahead, by more than a ``SteadyClock`` lets through.
        """
        try:
            now = self._clock()
        except ClockJumpedError as error:
            raise self._kind.errors.clock_jumped(
                f"the clock was set ahead by {timedelta(seconds=round(error.by.total_seconds()))}, to "
                f"{time_text(error.seen)}: set it right (timedatectl), and this goes on; if that is the time, start "
                f"the {self._kind.program} anew",
                clock=time_text(error.seen),
            ) from None
        if now + CLOCK_TOLERANCE < self._last:
            raise self._kind.errors.clock_went_back(
                f"the clock says {time_text(now)}, the last entry in the {self._kind.name} is of "
                f"{time_text(self._last)}: set the clock (timedatectl status), then go on",
                clock=time_text(now),
                last_event=time_text(self._last),
            )
        self._last = max(self._last, now)
        return time_text(self._last)
