"""Ctrl-C during a ceremony: held back until the work stands where it can be undone.

A signal between the making of a key and the note that it was made would leave a key that nobody knows of. So signals
that ask a process to end are noted, and looked at between two acts. While a ceremony is undone they are noted only.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Final, Self

HELD: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite kill, a terminal that was closed."""


class Interrupts:
    """Holds the signals of ``HELD`` back. In another thread than the main one it does nothing: none arrive there."""

    def __init__(self) -> None:
        self._came = False
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def check(self) -> None:
        """Stop here if somebody asked for it.

        Raises:
            KeyboardInterrupt: a signal came since the start.
        """
        if self._came:
            raise KeyboardInterrupt

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """Let signals through for a while: a human is asked, and nothing is made yet."""
        self._restore()
        try:
            yield
        finally:
            self._hold()

    def __enter__(self) -> Self:
        """Start to hold back."""
        self._hold()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let signals through again."""
        self._restore()

    def _hold(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in HELD:
                self._before[number] = signal.signal(number, self._note)

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._came = True
