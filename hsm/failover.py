"""Tokens that hold the same key pair, a clone or a wrapped copy, behind one face: a signer to whoever signs.

The key is found by its public half in each of them. A token that is asleep, hangs or needs a human is passed over, and
comes back by itself. Which of those awake is asked is the group's ``Spread``: the first in the list while it works
(``FIRST``), or the one that has least to do (``LEAST_BUSY``), which makes two slow USB tokens as fast as one of twice
their speed.

A token whose call hangs may have made a signature that nobody will ever see: what comes back too late is thrown away.
The next token then signs the same bytes, so the certificate is the same but for the signature.
"""

import asyncio
import itertools
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from enum import Enum
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self, TypeVar

from hsm.errors import HsmError, KeyMissing, Recovery, SignerError
from hsm.health import ASLEEP, State, same
from hsm.key_rules import KeyFacts
from hsm.request import KeyName, SignRequest
from hsm.signer import Again, AgainAt, Signer
from hsm.timing import Timing
from hsm.token import Session, TokenFacts
from hsm.uri import TokenUri

T = TypeVar("T")


class Spread(Enum):
    """Which of several tokens is asked."""

    FIRST = "first"
    """The first in the list that is awake; the others stand by."""
    LEAST_BUSY = "least-busy"
    """The one with the shortest queue; among equals they take turns."""


class TokenGroup:
    """Tokens that hold the same keys, as one signer."""

    def __init__(self, signers: Sequence[Signer], *, spread: Spread = Spread.FIRST) -> None:
        """Join signers; ``close`` closes them.

        Raises:
            ValueError: there is none.
        """
        if not signers:
            raise ValueError("a group of tokens needs one")
        self.signers = tuple(signers)
        self.faults: tuple[HsmError, ...] = ()
        """Why tokens that were asked for are not in the group."""
        self._spread = spread
        self._turn = itertools.count()
        self._without: dict[bytes, set[Signer]] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        uris: Sequence[TokenUri],
        *,
        environment: Mapping[str, str] = MappingProxyType({}),
        spread: Spread = Spread.FIRST,
        timing: Timing | None = None,
        counts: Path | None = None,
    ) -> Self:
        """Open a signer for each token. Blocks.

        A token that is absent joins asleep, and works once it is plugged in. One that can't be used (its PIN is wrong,
        its module is missing) is left out: ``faults`` tells why.

        Args:
            uris: the tokens, best first.
            environment: variables that the modules read.
            spread: which token is asked.
            timing: how long the signers wait for what.
            counts: folder where signatures are counted.

        Raises:
            HsmError: no token works now: the fault of the first.
        """
        signers: list[Signer] = []
        faults: list[HsmError] = []
        for uri in uris:
            try:
                signers.append(
                    Signer.open(uri, environment=environment, timing=timing, counts=counts, may_be_absent=len(uris) > 1)
                )
            except HsmError as error:
                faults.append(error)
        if not any(signer.state is State.AWAKE for signer in signers):
            troubles = [signer.trouble for signer in signers if signer.trouble is not None]
            for signer in signers:
                signer.close()
            raise (faults + troubles)[0]
        group = cls(signers, spread=spread)
        group.faults = tuple(faults)
        return group

    @property
    def name(self) -> str:
        """The labels of the tokens."""
        return " or ".join(dict.fromkeys(signer.name for signer in self.signers))

    @property
    def token(self) -> TokenFacts:
        """The first token that is awake, as it described itself right before the last login."""
        return self._first().token

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return all(signer.closed for signer in self.signers)

    @property
    def state(self) -> State:
        """Awake if one token is, else how the first is."""
        return self._first().state

    @property
    def trouble(self) -> HsmError | None:
        """What put the first token to sleep; None while one is awake."""
        return self._first().trouble

    @property
    def unavailable(self) -> HsmError | None:
        """What a caller would be told now; None while a token is awake."""
        return self._first().unavailable

    async def sign(self, request: SignRequest, *, again: Again | None = None) -> bytes:
        """Make one signature with a token that is awake; if it fails, with the next.

        Args:
            request: what to sign, by which key.
            again: awaited before a token is asked once more, the same or another.

        Raises:
            HsmError: no token signed; the error is that of the last.
        """
        (signature,) = await self.sign_all((request,), again=None if again is None else lambda _: again())
        if isinstance(signature, HsmError):
            raise signature
        return signature

    async def sign_all(
        self, requests: Sequence[SignRequest], *, again: AgainAt | None = None
    ) -> list[bytes | HsmError]:
        """Make signatures by one key in one go; where a token fails, the next goes on from there.

        Args:
            requests: what to sign, in this order.
            again: awaited before a token is asked once more for one of them.

        Returns:
            As ``Signer.sign_all``.
        """
        signatures: list[bytes | HsmError] = []
        try:
            await self._sign_all(requests, signatures, again)
        except HsmError as error:
            signatures += [error] * (len(requests) - len(signatures))
        return signatures

    async def _sign_all(
        self, requests: Sequence[SignRequest], signatures: list[bytes | HsmError], again: AgainAt | None
    ) -> None:
        key = requests[0].key
        tries = self._tries(key)
        signer, asked = next(tries), False
        while len(signatures) < len(requests):
            if isinstance(signer, dict):
                await self.awake(since=signer)
                signer = next(tries)
                continue
            if asked and again is not None:
                await again(len(signatures))
            made, error = await signer.sign_once(requests[len(signatures) :])
            signatures += made
            if error is None:
                return
            if made:  # the fault met another signature, which has tries of its own
                tries, asked = self._tries(key, (signer, error)), error.code != ASLEEP
                signer = next(tries)
            else:
                asked = asked or error.code != ASLEEP  # that was not begun
                signer = tries.send(error)

    def sign_blocking(self, request: SignRequest, *, again: Callable[[], object] | None = None) -> bytes:
        """Do as ``sign``, and block this thread meanwhile."""
        tries = self._tries(request.key)
        signer, asked = next(tries), False
        while True:
            if isinstance(signer, dict):
                self.awake_blocking(since=signer)
                signer = next(tries)
                continue
            if asked and again is not None:
                again()
            try:
                return signer.sign_once_blocking(request)
            except HsmError as error:
                asked = asked or error.code != ASLEEP  # that was not begun
                signer = tries.send(error)

    async def find(self, key: KeyName) -> KeyFacts:
        """Find a key in every token that is awake; those without it are not asked for it again.

        Raises:
            KeyMissing: none holds it.
            KeyUnfit: one holds it, and it breaks a rule: then none is used.
        """
        results: list[KeyFacts | KeyMissing] = []
        for signer in self._awake():
            try:
                results.append(await signer.find(key))
            except KeyMissing as error:
                results.append(self._lacks(signer, key, error))
        return _first_found(results)

    def find_blocking(self, key: KeyName) -> KeyFacts:
        """Do as ``find``, and block this thread meanwhile."""
        results: list[KeyFacts | KeyMissing] = []
        for signer in self._awake():
            try:
                results.append(signer.find_blocking(key))
            except KeyMissing as error:
                results.append(self._lacks(signer, key, error))
        return _first_found(results)

    async def call(self, work: Callable[[Session], T]) -> T:
        """Run ``work(session)`` on the first token that is awake."""
        return await self._first().call(work)

    def call_blocking(self, work: Callable[[Session], T]) -> T:
        """Do as ``call``, and block this thread meanwhile."""
        return self._first().call_blocking(work)

    async def awake(self, *, since: Mapping[Signer, int] = MappingProxyType({})) -> None:
        """Return when one token works; wait for the next try to reload each, and raise what that came to.

        Args:
            since: for some tokens, as for ``Signer.awake``.

        Raises:
            HsmError: none works.
        """
        if any(signer.state is State.AWAKE for signer in self.signers):
            return
        waiting = [asyncio.ensure_future(signer.awake(since=since.get(signer))) for signer in self.signers]
        errors: list[HsmError] = []
        try:
            for done in asyncio.as_completed(waiting):
                try:
                    await done
                except HsmError as error:
                    errors.append(error)
                else:
                    return
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        raise _mildest(errors)

    def awake_blocking(self, *, since: Mapping[Signer, int] = MappingProxyType({})) -> None:
        """Do as ``awake``, and block this thread meanwhile."""
        errors: list[HsmError] = []
        waiting = []
        for signer in self.signers:
            try:
                future = signer.next_try(since.get(signer))
            except HsmError as error:
                errors.append(error)
            else:
                if future is None:
                    return
                waiting.append(future)
        for done in as_completed(waiting):
            failure = done.exception()
            if failure is None:
                return
            if not isinstance(failure, HsmError):
                raise failure
            errors.append(failure)
        raise _mildest(errors)

    def close(self) -> None:
        """Close all; may be called again."""
        for signer in self.signers:
            signer.close()

    def __enter__(self) -> Self:
        """Return the group."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close all."""
        self.close()

    def __repr__(self) -> str:
        """Name the tokens."""
        return f"<TokenGroup {list(self.signers)}>"

    def _awake(self) -> Iterator[Signer]:
        """Iterate over the tokens that are awake; there is one.

        Raises:
            HsmError: none is.
        """
        awake = [signer for signer in self.signers if signer.state is State.AWAKE]
        if not awake:
            raise same(self.signers[0].trouble or SignerError("the signer is closed"))
        return iter(awake)

    def _first(self) -> Signer:
        return next((signer for signer in self.signers if signer.state is State.AWAKE), self.signers[0])

    def _lacks(self, signer: Signer, key: KeyName, error: KeyMissing) -> KeyMissing:
        with self._lock:
            self._without.setdefault(key.spki_sha256, set()).add(signer)
        return error

    def _tries(
        self, key: KeyName, failed: tuple[Signer, HsmError] | None = None
    ) -> Generator[Signer | dict[Signer, int], HsmError, None]:
        """Yield the token to ask next, and get its error; or since when to wait until one is awake.

        Args:
            key: that is to sign.
            failed: the token that was asked already, and its error.
        """
        tried: list[Signer] = []
        seen = {signer: signer.reloads_ended for signer in self.signers}
        error: HsmError = KeyMissing(f"no token of {self.name} holds the key {key.spki_sha256.hex()}")
        while (signer := failed[0] if failed else self._choose(key, tried)) is not None:
            tried.append(signer)
            error, failed = (failed[1] if failed else (yield signer)), None
            if isinstance(error, KeyMissing):
                self._lacks(signer, key, error)
            elif error.recovery is Recovery.PERMANENT:
                raise error
        if isinstance(error, KeyMissing) and all(signer.state is State.AWAKE for signer in self.signers):
            raise error
        if not tried and (trouble := self.unavailable) is not None and all(s.stays_away for s in self.signers):
            raise trouble
        yield seen
        signer = self._choose(key, ())
        if signer is None:
            raise error
        raise (yield signer)

    def _choose(self, key: KeyName, tried: Sequence[Signer]) -> Signer | None:
        """Return the token to ask, or None if all that are awake were asked."""
        if self.closed:
            raise SignerError("the signer is closed")
        without = self._without.get(key.spki_sha256, set())
        fit = [
            signer
            for signer in self.signers
            if signer.state is State.AWAKE and signer not in without and signer not in tried
        ]
        if not fit:
            return None
        if self._spread is Spread.FIRST:
            return fit[0]
        turn = next(self._turn)
        return min(enumerate(fit), key=lambda item: (item[1].waiting, (item[0] - turn) % len(fit)))[1]


def _first_found(results: Sequence[KeyFacts | KeyMissing]) -> KeyFacts:
    for result in results:
        if isinstance(result, KeyFacts):
            return result
    assert isinstance(results[0], KeyMissing)  # noqa: S101 - one token was asked
    raise results[0]


def _mildest(errors: Sequence[HsmError]) -> HsmError:
    """Return the error that leaves the most hope."""
    return min(errors, key=lambda error: error.recovery in {Recovery.PIN, Recovery.PERMANENT})
