"""An event loop whose time passes only when nothing else can happen: deadlines of minutes, tested in milliseconds.

::

    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(driver.identify())        # to a silent board: the tries of 5 s take no time
    assert loop.time() < 6

Timers fire at exactly their times, in their order. What threads do (the manifest's writer, a token's signer) takes real
time, so the clock must stand still meanwhile: ``loop.standing_still()`` around it, or ``Held`` around the whole object.
The machine's own clock goes on; who measures with ``time.monotonic`` has to be given ``loop.time``.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import iscoroutinefunction
from typing import Any, Final

STUCK: Final = 60.0
"""Real seconds after which a loop with nothing to do and nothing to wait for gives up."""


class NothingHappens(RuntimeError):
    """A program waits for ever: no timer, no file and no thread can wake it."""


class _Jumper(selectors.DefaultSelector):
    """A selector that does not wait for time; it lets it pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.holders = 0
        self.busiest = 0.0
        self._began: float | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; if nothing is, move the clock by ``timeout``, or wait where it stands still."""
        if self._began is not None:
            self.busiest = max(self.busiest, time.thread_time() - self._began)
        events = super().select(0)
        if not events and (timeout is None or timeout > 0):
            if self.holders or timeout is None:
                events = super().select(STUCK)
                if not events:
                    raise NothingHappens(f"nothing happened in {STUCK:.0f} real seconds")
            else:
                self.now += timeout
        self._began = time.thread_time()
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, which begins at 0."""

    def __init__(self) -> None:
        """Make a loop; ``asyncio.Runner`` takes it from a ``loop_factory``."""
        self._jumper = _Jumper()
        super().__init__(self._jumper)

    def time(self) -> float:
        """Return the virtual seconds."""
        return self._jumper.now

    @property
    def busiest(self) -> float:
        """Processor seconds of the loop's longest turn: how long one task would keep all others waiting."""
        return self._jumper.busiest

    def forget_busiest(self) -> None:
        """Begin to measure ``busiest`` anew: opening files may take its time."""
        self._jumper.busiest = 0.0

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Let no time pass in the block: a thread is at work for it."""
        self._jumper.holders += 1
        try:
            yield
        finally:
            self._jumper.holders -= 1


class Held:
    """An object whose coroutines are carried out by threads: the loop's time stands still while one of them runs."""

    def __init__(self, inner: Any, loop: VirtualLoop, **instead: object) -> None:  # noqa: ANN401 - whatever has threads
        """Stand before ``inner``.

        Args:
            inner: what does the work.
            loop: whose time stands still.
            instead: attributes to answer with in place of the inner object's.
        """
        self._inner = inner
        self._loop = loop
        self._instead: Mapping[str, object] = instead

    def __getattr__(self, name: str) -> object:
        """Return the inner object's attribute, its coroutine functions wrapped."""
        if name in self._instead:
            return self._instead[name]
        value = getattr(self._inner, name)
        return self._held(value) if iscoroutinefunction(value) else value

    def _held(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: object, **named: object) -> object:
            with self._loop.standing_still():
                return await function(*arguments, **named)

        return call
