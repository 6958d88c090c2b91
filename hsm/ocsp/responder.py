"""From the bytes of a request to the bytes of an answer.

1. What is no request is ``malformedRequest``.
2. A certificate of another issuer is ``unauthorized``: we can't speak for it (RFC 5019 2.2.3).
3. The status is read from the journal, each time. A serial number that we never gave out is ``unknown``, signed: it is
   not ours, and a client must not take it for good.
4. Without a nonce, an answer that was signed before is handed out if it says just that and is fresh: from memory, or
   from the folder of presigned answers.
5. Otherwise the token signs one, counted before. When too many wait for it, the rest is told ``tryLater`` at once.
"""

import datetime as dt
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from hsm.errors import HsmError, OcspError, Recovery
from hsm.ocsp.identity import IssuerIdentity
from hsm.ocsp.presigned import PresignedFolder, SignedAnswer, says, sign_answer, window_of
from hsm.ocsp.request import CertId, OcspRequest
from hsm.ocsp.response import Failure, Responder, Status
from hsm.ocsp.statuses import Statuses

KEPT: Final = 20_000
"""Answers that are kept in memory."""

MAX_WAITING: Final = 256
"""Answers that may wait for the token, if nothing else is said."""

MARGIN: Final = dt.timedelta(minutes=5)
"""An answer that ends sooner than this is not handed out again."""

DEFAULT_VALIDITY: Final = dt.timedelta(hours=12)
"""Of answers that are signed on demand."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    der: bytes
    signed: SignedAnswer | None = None
    """Set where anybody may have it, so that it may be cached: no nonce, one certificate."""
    busy: bool = False
    """The token has too much to do for another one."""


@dataclass(frozen=True, slots=True)
class Signing:
    """How answers are signed on demand."""

    responder: Responder
    count: Callable[[], Awaitable[object]]
    """Counts a signature in a journal, before the token is asked for it."""
    validity: dt.timedelta = DEFAULT_VALIDITY


class OcspResponder:
    """Answers for one issuer."""

    def __init__(  # noqa: PLR0913 - what it answers from, by name
        self,
        issuer: x509.Certificate,
        signing: Signing,
        statuses: Statuses,
        *,
        clock: Callable[[], dt.datetime],
        presigned: PresignedFolder | None = None,
        most_waiting: int = MAX_WAITING,
    ) -> None:
        """Begin with nothing in memory.

        Args:
            issuer: whose certificates are answered for.
            signing: who signs.
            statuses: what is true now.
            clock: the time, aware of its zone.
            presigned: answers that were signed ahead.
            most_waiting: answers that may wait for the token.
        """
        self.clock = clock
        self._identity = IssuerIdentity(issuer)
        self._signing = signing
        self._statuses = statuses
        self._presigned = presigned
        self._kept: OrderedDict[bytes, SignedAnswer] = OrderedDict()
        self._waiting = 0
        self._most_waiting = most_waiting

    async def answer(self, request: bytes) -> Answer:
        """Answer a request. Whatever goes wrong is an answer too."""
        try:
            return await self._answer(OcspRequest.parse(request))
        except OcspError as error:
            if error.code == "ocsp.malformed":
                return Answer(Failure.MALFORMED_REQUEST.der)
            return self._failed(error)
        except HsmError as error:
            return self._failed(error)
        except OSError as error:  # the journal's file is gone
            _log.error("no answer: %s", error)
            return Answer(Failure.INTERNAL_ERROR.der)

    async def _answer(self, request: OcspRequest) -> Answer:
        if not all(self._identity.is_named_by(certificate) for certificate in request.certificates):
            return Answer(Failure.UNAUTHORIZED.der)
        now = self.clock()
        answers = [(certificate, self._statuses.status(certificate.serial)) for certificate in request.certificates]
        is_plain = request.nonce is None and len(answers) == 1
        if is_plain and (known := self._known(*answers[0], now)) is not None:
            return Answer(known.der, known)
        if self._waiting >= self._most_waiting:
            return Answer(Failure.TRY_LATER.der, busy=True)
        responder = self._signing.responder
        window = window_of(responder.certificate, now, self._signing.validity)
        tbs = responder.to_be_signed(answers, window, produced_at=window.this_update, nonce=request.nonce)
        self._waiting += 1
        try:
            await self._signing.count()
            content = await sign_answer(responder, tbs, again=self._signing.count)
        finally:
            self._waiting -= 1
        if not is_plain:
            return Answer(content)
        signed = SignedAnswer(content, answers[0][1], window)
        self._keep(answers[0][0], signed)
        return Answer(content, signed)

    def _known(self, certificate: CertId, status: Status, now: dt.datetime) -> SignedAnswer | None:
        """Return an answer that was signed before, if it is true and fresh."""
        kept = self._kept.get(certificate.der)
        if kept is not None and says(kept, status) and kept.window.next_update > now + MARGIN:
            self._kept.move_to_end(certificate.der)
            return kept
        if self._presigned is None or certificate.der != self._identity.certificate(certificate.serial).der:
            return None
        found = self._presigned.read(certificate.serial)
        if found is None or not says(found, status) or not _covers(found, now):
            return None
        self._keep(certificate, found)
        return found

    def _keep(self, certificate: CertId, answer: SignedAnswer) -> None:
        self._kept[certificate.der] = answer
        self._kept.move_to_end(certificate.der)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def _failed(self, error: HsmError) -> Answer:
        _log.error("no answer: %s", error)
        again = error.recovery is not Recovery.PERMANENT
        return Answer((Failure.TRY_LATER if again else Failure.INTERNAL_ERROR).der)


def _covers(answer: SignedAnswer, now: dt.datetime) -> bool:
    return answer.window.this_update <= now and answer.window.next_update > now + MARGIN
