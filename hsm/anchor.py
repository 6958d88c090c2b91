"""One login on a token, the keys that were found with it, and the way back to both.

Handles die with their session: after a reload, and when another signer reloads the module. Which keys are in use is
remembered, so that after the next login each is found again by its public half, and shows that it still signs. All of
it is done on the signer's thread (``hsm.worker``); what a token is asked is ``hsm.port``.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from cryptography.exceptions import InvalidSignature

from hsm.algorithms import SCHEMES, family_of, verify
from hsm.counting import SignatureCounts
from hsm.errors import IssuanceError, KeyMissing, Recovery, TokenError
from hsm.health import WRONG
from hsm.key_rules import FoundKey
from hsm.port import Login, TokenPort
from hsm.request import KeyName, Purpose, SignRequest, message_request
from hsm.token import TokenFacts

_PROBE: Final = b"hsm: does this key still sign? "
"""Starts what is signed after a reload; it is no DER, so no certificate either."""


class Anchor:
    """What a signer holds of its token."""

    def __init__(self, port: TokenPort, name: str) -> None:
        """Hold nothing yet; ``name`` is what the token is called until it was seen."""
        self.port = port
        self.token: TokenFacts | None = None
        """As the token described itself right before the last login."""
        self.login = Login(None, attended=False, writable=False)
        """With what it is logged in to."""
        self.counts: SignatureCounts | None = None
        """Where each signature is counted before the token is asked."""
        self._name = name
        self._in_use: dict[bytes, KeyName] = {}
        self._found: dict[bytes, FoundKey] = {}

    @property
    def name(self) -> str:
        """The token's label, as far as it is known."""
        return self._name if self.token is None else self.token.label

    def sign(self, request: SignRequest) -> bytes:
        """Count, and sign.

        Raises:
            AuditError: it can't be counted, so the token is not asked.
        """
        with self.counted((request,)) as ask:
            return ask(request)

    @contextmanager
    def counted(self, requests: Sequence[SignRequest]) -> Iterator[Callable[[SignRequest], bytes]]:
        """Count signatures; hand out what asks gate and token for each, in order. What was not asked is taken back.

        Raises:
            AuditError: they can't be counted, so the token is not asked.
        """
        asked = 0

        def ask(request: SignRequest) -> bytes:
            nonlocal asked
            found = self._found.get(request.key.spki_sha256) or self.find(request.key)
            if request.gate is not None:
                request.gate()
            asked += 1
            return self.port.sign(found, request)

        self._count(requests, 1)
        try:
            yield ask
        finally:
            self._count(requests[asked:], -1)

    def _count(self, requests: Sequence[SignRequest], sign: int) -> None:
        if self.counts is not None:
            for (key, purpose), number in Counter((one.key.spki_sha256, one.purpose) for one in requests).items():
                self.counts.count(key, purpose, sign * number)

    def find(self, key: KeyName) -> FoundKey:
        """Find a key, and remember to find it again.

        Raises:
            KeyMissing: the token does not hold it.
            TokenError: it did hold it (``token.key_gone``).
        """
        try:
            found = self.port.find(key)
        except KeyMissing as error:
            if key.spki_sha256 not in self._in_use:
                raise
            raise TokenError(f"a key has gone: {error}", code="token.key_gone", recovery=Recovery.RELOAD) from error
        self._in_use[key.spki_sha256] = key
        self._found[key.spki_sha256] = found
        return found

    def reload(self) -> None:
        """Reload the module, and come back to where we were."""
        self._found.clear()
        self.port.reload()
        with self.port.using():
            self._come_back()

    def return_if_stale(self) -> None:
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
        for key in tuple(self._in_use.values()):
            self.find(key)
            self._probe(key)

    def _probe(self, key: KeyName) -> None:
        message = _PROBE + secrets.token_bytes(32)
        request = message_request(key, message, Purpose.PROBE)
        signature = request.finish(self.sign(request))
        family = family_of(key.public)
        try:
            verify(key.public, signature, message, None if family is None else SCHEMES[family].hash)
        except InvalidSignature:
            raise IssuanceError(
                f"the key in token {self.name!r} signs wrongly after a reload",
                code=WRONG,
                operator="The HSM signs wrongly. Stop the line and call the security officer.",
            ) from None
