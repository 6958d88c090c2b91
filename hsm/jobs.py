"""Work for a signer's thread, and how its results come back to event loops and blocked threads."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Final

from hsm.errors import HsmError
from hsm.request import SignRequest
from hsm.token import Session

BATCH: Final = 16
"""Results that are handed to an event loop together."""

BATCH_SECONDS: Final = 0.002
"""How late a result may be handed over because others follow."""

QUICK_SECONDS: Final = 0.0005
"""A signature that took longer is handed over at once: on a slow token there is nothing to save."""

AnyFuture = asyncio.Future[Any] | Future[Any]


class Signatures:
    """Signatures to be made one after the other; those that were made are kept, whatever becomes of the next."""

    __slots__ = ("made", "requests")

    def __init__(self, requests: Sequence[SignRequest]) -> None:
        self.requests = requests
        self.made: list[bytes] = []
        """What the token returned so far."""


Made = tuple[list[bytes], HsmError | None]
"""The signatures that were made, and why the others were not."""

Work = Callable[[Session], Any] | Signatures


class Job:
    """One piece of work; the future belongs to ``loop``, or to a blocked thread if that is None."""

    __slots__ = ("future", "loop", "opening", "work")

    def __init__(
        self,
        work: Work,
        future: AnyFuture,
        loop: asyncio.AbstractEventLoop | None,
        *,
        opening: bool = False,
    ) -> None:
        self.work = work
        self.future = future
        self.loop = loop
        self.opening = opening
        """Part of opening the signer, and done before it is awake."""

    @property
    def size(self) -> int:
        """How many signatures it is; other work counts as one."""
        return len(self.work.requests) if isinstance(self.work, Signatures) else 1

    @property
    def quick(self) -> bool:
        """Whether it is one signature."""
        return isinstance(self.work, Signatures) and self.size == 1

    def end(self, result: object, error: BaseException | None) -> "Outcome":
        """Return how it ends: for signatures, with those that were made."""
        if isinstance(self.work, Signatures) and (error is None or isinstance(error, HsmError)):
            made: Made = (list(self.work.made), error)
            return self.future, made, None
        return self.future, result, error


Outcome = tuple[AnyFuture, Any, BaseException | None]


class Results:
    """Results on their way to event loops: the signer's thread adds them, and whoever sees it hang hands them over."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
        self._count = 0
        self._since = 0.0
        self._lock = threading.Lock()

    def add(self, loop: asyncio.AbstractEventLoop, outcome: Outcome) -> None:
        """Keep a result."""
        with self._lock:
            if not self._count:
                self._since = time.monotonic()
            self._waiting.setdefault(loop, []).append(outcome)
            self._count += 1

    def due(self) -> bool:
        """Whether it is time to hand them over."""
        return self._count >= BATCH or (self._count > 0 and time.monotonic() - self._since > BATCH_SECONDS)

    def hand_over(self) -> None:
        """Wake each loop once."""
        if not self._count:
            return
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            self._count = 0
        for loop, outcomes in waiting.items():
            with suppress(RuntimeError):  # the loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(_settle_all, outcomes)


def settle(future: AnyFuture, result: object, error: BaseException | None) -> None:
    """Give a future its end, in the thread that it belongs to."""
    if future.done():
        return  # its task was cancelled, or it was told that the token hangs
    with suppress(InvalidStateError):  # told so at this very moment
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


def settle_from_outside(loop: asyncio.AbstractEventLoop | None, outcome: Outcome) -> None:
    """Give a future its end from any thread."""
    if loop is None:
        settle(*outcome)
        return
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(settle, *outcome)


def _settle_all(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        settle(*outcome)
