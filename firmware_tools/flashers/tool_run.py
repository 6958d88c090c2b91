"""What the flashers that run tools share: options of a payload, phases and their seconds, and a port that is gone."""

import contextlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from firmware_tools.errors import FlashError
from firmware_tools.flashers import Payload, Phase, Progress, Watch
from firmware_tools.flashers.child import Ended

__all__ = ["Failures", "Stopwatch", "checked_options", "failure_code", "gone", "port_is_gone"]


Failures: TypeAlias = Sequence[tuple[str, str]]
"""Patterns of what a tool says, and the codes that they mean."""


class Stopwatch:
    """Tells a watcher how far it is, and keeps the seconds of each phase."""

    def __init__(self, watch: Watch, total: int) -> None:
        self._watch = watch
        self.total: Final = total
        self._done = 0
        self._phase: Phase | None = None
        self._since = time.monotonic()
        self.seconds: dict[Phase, float] = {}

    @contextlib.contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Count what happens within as this phase, or as those that ``tell`` names in between."""
        self.tell(phase, None)
        yield
        self._turn(None)

    def tell(self, phase: Phase, done: int | None) -> None:
        """Say how far it is.

        Args:
            phase: from now on.
            done: bytes of all images together; None: as many as before.
        """
        self._turn(phase)
        self._done = self._done if done is None else min(done, self.total)
        self._watch(Progress(phase, self._done, self.total))

    def _turn(self, phase: Phase | None) -> None:
        now = time.monotonic()
        if self._phase is not None:
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now


def checked_options(payload: Payload, known: Mapping[str, type]) -> Mapping[str, str | int | bool]:
    """Return the payload's options.

    Raises:
        FlashError: ``flash.refused``: one is unknown, or of another type.
    """
    for name, value in payload.options.items():
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise FlashError(f"option {name} of the firmware is unknown here; known: {listed}", code="flash.refused")
        if type(value) is not known[name]:
            raise FlashError(f"option {name} of the firmware has to be {known[name].__name__}", code="flash.refused")
    return payload.options


def failure_code(ended: Ended, failures: Failures) -> str:
    """Return the code of what a tool said before it failed: the first pattern that fits."""
    said = "\n".join(ended.lines)
    return next((code for pattern, code in failures if re.search(pattern, said)), "flash.tool_failed")


def gone(port: str) -> FlashError:
    """Make the error of a port that was pulled."""
    return FlashError(f"the port {port} is gone", code="flash.no_answer", port=port)


def port_is_gone(port: str) -> bool:
    """Whether a port of this machine is not there any more."""
    return "://" not in port and not Path(port).exists()
