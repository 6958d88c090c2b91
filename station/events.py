"""What the line tells whoever watches it: the table on a terminal, the console, a log.

The daemon calls one function, ``Watch``, on its own event loop for each event. Texts are safe to show (invariant I8).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class SlotState(StrEnum):
    """What the operator sees of a slot."""

    EMPTY = "empty"
    """No board."""
    RUNNING = "running"
    """Leave it alone."""
    PASSED = "passed"
    """Take it out: a good board."""
    DONE_BEFORE = "done before"
    """A board that passed on another day; nothing was done."""
    FAILED = "failed"
    """Read the sentence, do what it says."""
    STOPPED = "stopped"
    """The station was told to stop before this board was done; plug it in again later."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen with this board."""
        return self not in (SlotState.EMPTY, SlotState.RUNNING)


@dataclass(frozen=True, slots=True)
class SlotChanged:
    """A slot has a new state, or its board a new step."""

    slot: str
    state: SlotState
    step: str = ""
    """The step that begins (``RUNNING``), or in which the unit ended."""
    hardware_id: str = ""
    product_serial: str = ""
    sentence: str = ""
    """For the operator."""
    code: str = ""
    """Dotted error code; empty when all is well."""
    detail: str = ""
    """For the engineer."""
    at: float = 0.0
    """Monotonic seconds (``time.monotonic``)."""
    percent: int | None = None
    """How far a long step is, 0 to 100; None where nobody can say, and for every beginning of a step."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run of the line came to."""

    passed: int
    done_before: int
    failed: int
    stopped: int
    seconds: float
    """From the first board's first step to the last board's end; 0 when there was none."""
    signal: int = 0
    """The signal that ended the run; 0 when it ended by itself."""

    @property
    def boards(self) -> int:
        """Boards that came, however they ended."""
        return self.passed + self.done_before + self.failed + self.stopped

    @property
    def units_per_minute(self) -> float:
        """Boards that passed, a minute."""
        return self.passed * 60 / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about the station as a whole, beside its slots."""

    subject: str
    """What it is about, always the same word: ``crl``."""
    sentence: str
    code: str = ""
    """Dotted error code; empty when all is well."""
    at: float = 0.0
    """Monotonic seconds (``time.monotonic``)."""


Event = SlotChanged | Notice
Watch = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Watch nothing."""
