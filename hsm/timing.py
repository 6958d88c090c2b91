"""How long a signer waits for what, and the clock that it looks at."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Clock(Protocol):
    """Seconds that only grow."""

    def now(self) -> float:
        """Return the time."""

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Return when ``event`` is set, or when it is time to look at the clock again, after ``seconds`` at most."""

    def on_change(self, wake: Callable[[], None]) -> None:
        """Let ``wake`` be called when the clock is moved by hand."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return ``time.monotonic``."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Wait."""
        event.wait(seconds)

    def on_change(self, wake: Callable[[], None]) -> None:
        """Ignore it: nobody moves this clock."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of a signer, all in seconds."""

    keepalive: float = 20.0
    """An idle token is asked for something cheap after so long. YubiHSM drops a session after 30 s; some saw 15."""
    reload: float = 30.0
    """The module is reloaded at most once in so long."""
    answer: float = 15.0
    """A token that has not answered one signature after so long hangs. RSA-4096 on a small token takes some seconds."""
    heal: float = 90.0
    """The same for a reload with login and probe: a network HSM may take its time."""
    tick: float = 1.0
    """How often it is looked whether one of these times is over."""
    clock: Clock = field(default_factory=SystemClock)
