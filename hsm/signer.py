"""The one thread that owns every PKCS#11 call of one token, and heals it.

Threads don't make a token faster (SoftHSM serialises P-256, small HSMs do one thing at a time), and sessions, handles
and logins are easy to get wrong between them. So a ``Signer`` has one thread and one session, and everybody else
hands it work: a coroutine awaits ``call`` or ``sign``, a ceremony uses ``call_blocking``. Work is done in the order
it came.

Waking an event loop costs as much as a P-256 signature. Who wants many hands them in together (``sign_all``), and while
a queue of quick signatures lasts, results are collected and handed over together (``hsm.jobs``).

::

                error that a reload may cure               wrong PIN, key that is not what it was
    AWAKE ─────────────────────────────────────► ASLEEP ───────────────────────────────────────► REFUSED
      ▲  ◄────────────────────────────────────── │    ▲                        (a human is needed)
      │    reload: drop handles, finalise,       │    │ the call came back
      │    initialise, find token, PIN flags,    │    │
      │    log in once, find keys, sign a probe  │   HUNG ◄──── no answer in ``Timing.answer``
      │
      └── idle for ``Timing.keepalive``: one cheap call

- The reload is tried at once, then every ``Timing.reload`` seconds, whether somebody waits or not; never after a PIN
  error. ``sign`` waits for the first try, and fails at once while tries are in vain: whoever has patience awaits
  ``awake``. Other work fails at once.
- A signature is asked for again where the first try provably failed: the token answered with an error, so there is no
  signature. Before it is, ``again`` is awaited: that is where a journal counts the second try. Of several, those that
  were made before the fault are kept.
- A call that hangs can't be interrupted. Callers are told, further work is refused at once; when the call comes back
  after all, its result is thrown away and the token is reloaded.

What a token is asked is written down in ``hsm.port``; ``hsm.fake_token`` is one that fails on demand.
"""

import atexit
import getpass
import os
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self, TypeVar

from pkcs11.exceptions import PKCS11Error

from hsm.anchor import Anchor
from hsm.counting import SignatureCounts
from hsm.errors import HsmError, from_token
from hsm.health import State, Tries
from hsm.jobs import Made, Signatures
from hsm.key_rules import KeyFacts
from hsm.pin import PinSource
from hsm.pkcs11_token import Pkcs11Token
from hsm.port import TokenPort
from hsm.request import KeyName, SignRequest
from hsm.timing import Timing
from hsm.token import Session, TokenFacts
from hsm.uri import TokenUri
from hsm.worker import Worker

T = TypeVar("T")

Again = Callable[[], Awaitable[object]]
"""Called before a signature is asked for once more; what it raises ends the matter."""

AgainAt = Callable[[int], Awaitable[object]]
"""The same for one of several signatures; gets its place among them, from 0."""

_open_signers: "weakref.WeakSet[Signer]" = weakref.WeakSet()


class Signer:
    """A token that is logged in to; see the module docstring.

    Usable from any thread and from several event loops at once. After ``close`` every call raises ``SignerError``.
    """

    uri: TokenUri

    def __init__(self, uri: TokenUri, worker: Worker) -> None:
        """Use ``Signer.open``, or ``Signer.on`` for a port of your own."""
        self.uri = uri
        self._worker = worker

    @classmethod
    def open(  # noqa: PLR0913 - each by name
        cls,
        uri: TokenUri,
        *,
        pin: PinSource | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
        writable: bool = False,
        ask: Callable[[str], str] = getpass.getpass,
        timing: Timing | None = None,
        counts: Path | None = None,
        may_be_absent: bool = False,
    ) -> Self:
        """Load the module, find the token, log in once. Blocks.

        Args:
            uri: which module and token.
            pin: where the PIN comes from, in place of the URI's ``pin-source``.
            environment: variables that the module reads, like ``SOFTHSM2_CONF``.
            writable: keys may be made and destroyed; a ceremony needs it, a station does not.
            ask: asks a human for a PIN (``pin-source=prompt:``).
            timing: how long it waits for what.
            counts: folder where each signature is counted before the token is asked (``hsm.counting``).
            may_be_absent: if the token is not there, or does not work, begin asleep and wait for it.

        Raises:
            ModuleError: the module can't be used.
            TokenError: the token is missing, ambiguous, answers with an error, or this process has a signer on it.
            PinError: no PIN, or the token refuses it.
            AuditError: signatures can't be counted there.
        """
        port = Pkcs11Token(uri, environment)
        return cls.on(
            port,
            uri,
            pin=pin,
            writable=writable,
            ask=ask,
            timing=timing,
            counts=counts,
            may_be_absent=may_be_absent,
        )

    @classmethod
    def on(  # noqa: PLR0913 - each by name
        cls,
        port: TokenPort,
        uri: TokenUri,
        *,
        pin: PinSource | None = None,
        writable: bool = False,
        ask: Callable[[str], str] = getpass.getpass,
        timing: Timing | None = None,
        counts: Path | None = None,
        may_be_absent: bool = False,
    ) -> Self:
        """Do as ``open``, with a port of the caller's."""
        anchor = Anchor(port, uri.token or uri.serial or "?")
        signer = cls(uri, Worker(anchor, timing or Timing()))
        try:
            anchor.counts = None if counts is None else SignatureCounts(counts)
            signer._worker.open(pin or uri.pin_source, ask, writable=writable, may_be_absent=may_be_absent)
        except BaseException:
            signer.close()
            raise
        _open_signers.add(signer)
        return signer

    # -- the callers' side

    @property
    def token(self) -> TokenFacts:
        """The token as it described itself right before the last login.

        Raises:
            TokenError: it was never seen.
        """
        found = self._worker.anchor.token
        if found is None:
            raise self._worker.health.error(self.name)
        return found

    @property
    def port(self) -> TokenPort:
        """The token's port; its calls are for the signer's thread, in ``call``."""
        return self._worker.anchor.port

    @property
    def name(self) -> str:
        """The token's label, as far as it is known."""
        return self._worker.name

    @property
    def state(self) -> State:
        """How the token is."""
        return self._worker.health.state

    @property
    def trouble(self) -> HsmError | None:
        """What put the token to sleep; None while it is awake."""
        return self._worker.health.cause

    @property
    def unavailable(self) -> HsmError | None:
        """What a caller would be told now; None while the token is awake."""
        return None if self._worker.health.awake else self._worker.health.error(self.name)

    @property
    def stays_away(self) -> bool:
        """Whether the last try to reload it was in vain."""
        return self._worker.health.in_vain

    @property
    def is_here(self) -> bool:
        """Whether this is the token's own thread, as while a gate is asked: ``call_blocking`` does not wait here."""
        return self._worker.is_here

    @property
    def reloads_ended(self) -> int:
        """How many tries to reload have come to an end; for ``awake``."""
        return self._worker.health.ended

    @property
    def reloads(self) -> int:
        """How often the module was reloaded for this token."""
        return self._worker.health.reloads

    @property
    def waiting(self) -> int:
        """Signatures, and pieces of other work, that wait or are being done, about."""
        return self._worker.waiting

    async def call(self, work: Callable[[Session], T]) -> T:
        """Run ``work(session)`` on the signer's thread.

        Args:
            work: gets the open ``pkcs11.Session``; must not keep it. What it raises is raised here, with the errors of
                python-pkcs11 turned into ``TokenError`` or ``PinError``.

        Raises:
            SignerError: the signer is closed.
            TokenError: the token is asleep; the work was not begun.
        """
        result: T = await self._worker.perform(work)
        return result

    def call_blocking(self, work: Callable[[Session], T]) -> T:
        """Do as ``call``, and block this thread meanwhile."""
        if self._worker.is_here:
            try:
                return work(self.port.session)
            except PKCS11Error as error:
                raise from_token(error, "using the token") from error
        result: T = self._worker.perform_blocking(work)
        return result

    async def find(self, key: KeyName) -> KeyFacts:
        """Find a private key by its public half, and hold it to its rules.

        Raises:
            KeyMissing: the token does not hold it.
            KeyUnfit: it breaks a rule.
            TokenError: the token refused, or is asleep.
        """
        return await self.call(lambda _: self._worker.anchor.find(key).facts)

    def find_blocking(self, key: KeyName) -> KeyFacts:
        """Do as ``find``, and block this thread meanwhile."""
        return self.call_blocking(lambda _: self._worker.anchor.find(key).facts)

    async def sign(self, request: SignRequest, *, again: Again | None = None) -> bytes:
        """Make one signature; a token that fails is healed meanwhile, and asked once more.

        Args:
            request: what to sign, by which key.
            again: awaited before the token is asked once more.

        Returns:
            The signature as it stands in a certificate; it is not verified here.

        Raises:
            TokenError: the token refused, is asleep and could not be healed, or hangs.
            PinError: it was to be healed, and its PIN is refused.
            KeyMissing, KeyUnfit: the key is not there, or not what it must be.
            SignerError: the signer is closed.
        """
        (signature,) = await self.sign_all((request,), again=None if again is None else lambda _: again())
        if isinstance(signature, HsmError):
            raise signature
        return signature

    async def sign_all(
        self, requests: Sequence[SignRequest], *, again: AgainAt | None = None
    ) -> list[bytes | HsmError]:
        """Make signatures in one go; one that fails is healed and asked for once more, as in ``sign``.

        Args:
            requests: what to sign, in this order.
            again: awaited before the token is asked once more for one of them.

        Returns:
            The signatures, in their order. Where one could not be had, it and all after it are the error that ``sign``
            would have raised; those after it were not asked for.
        """
        signatures: list[bytes | HsmError] = []
        try:
            since = self.reloads_ended  # before the look: one that fails in between is not waited out
            if not self._worker.is_ready():
                await self.awake(since=since)
            tries = Tries(self._worker.health)
            while len(signatures) < len(requests):
                if tries.begins_again() and again is not None:
                    await again(len(signatures))
                made, error = await self.sign_once(requests[len(signatures) :])
                signatures += made
                if made:
                    tries.goes_on()
                if error is not None:
                    await self._worker.wait(tries.failed(error))
        except HsmError as error:
            signatures += [error] * (len(requests) - len(signatures))
        return signatures

    def sign_blocking(self, request: SignRequest, *, again: Callable[[], object] | None = None) -> bytes:
        """Do as ``sign``, and block this thread meanwhile."""
        if self._worker.is_here:
            return self.sign_once_blocking(request)
        since = self.reloads_ended
        if not self._worker.is_ready():
            self.awake_blocking(since=since)
        tries = Tries(self._worker.health)
        while True:
            if tries.begins_again() and again is not None:
                again()
            try:
                return self.sign_once_blocking(request)
            except HsmError as error:
                self._worker.wait_blocking(tries.failed(error))

    async def sign_once(self, requests: Sequence[SignRequest]) -> Made:
        """Make signatures up to the first fault, without waiting for a token that is asleep and without a second try.

        Returns:
            Those that were made, and what kept the token from the others.
        """
        try:
            made, error = await self._worker.perform(Signatures(requests))
        except HsmError as refused:  # before it was handed in
            return [], refused
        return [request.finish(one) for request, one in zip(requests, made, strict=False)], error

    def sign_once_blocking(self, request: SignRequest) -> bytes:
        """Make one signature, likewise, and block this thread meanwhile."""
        if self._worker.is_here:
            return request.finish(self._worker.anchor.sign(request))
        made, error = self._worker.perform_blocking(Signatures((request,)))
        if error is not None:
            raise error
        return request.finish(made[0])

    async def awake(self, *, since: int | None = None) -> None:
        """Return when the token works; wait for the next try to reload it, and raise what that came to.

        Args:
            since: ``reloads_ended`` when the trouble began: a try that ended since is not waited for once more.

        Raises:
            HsmError: it is still asleep, hangs, needs a human, or the signer is closed.
        """
        await self._worker.wait(since)

    def awake_blocking(self, *, since: int | None = None) -> None:
        """Do as ``awake``, and block this thread meanwhile."""
        self._worker.wait_blocking(since)

    def next_try(self, since: int | None = None) -> "Future[None] | None":
        """Return what ends with the next try to reload; None if the token is awake. ``since`` is as for ``awake``.

        Raises:
            HsmError: a human is needed, or the signer is closed.
        """
        return self._worker.next_try(since)

    def close(self) -> None:
        """Finish the work that was handed in, log out, end the thread. May be called again."""
        if self._worker.close():
            _open_signers.discard(self)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._worker.closed

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
        said = " closed" if self.closed else "" if self.state is State.AWAKE else f" {self.state.value}"
        return f"<Signer {self.name!r}{said}>"


def _close_all() -> None:
    for signer in list(_open_signers):
        signer.close()


def _poison() -> None:
    for signer in list(_open_signers):
        signer._worker.forked = True  # noqa: SLF001 - same module


atexit.register(_close_all)
os.register_at_fork(after_in_child=_poison)
