"""The thread of a token: does the work in the order it came, and heals the token. ``hsm.signer`` is its face.

A second thread, the watcher, sees that calls come back, and reminds the first of what is due. Of both, only the first
ever calls the token.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from pkcs11.exceptions import (
    FunctionFailed,
    KeyHandleInvalid,
    NoSuchKey,
    ObjectHandleInvalid,
    OperationActive,
    PKCS11Error,
)

from hsm.anchor import Anchor
from hsm.errors import HsmError, Recovery, SignerError, TokenError, from_token
from hsm.health import Health, State
from hsm.jobs import QUICK_SECONDS, Job, Results, Signatures, Work, settle, settle_from_outside
from hsm.module import FORKED
from hsm.pin import PinKind, PinSource
from hsm.port import Login
from hsm.timing import Timing
from hsm.token import read_pin

_CALLERS_OWN: Final = (NoSuchKey, FunctionFailed, ObjectHandleInvalid, KeyHandleInvalid, OperationActive)
"""Errors that, in work of a caller's own, tell of that work rather than of the token."""

_JOIN_SECONDS: Final = 0.2
"""How long ``close`` waits for a thread whose call hangs."""


@dataclass(slots=True)
class _Busy:
    """What the thread is at."""

    since: float
    limit: float
    job: Job | None


class Worker:
    """Owns the only thread that calls a port, and lets it do what callers hand in."""

    def __init__(self, anchor: Anchor, timing: Timing) -> None:
        """Prepare; ``start`` begins."""
        self.anchor = anchor
        self.timing = timing
        self.health = Health(timing)
        self.closed = False
        self.forked = False
        self._jobs: queue.SimpleQueue[Job | str | None] = queue.SimpleQueue()
        self._submitting = threading.Lock()
        self._gathered: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        self._results = Results()
        self._waiting = 0
        self._busy: _Busy | None = None
        self._last_call = timing.clock.now()
        self._look = threading.Event()
        self._ticking = False
        self._thread = threading.Thread(target=self._run, name="hsm-signer", daemon=True)
        self._watcher = threading.Thread(target=self._watch, name="hsm-watch", daemon=True)

    @property
    def name(self) -> str:
        """The token's label, as far as it is known."""
        return self.anchor.name

    @property
    def waiting(self) -> int:
        """Signatures, and pieces of other work, that wait or are being done, about."""
        return self._waiting

    @property
    def is_here(self) -> bool:
        """Whether this is the token's thread."""
        return threading.current_thread() is self._thread

    def open(self, source: PinSource | None, ask: Callable[[str], str], *, writable: bool, may_be_absent: bool) -> None:
        """Start both threads, find the token and log in once. See ``Signer.open``."""
        self._thread.start()
        self._watcher.start()
        anchor, attended = self.anchor, source is None or source.kind is PinKind.PROMPT
        try:
            anchor.token = self.perform_blocking(lambda _: anchor.port.connect(), opening=True)
        except TokenError as error:
            if not may_be_absent or error.recovery is Recovery.PERMANENT:
                raise
            secret = None if source is None else source.read(token=self.name, ask=ask)
            anchor.login = Login(secret, attended=False, writable=writable)
            self.health.fell_asleep(error)
            self.look()
            return
        anchor.login = Login(read_pin(anchor.token, source, ask), attended=attended, writable=writable)
        self.perform_blocking(lambda _: anchor.port.log_in(anchor.login), opening=True)
        self.health.woke()

    def look(self) -> None:
        """Let the watcher see at once what is due."""
        self._look.set()

    async def perform(self, work: Work) -> Any:  # noqa: ANN401 - the work's
        """Do work, in its turn.

        Raises:
            SignerError, TokenError: as ``submit``; and what the work itself raises. Signatures end with a ``Made``.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self.submit(Job(work, future, loop))
        return await future

    def perform_blocking(self, work: Work, *, opening: bool = False) -> Any:  # noqa: ANN401
        """Do as ``perform``, and block this thread meanwhile."""
        future: Future[Any] = Future()
        self.submit(Job(work, future, None, opening=opening))
        return future.result()

    def is_ready(self) -> bool:
        """Whether signatures may be asked for. One that has just fallen asleep is waited for first.

        Raises:
            HsmError: it stays asleep.
        """
        if self.health.in_vain:
            raise self.health.error(self.name)
        return self.health.state is not State.ASLEEP

    def next_try(self, since: int | None) -> "Future[None] | None":
        """See ``Signer.next_try``."""
        future = self.health.wait(self.name, None, since)
        self.look()
        assert not isinstance(future, asyncio.Future)  # noqa: S101 - made without a loop
        return future

    async def wait(self, since: int | None) -> None:
        """See ``Signer.awake``."""
        future = self.health.wait(self.name, asyncio.get_running_loop(), since)
        if future is None:
            return
        self.look()
        assert isinstance(future, asyncio.Future)  # noqa: S101 - made for this loop
        try:
            await asyncio.wait_for(future, self.timing.reload + self.timing.heal)
        except TimeoutError:
            raise self.health.error(self.name) from None

    def wait_blocking(self, since: int | None) -> None:
        """Do as ``wait``, and block this thread meanwhile."""
        future = self.next_try(since)
        if future is None:
            return
        try:
            future.result(self.timing.reload + self.timing.heal)
        except TimeoutError:
            raise self.health.error(self.name) from None

    def submit(self, job: Job) -> None:
        """Hand work in.

        Raises:
            SignerError: the signer is closed, or was carried into a forked process.
            TokenError: the token hangs.
        """
        if self.forked:
            raise SignerError(FORKED, code="signer.forked")
        with self._submitting:
            if self.closed:
                raise SignerError("the signer is closed")
            if self.health.state is State.HUNG:
                raise self.health.error(self.name)
            self._waiting += job.size
            if job.loop is None:
                self._jobs.put(job)
                return
            # What is wanted in one turn of a loop is handed in together at its end: one waking of the thread for all.
            gathered = self._gathered.setdefault(job.loop, [])
            gathered.append(job)
            if len(gathered) == 1:
                job.loop.call_soon(self._hand_in, job.loop)

    def _hand_in(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._submitting:
            for job in self._gathered.pop(loop, ()):
                self._jobs.put(job)

    def close(self) -> bool:
        """Finish the work that was handed in, and end the threads. Returns whether this was the first call."""
        if self.forked:
            return False
        with self._submitting:
            first, self.closed = not self.closed, True
            hung = self.health.state is State.HUNG
            for gathered in self._gathered.values():
                for job in gathered:
                    self._jobs.put(job)
            self._gathered.clear()
            if first:
                self._jobs.put(None)
        self._look.set()
        if self._thread.is_alive() and not self.is_here:
            self._thread.join(_JOIN_SECONDS if hung else None)
        if first:
            self.health.close(SignerError("the signer is closed"))
            self.anchor.port.leave(hung=self._thread.is_alive() and not self.is_here)
            if self.anchor.counts is not None:
                self.anchor.counts.close()
        return first

    # -- the thread's side

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if isinstance(job, Job):
                self._serve(job)
            else:
                self._ticking = False
            del job  # an idle signer holds on to nobody's values
            if self.closed and self.health.state is State.HUNG:
                return  # it was left behind; whoever closed it let go of the token
            while self._attention_due() and not self.closed:  # again: time may have passed meanwhile
                self._results.hand_over()
                self._attend()
        self._results.hand_over()

    def _serve(self, job: Job) -> None:
        if not job.quick:
            self._results.hand_over()
        started = time.monotonic()
        is_awaited = not job.future.cancelled()  # otherwise nobody waits for it any more
        result, error = self._perform(job) if is_awaited else (None, None)
        with self._submitting:
            self._waiting -= job.size
        if is_awaited:
            if job.loop is None:
                settle(*job.end(result, error))
            else:
                self._results.add(job.loop, job.end(result, error))
        if time.monotonic() - started > QUICK_SECONDS or self._jobs.empty() or self._results.due():
            self._results.hand_over()

    def _perform(self, job: Job) -> tuple[Any, BaseException | None]:
        """Do one piece of work; an error that a reload may cure puts the token to sleep."""
        if not (self.health.awake or job.opening):
            return None, self.health.error(self.name)
        port, is_signing = self.anchor.port, isinstance(job.work, Signatures)
        try:
            if isinstance(job.work, Signatures):
                return None, self._sign(job, job.work)
            self._busy = _Busy(self.timing.clock.now(), float("inf"), job)
            with port.using():
                if not job.opening:
                    self.anchor.return_if_stale()
                return job.work(port.session), None
        except PKCS11Error as error:
            ours = from_token(error, "using the token")
            ours.__cause__ = error
            if not job.opening and (is_signing or not isinstance(error, _CALLERS_OWN)):
                self._note(ours)
            return None, ours
        except HsmError as error:
            if is_signing:
                self._note(error)
            return None, error
        except BaseException as error:  # noqa: BLE001 - it is raised where the work was asked for
            return None, error
        finally:
            self._busy = None
            self._last_call = self.timing.clock.now()

    def _sign(self, job: Job, work: Signatures) -> HsmError | None:
        """Sign until all is signed, or nobody waits any more. What has hung and came back ends it: it was given up."""
        anchor, now = self.anchor, self.timing.clock.now
        with anchor.counted(work.requests) as ask:
            self._busy = busy = _Busy(now(), self.timing.answer, job)
            for request in work.requests:
                busy.since = now()
                with anchor.port.using():  # for each: another signer may want to reload the module
                    anchor.return_if_stale()
                    work.made.append(ask(request))
                if job.future.done() or not self.health.awake:
                    return self.health.error(self.name)
        return None

    def _note(self, error: HsmError) -> None:
        if self.health.awake and self.health.may_heal(error):
            self.health.fell_asleep(error)

    # -- healing, on the thread

    def _attention_due(self) -> bool:
        match self.health.state:
            case State.AWAKE:
                return self.timing.clock.now() - self._last_call >= self.timing.keepalive
            case State.HUNG:
                return True  # on the thread itself: so the call has come back
            case State.ASLEEP:
                return self.health.reload_due()
            case _:
                return False

    def _attend(self) -> None:
        if self.health.state is State.AWAKE:
            self._perform(Job(lambda _: self.anchor.port.beat(), Future(), None))
        if self.health.state is State.HUNG:
            self.health.fell_asleep(
                TokenError("a call came back too late", code="token.hung", recovery=Recovery.TOKEN_GONE)
            )
        if self.health.reload_due():
            self._heal()

    def _heal(self) -> None:
        """Reload the module, and come back to where we were."""
        self.health.reload_begins(self.anchor.port.shared_by)
        cause: HsmError | None = None
        self._busy = _Busy(self.timing.clock.now(), self.timing.heal, None)
        try:
            self.anchor.reload()
        except PKCS11Error as error:
            cause = from_token(error, "waking the token")
        except HsmError as error:
            cause = error
        except Exception as error:  # noqa: BLE001 - a bug here must not end the thread that all wait for
            cause = TokenError(f"waking the token: {error!r}", code="token.bug")
        finally:  # before anybody is told: what has ended does not hang
            self._busy = None
            self._last_call = self.timing.clock.now()
        if cause is None:
            self.health.woke()
        else:
            self.health.reload_failed(cause, self.name)

    # -- the watcher's side

    def _watch(self) -> None:
        """See that calls come back, and remind the thread of what is due."""
        self.timing.clock.on_change(self._look.set)
        while not self.closed:
            self.timing.clock.wait(self._look, self.timing.tick)
            self._look.clear()
            now, busy = self.timing.clock.now(), self._busy  # in this order: what is at work now has been so since then
            if busy is not None:
                if self.health.state is not State.HUNG and now - busy.since > busy.limit:
                    self._give_up_on(busy)
            elif self.health.state is not State.HUNG and self._attention_due() and not self._ticking:
                self._ticking = True
                self._jobs.put("tick")

    def _give_up_on(self, busy: _Busy) -> None:
        with self._submitting:
            self.health.hangs(self.name)
            waiting = [job for jobs in self._gathered.values() for job in jobs]
            self._gathered.clear()
            ends = False
            with suppress(queue.Empty):
                while True:
                    job = self._jobs.get_nowait()
                    ends = ends or job is None
                    if isinstance(job, Job):
                        waiting.append(job)
            self._waiting -= sum(job.size for job in waiting)
            self._jobs.put("tick")  # should it have come back at this moment, the thread learns that it was given up
            if ends:
                self._jobs.put(None)
        self._results.hand_over()
        for job in (busy.job, *waiting):
            if job is not None:
                settle_from_outside(job.loop, job.end(None, self.health.error(self.name)))
