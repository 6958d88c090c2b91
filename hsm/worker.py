"""The thread of a token: does the work in the order it came, and heals the token. ``hsm.signer`` is its face.

A second thread, the watcher, sees that calls come back, and reminds the first of what is due. Of both, only the first
ever calls the token.
"""

import asyncio
import queue
import secrets
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from pkcs11.exceptions import (
    FunctionFailed,
    KeyHandleInvalid,
    NoSuchKey,
    ObjectHandleInvalid,
    OperationActive,
    PKCS11Error,
)

from hsm.algorithms import SCHEMES, family_of, verify
from hsm.counting import SignatureCounts
from hsm.errors import HsmError, IssuanceError, KeyMissing, Recovery, SignerError, TokenError, from_token
from hsm.health import WRONG, Health, State
from hsm.jobs import QUICK_SECONDS, Job, Results, settle, settle_from_outside
from hsm.key_rules import FoundKey
from hsm.module import FORKED
from hsm.port import Login, TokenPort
from hsm.request import KeyName, Purpose, SignRequest, message_request
from hsm.timing import Timing
from hsm.token import TokenFacts

_CALLERS_OWN: Final = (NoSuchKey, FunctionFailed, ObjectHandleInvalid, KeyHandleInvalid, OperationActive)
"""Errors that, in work of a caller's own, tell of that work rather than of the token."""

_PROBE: Final = b"hsm: does this key still sign? "
"""Starts what is signed after a reload; it is no DER, so no certificate either."""

_JOIN_SECONDS: Final = 0.2
"""How long ``close`` waits for a thread whose call hangs."""


@dataclass(slots=True)
class _Busy:
    """What the thread is at."""

    since: float
    limit: float
    job: Job | None


class Worker:
    """Owns a port, and the only thread that calls it."""

    def __init__(self, port: TokenPort, name: str, timing: Timing) -> None:
        """Prepare; ``start`` begins."""
        self.port = port
        self.timing = timing
        self.health = Health(timing)
        self.token: TokenFacts | None = None
        """As the token described itself right before the last login."""
        self.login = Login(None, attended=False, writable=False)
        self.counts: SignatureCounts | None = None
        """Where each signature is counted before the token is asked; closed with the worker."""
        self.closed = False
        self.forked = False
        self._name = name
        self._jobs: queue.SimpleQueue[Job | str | None] = queue.SimpleQueue()
        self._submitting = threading.Lock()
        self._gathered: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        self._results = Results()
        self._keys: dict[bytes, KeyName] = {}
        self._found: dict[bytes, FoundKey] = {}
        self._busy: _Busy | None = None
        self._last_call = timing.clock.now()
        self._look = threading.Event()
        self._ticking = False
        self._thread = threading.Thread(target=self._run, name="hsm-signer", daemon=True)
        self._watcher = threading.Thread(target=self._watch, name="hsm-watch", daemon=True)

    @property
    def name(self) -> str:
        """The token's label, as far as it is known."""
        return self._name if self.token is None else self.token.label

    @property
    def waiting(self) -> int:
        """Pieces of work that wait or are being done, about."""
        return self._jobs.qsize() + (self._busy is not None)

    @property
    def is_here(self) -> bool:
        """Whether this is the token's thread."""
        return threading.current_thread() is self._thread

    def start(self) -> None:
        """Start both threads."""
        self._thread.start()
        self._watcher.start()

    def look(self) -> None:
        """Let the watcher see at once what is due."""
        self._look.set()

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
            self.port.leave(hung=self._thread.is_alive() and not self.is_here)
            if self.counts is not None:
                self.counts.close()
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
        if not job.future.cancelled():  # otherwise nobody waits for it any more
            result, error = self._perform(job)
            if job.loop is None:
                settle(job.future, result, error)
            else:
                self._results.add(job.loop, (job.future, result, error))
        if time.monotonic() - started > QUICK_SECONDS or self._jobs.empty() or self._results.due():
            self._results.hand_over()

    def _perform(self, job: Job) -> tuple[Any, BaseException | None]:
        """Do one piece of work; an error that a reload may cure puts the token to sleep."""
        if not (self.health.awake or job.opening):
            return None, self.health.error(self.name)
        now = self.timing.clock.now()
        try:
            if isinstance(job.work, SignRequest):
                self._busy = _Busy(now, self.timing.answer, job)
                with self.port.using():
                    self._return_if_stale()
                    return self.sign_here(job.work), None
            self._busy = _Busy(now, float("inf"), job)
            with self.port.using():
                if not job.opening:
                    self._return_if_stale()
                return job.work(self.port.session), None
        except PKCS11Error as error:
            ours = from_token(error, "using the token")
            ours.__cause__ = error
            if not job.opening and (job.quick or not isinstance(error, _CALLERS_OWN)):
                self._note(ours)
            return None, ours
        except HsmError as error:
            if job.quick:
                self._note(error)
            return None, error
        except BaseException as error:  # noqa: BLE001 - it is raised where the work was asked for
            return None, error
        finally:
            self._busy = None
            self._last_call = self.timing.clock.now()

    def _note(self, error: HsmError) -> None:
        if self.health.awake and self.health.may_heal(error):
            self.health.fell_asleep(error)

    def sign_here(self, request: SignRequest) -> bytes:
        """Count, and sign; on the token's thread."""
        found = self._found.get(request.key.spki_sha256) or self.find_here(request.key)
        if self.counts is not None:
            self.counts.count(request.key.spki_sha256, request.purpose)
        return self.port.sign(found, request)

    def find_here(self, key: KeyName) -> FoundKey:
        """Find a key, and remember to find it again after a reload; on the token's thread."""
        try:
            found = self.port.find(key)
        except KeyMissing as error:
            if key.spki_sha256 not in self._keys:
                raise
            raise TokenError(f"a key has gone: {error}", code="token.key_gone", recovery=Recovery.RELOAD) from error
        self._keys[key.spki_sha256] = key
        self._found[key.spki_sha256] = found
        return found

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
            self._perform(Job(lambda _: self.port.beat(), Future(), None))
        if self.health.state is State.HUNG:
            self.health.fell_asleep(
                TokenError("a call came back too late", code="token.hung", recovery=Recovery.TOKEN_GONE)
            )
        if self.health.reload_due():
            self._heal()

    def _heal(self) -> None:
        """Reload the module, and come back to where we were."""
        self.health.reload_begins(self.port.shared_by)
        self._busy = _Busy(self.timing.clock.now(), self.timing.heal, None)
        self._found.clear()
        try:
            self.port.reload()
            with self.port.using():
                self._come_back()
        except PKCS11Error as error:
            self.health.reload_failed(from_token(error, "waking the token"), self.name)
        except HsmError as error:
            self.health.reload_failed(error, self.name)
        except Exception as error:  # noqa: BLE001 - a bug here must not end the thread that all wait for
            self.health.reload_failed(TokenError(f"waking the token: {error!r}", code="token.bug"), self.name)
        else:
            self.health.woke()
        finally:
            self._busy = None
            self._last_call = self.timing.clock.now()

    def _return_if_stale(self) -> None:
        """Log in anew if another signer reloaded the module."""
        if self.port.stale:
            self._found.clear()
            self.port.drop()
            self._come_back()

    def _come_back(self) -> None:
        """Find the token, log in, find the keys that were in use, and see that each of them signs."""
        facts = self.port.connect()
        before = self.token or facts
        if (facts.label, facts.serial) != (before.label, before.serial):
            raise TokenError(
                f"another token is there: {facts.label!r}, serial {facts.serial}, and not serial {before.serial}",
                code="token.other",
                recovery=Recovery.TOKEN_GONE,
            )
        self.token = facts
        self.port.log_in(replace(self.login, attended=False, again=True))
        for key in tuple(self._keys.values()):
            self.find_here(key)
            self._probe(key)

    def _probe(self, key: KeyName) -> None:
        message = _PROBE + secrets.token_bytes(32)
        request = message_request(key, message, Purpose.PROBE)
        signature = request.finish(self.sign_here(request))
        family = family_of(key.public)
        try:
            verify(key.public, signature, message, None if family is None else SCHEMES[family].hash)
        except InvalidSignature:
            raise IssuanceError(
                f"the key in token {self.name!r} signs wrongly after a reload",
                code=WRONG,
                operator="The HSM signs wrongly. Stop the line and call the security officer.",
            ) from None

    # -- the watcher's side

    def _watch(self) -> None:
        """See that calls come back, and remind the thread of what is due."""
        self.timing.clock.on_change(self._look.set)
        while not self.closed:
            self.timing.clock.wait(self._look, self.timing.tick)
            self._look.clear()
            busy = self._busy
            if busy is not None:
                if self.health.state is not State.HUNG and self.timing.clock.now() - busy.since > busy.limit:
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
            self._jobs.put("tick")  # should it have come back at this moment, the thread learns that it was given up
            if ends:
                self._jobs.put(None)
        self._results.hand_over()
        for job in (busy.job, *waiting):
            if job is not None:
                settle_from_outside(job.future, job.loop, None, self.health.error(self.name))
