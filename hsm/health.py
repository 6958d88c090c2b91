"""How a token is, when it is tried again, and what its callers are told meanwhile. Decides; touches no token."""

import asyncio
import threading
from concurrent.futures import Future
from enum import Enum
from typing import Any, Final

from hsm.errors import HsmError, KeyUnfit, Recovery, TokenError
from hsm.jobs import AnyFuture, settle_from_outside
from hsm.timing import Timing

SLOWEST: Final = 10.0
"""A token that shares its module, and stays away, is tried this many times more seldom at last: each of its reloads
interrupts the others."""

MAX_UNBEGUN: Final = 5
"""How often work is handed in again that found the token asleep."""

ASLEEP: Final = "token.asleep"
"""Code of the error of work that was not begun, because the token is asleep."""

ASLEEP_OPERATOR: Final = (
    "The HSM is asleep. Leave the boards where they are: the line goes on by itself. Check the HSM's cable and power."
)
HUNG_OPERATOR: Final = (
    "The HSM does not answer. Unplug it for ten seconds and plug it in again. "
    "If this stays, stop the station and start it again."
)


class State(Enum):
    """How a token is; ``hsm.signer`` has the drawing."""

    OPENING = "opening"
    AWAKE = "awake"
    ASLEEP = "asleep"
    REFUSED = "refused"
    HUNG = "hung"
    CLOSED = "closed"


class Health:
    """The state of one token; all methods may be called from any thread."""

    def __init__(self, timing: Timing) -> None:
        self.state = State.OPENING
        self.reloads = 0
        """How often the module was reloaded, with what success ever."""
        self.in_vain = False
        """Whether the last try to reload helped nothing: then nobody is kept waiting for the next."""
        self.ended = 0
        """How many tries to reload have come to an end."""
        self._timing = timing
        self._cause: HsmError | None = None
        self._next = 0.0
        self._failures = 0
        self._last_reload = -float("inf")
        self._waiting: list[tuple[AnyFuture, asyncio.AbstractEventLoop | None]] = []
        self._lock = threading.Lock()

    @property
    def awake(self) -> bool:
        """Whether work may be done."""
        return self.state is State.AWAKE

    @property
    def cause(self) -> HsmError | None:
        """What put it to sleep; None while it is awake."""
        return self._cause

    def error(self, token: str) -> HsmError:
        """Return a fresh error that tells why no work is done now."""
        cause, state = self._cause, self.state
        if state is State.REFUSED and cause is not None:
            return same(cause)
        if state is State.HUNG:
            return TokenError(
                f"token {token!r} has not answered for {self._timing.answer:g} s; nothing more is asked of it until "
                "it does. Unplug it; if it stays like this, the station has to be restarted",
                code="token.hung",
                operator=HUNG_OPERATOR,
                recovery=Recovery.TOKEN_GONE,
            )
        return TokenError(
            f"token {token!r} is asleep, and is tried again every {self._timing.reload:g} s: {cause}",
            code=ASLEEP,
            operator=ASLEEP_OPERATOR,
            recovery=Recovery.TOKEN_GONE,
            cause="" if cause is None else cause.code,
        )

    def may_heal(self, error: HsmError) -> bool:
        """Whether a reload may help after this error of a signature."""
        return error.recovery in {Recovery.RELOAD, Recovery.TOKEN_GONE} and error.code != "token.hung"

    def woke(self) -> None:
        """It works."""
        with self._lock:
            if self.state is State.CLOSED:
                return
            self.state, self._cause, self._failures = State.AWAKE, None, 0
            self.in_vain = False
            self.ended += 1
        self._tell(None)

    def fell_asleep(self, cause: HsmError) -> None:
        """An error came that a reload may cure; it is due as soon as the last one is long enough ago."""
        with self._lock:
            if self.state in {State.AWAKE, State.OPENING, State.HUNG}:
                self.state, self._cause = State.ASLEEP, cause
                self._next = max(self._timing.clock.now(), self._last_reload + self._timing.reload)

    def hangs(self, token: str) -> None:
        """A call does not come back."""
        with self._lock:
            if self.state is not State.CLOSED:
                self.state = State.HUNG
        self._tell(self.error(token))

    def reload_due(self) -> bool:
        """Whether it is time for the next try."""
        return self.state is State.ASLEEP and self._timing.clock.now() >= self._next

    def reload_begins(self, shared_by: int) -> None:
        """Note the try, and when the one after it may come."""
        with self._lock:
            now = self._timing.clock.now()
            more_seldom = min(2.0**self._failures, SLOWEST) if shared_by > 1 else 1.0
            self._last_reload, self._next = now, now + self._timing.reload * more_seldom
            self._failures += 1
            self.reloads += 1

    def reload_failed(self, cause: HsmError, token: str) -> None:
        """The try came to nothing; a PIN error, or a key that is not what it was, ends the trying."""
        with self._lock:
            if self.state is State.CLOSED:
                return
            self.ended += 1
            self.in_vain = True
            is_final = cause.recovery is Recovery.PIN or isinstance(cause, KeyUnfit) or cause.code == WRONG
            self.state, self._cause = (State.REFUSED if is_final else State.ASLEEP), cause
        self._tell(self.error(token))

    def close(self, error: HsmError) -> None:
        """No more work is done."""
        with self._lock:
            self.state, self._cause = State.CLOSED, error
        self._tell(error)

    def wait(self, token: str, loop: asyncio.AbstractEventLoop | None, since: int | None = None) -> AnyFuture | None:
        """Return what ends with the next try to reload; None if the token is awake.

        Args:
            token: its label.
            loop: whose future it is to be; None: of no loop.
            since: ``ended`` when the caller's trouble began: a try that ended since is not waited for once more.

        Raises:
            HsmError: a human is needed, the signer is closed, or a try ended since and helped nothing.
        """
        with self._lock:
            if self.state is State.AWAKE:
                return None
            if self.state is State.CLOSED and self._cause is not None:
                raise same(self._cause)
            if self.state is State.REFUSED or (since is not None and self.ended > since):
                raise self.error(token)
            future: AnyFuture = Future[Any]() if loop is None else loop.create_future()
            self._waiting.append((future, loop))
            return future

    def _tell(self, error: HsmError | None) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for future, loop in waiting:
            settle_from_outside(loop, (future, None, None if error is None else same(error)))


class Tries:
    """How often one signature was asked for: once more where the first try failed and left none.

    Work that found the token asleep when its turn came was not begun; it is handed in again, and counts as no try.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        self._seen = health.ended
        self._failures = 0
        self._told = 0
        self._unbegun = 0

    def begins_again(self) -> bool:
        """Whether the try that begins now is one more than the caller knows of."""
        self._seen = self._health.ended
        is_again, self._told = self._failures > self._told, self._failures
        return is_again

    def goes_on(self) -> None:
        """Begin with the next signature, now that this one is made."""
        self._failures = self._told = self._unbegun = 0

    def failed(self, error: HsmError) -> int:
        """Take the error of a try; return since when a reload is waited for.

        Raises:
            HsmError: this one, where nothing more is to be tried.
        """
        if error.code == ASLEEP:
            self._unbegun += 1
        else:
            self._failures += 1
        stays_away = error.code == ASLEEP and self._health.in_vain
        if stays_away or self._failures > 1 or self._unbegun > MAX_UNBEGUN or not self._health.may_heal(error):
            raise error
        return self._seen


WRONG: Final = "token.signs_wrongly"
"""Code of the error that a probe which does not verify ends with."""


def same(error: HsmError) -> HsmError:
    """Return an error like this one: each that raises it gets its own traceback."""
    copy = type(error)(
        str(error), code=error.code, operator=error.operator, recovery=error.recovery, **dict(error.facts)
    )
    copy.__cause__ = error.__cause__
    return copy
