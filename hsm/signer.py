"""The one thread that owns every PKCS#11 call of one token.

Threads don't make a token faster (SoftHSM serialises P-256, small HSMs do one thing at a time), and sessions, handles
and logins are easy to get wrong between them. So a ``Signer`` has one thread and one session, and everybody else
hands it work: a coroutine awaits ``call`` or ``sign``, a ceremony uses ``call_blocking``. Work is done in the order
it came.

Waking an event loop costs as much as a P-256 signature. While a queue of quick signatures lasts, results are collected
and handed over together, at most ``BATCH`` of them and at most ``BATCH_SECONDS`` late.
"""

import asyncio
import atexit
import getpass
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self, TypeVar

from pkcs11.exceptions import PKCS11Error

from hsm.errors import PinError, SignerError, TokenError, from_token
from hsm.module import FORKED, Module, module_path, open_module
from hsm.pin import Pin, PinKind, PinSource
from hsm.token import Session, TokenFacts, find_token, log_in
from hsm.uri import TokenUri

T = TypeVar("T")

BATCH: Final = 16
"""Results that are handed to an event loop together."""

BATCH_SECONDS: Final = 0.002
"""How late a result may be handed over because others follow."""

QUICK_SECONDS: Final = 0.0005
"""A signature that took longer is handed over at once: on a slow token there is nothing to save."""

_Outcome = tuple["asyncio.Future[Any] | Future[Any]", Any, BaseException | None]

_open_signers: "weakref.WeakSet[Signer]" = weakref.WeakSet()
_tokens_in_use: set[tuple[str, str, str]] = set()
_tokens_lock = threading.Lock()


class _Job:
    """Work for the signer's thread; the future belongs to ``loop``, or to a blocked thread if that is None."""

    __slots__ = ("future", "loop", "quick", "work")

    def __init__(
        self,
        work: Callable[[Session], Any],
        future: "asyncio.Future[Any] | Future[Any]",
        loop: asyncio.AbstractEventLoop | None,
        *,
        quick: bool,
    ) -> None:
        self.work = work
        self.future = future
        self.loop = loop
        self.quick = quick


class Signer:
    """A token that is logged in to; see the module docstring.

    Usable from any thread and from several event loops at once. After ``close`` every call raises ``SignerError``.
    """

    token: TokenFacts
    """As the token described itself right before the login."""
    uri: TokenUri

    def __init__(self, uri: TokenUri, module: Module) -> None:
        """Use ``Signer.open``."""
        self.uri = uri
        self._module = module
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._submitting = threading.Lock()
        self._gathered: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        self._closed = False
        self._forked = False
        self._session: Session = None
        self._claim: tuple[str, str, str] | None = None
        self._thread = threading.Thread(target=self._run, name="hsm-signer", daemon=True)

    @classmethod
    def open(
        cls,
        uri: TokenUri,
        *,
        pin: PinSource | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
        writable: bool = False,
        ask: Callable[[str], str] = getpass.getpass,
    ) -> Self:
        """Load the module, find the token, log in once. Blocks.

        Args:
            uri: which module and token.
            pin: where the PIN comes from, in place of the URI's ``pin-source``.
            environment: variables that the module reads, like ``SOFTHSM2_CONF``.
            writable: keys may be made and destroyed; a ceremony needs it, a station does not.
            ask: asks a human for a PIN (``pin-source=prompt:``).

        Raises:
            ModuleError: the module can't be used.
            TokenError: the token is missing, ambiguous, answers with an error, or this process has a signer on it.
            PinError: no PIN, or the token refuses it.
        """
        source = pin or uri.pin_source
        signer = cls(uri, open_module(module_path(uri), environment))
        try:
            signer._thread.start()
            signer.token = signer.call_blocking(lambda _: signer._claim_token())
            secret = _read_pin(signer.token, source, ask)
            attended = source is None or source.kind is PinKind.PROMPT
            signer.call_blocking(lambda _: signer._log_in(secret, attended=attended, writable=writable))
        except BaseException:
            signer.close()
            raise
        _open_signers.add(signer)
        return signer

    # -- the callers' side

    async def call(self, work: Callable[[Session], T]) -> T:
        """Run ``work(session)`` on the signer's thread.

        Args:
            work: gets the open ``pkcs11.Session``; must not keep it. What it raises is raised here, with the errors of
                python-pkcs11 turned into ``TokenError`` or ``PinError``.

        Raises:
            SignerError: the signer is closed.
        """
        return await self._submit_from_loop(work, quick=False)

    async def sign(self, work: Callable[[Session], T]) -> T:
        """Do as ``call``, for work that is one signature: its result may be handed over with others."""
        return await self._submit_from_loop(work, quick=True)

    def call_blocking(self, work: Callable[[Session], T]) -> T:
        """Do as ``call``, and block this thread meanwhile."""
        if threading.current_thread() is self._thread:
            return work(self._session)
        future: Future[T] = Future()
        self._submit(_Job(work, future, None, quick=False))
        return future.result()

    def close(self) -> None:
        """Finish the work that was handed in, log out, end the thread. May be called again."""
        if self._forked:
            return
        with self._submitting:
            first, self._closed = not self._closed, True
            for gathered in self._gathered.values():
                for job in gathered:
                    self._jobs.put(job)
            self._gathered.clear()
            if first:
                self._jobs.put(None)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        if first:
            _open_signers.discard(self)
            self._module.close()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def __enter__(self) -> Self:
        """Return the signer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the signer."""
        self.close()

    def __repr__(self) -> str:
        """Name the token, and nothing secret."""
        label = self.token.label if hasattr(self, "token") else "?"
        return f"<Signer {label!r}{' closed' if self._closed else ''}>"

    async def _submit_from_loop(self, work: Callable[[Session], T], *, quick: bool) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._submit(_Job(work, future, loop, quick=quick))
        return await future

    def _submit(self, job: _Job) -> None:
        if self._forked:
            raise SignerError(FORKED, code="signer.forked")
        with self._submitting:
            if self._closed:
                raise SignerError("the signer is closed")
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

    # -- the thread's side

    def _run(self) -> None:
        results = _Results()
        while (job := self._jobs.get()) is not None:
            if not job.quick:
                results.hand_over()
            started = time.monotonic()
            if not job.future.cancelled():  # otherwise nobody waits for it any more
                result, error = _do(job.work, self._session)
                if job.loop is None:
                    _settle(job.future, result, error)
                else:
                    results.add(job.loop, (job.future, result, error))
                del result, error  # an idle signer holds on to nobody's values
            slow = time.monotonic() - started > QUICK_SECONDS
            del job
            if slow or self._jobs.empty() or results.due():
                results.hand_over()
        results.hand_over()
        self._log_out()

    def _claim_token(self) -> TokenFacts:
        facts = TokenFacts.of(find_token(self._module.library, self.uri))
        claim = (str(self._module.path), facts.label, facts.serial)
        with _tokens_lock:
            if claim in _tokens_in_use:
                raise TokenError(
                    f"this process has a signer on token {facts.label!r} already: share it; a login counts per process",
                    code="token.in_use",
                )
            _tokens_in_use.add(claim)
            self._claim = claim
        return facts

    def _log_in(self, pin: Pin | None, *, attended: bool, writable: bool) -> None:
        token = find_token(self._module.library, self.uri)
        self._session = log_in(token, pin, attended=attended, writable=writable)

    def _log_out(self) -> None:
        if self._session is not None:
            try:
                self._session.close()
            except PKCS11Error:
                # The session died before us; the module is finalised when its last user leaves.
                self._session = None
            self._session = None
        with _tokens_lock:
            if self._claim is not None:
                _tokens_in_use.discard(self._claim)


class _Results:
    """Results on their way to event loops; only the signer's thread touches them."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
        self._count = 0
        self._since = 0.0

    def add(self, loop: asyncio.AbstractEventLoop, outcome: _Outcome) -> None:
        if not self._count:
            self._since = time.monotonic()
        self._waiting.setdefault(loop, []).append(outcome)
        self._count += 1

    def due(self) -> bool:
        return self._count >= BATCH or (self._count > 0 and time.monotonic() - self._since > BATCH_SECONDS)

    def hand_over(self) -> None:
        for loop, outcomes in self._waiting.items():
            with suppress(RuntimeError):  # the loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(_settle_all, outcomes)
        self._waiting.clear()
        self._count = 0


def _read_pin(token: TokenFacts, source: PinSource | None, ask: Callable[[str], str]) -> Pin | None:
    if source is not None:
        return source.read(token=token.label, ask=ask)
    if token.login_required and not token.pin_pad:
        raise PinError(f"token {token.label!r} wants a PIN: add &pin-source=file:/path to its URI", code="pin.missing")
    return None


def _do(work: Callable[[Session], Any], session: Session) -> tuple[Any, BaseException | None]:
    try:
        return work(session), None
    except PKCS11Error as error:
        ours = from_token(error, "using the token")
        ours.__cause__ = error
        return None, ours
    except BaseException as error:  # noqa: BLE001 - it is raised where the work was asked for
        return None, error


def _settle(future: "asyncio.Future[Any] | Future[Any]", result: object, error: BaseException | None) -> None:
    if future.done():
        return  # its task was cancelled
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _settle_all(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        _settle(*outcome)


def _close_all() -> None:
    for signer in list(_open_signers):
        signer.close()


def _poison() -> None:
    for signer in list(_open_signers):
        signer._forked = True  # noqa: SLF001 - same module


atexit.register(_close_all)
os.register_at_fork(after_in_child=_poison)
