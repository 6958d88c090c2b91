"""Times as they are stored, and the guard against a clock that goes back."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from hsm.durable.kind import FileKind

CLOCK_TOLERANCE: Final = timedelta(seconds=5)
"""How far the clock may step back (NTP does so). Events then share the last one's time; their order is their id's."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time of this computer, aware of its zone."""
    return datetime.now(UTC)


def time_text(moment: datetime) -> str:
    """Return a time as it is stored: ``2026-01-31T12:34:56.789Z``; such texts sort as times do."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


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
        """
        now = self._clock()
        if now + CLOCK_TOLERANCE < self._last:
            raise self._kind.errors.clock_went_back(
                f"the clock says {time_text(now)}, the last entry in the {self._kind.name} is of "
                f"{time_text(self._last)}: set the clock (timedatectl status), then go on",
                clock=time_text(now),
                last_event=time_text(self._last),
            )
        self._last = max(self._last, now)
        return time_text(self._last)
