"""Answers that are signed ahead, as files that any web server can hand out (RFC 5019).

A file's path is the path of the GET request that it answers, so that a static server needs no program; its time of
change is thisUpdate, so that ``Last-Modified`` is right too. The responder (``responder.py``) takes its answers from
the same folder, as long as they still say what the journal says.
"""

import asyncio
import datetime as dt
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509 import ocsp

from hsm.algorithms import verify
from hsm.errors import OcspError
from hsm.ocsp.identity import IssuerIdentity
from hsm.ocsp.response import Good, Responder, Status, Unknown, Window
from hsm.revocation.crl import Revoked
from hsm.revocation.reasons import Reason

CHUNK: Final = 500
"""Answers that are made durable together."""

_STATUSES: Final[Mapping[ocsp.OCSPCertStatus, Status]] = {
    ocsp.OCSPCertStatus.GOOD: Good(),
    ocsp.OCSPCertStatus.UNKNOWN: Unknown(),
}


@dataclass(frozen=True, slots=True)
class SignedAnswer:
    """An answer about one certificate."""

    der: bytes
    status: Status
    window: Window

    @classmethod
    def parse(cls, content: bytes) -> "SignedAnswer":
        """Read one of our own answers.

        Raises:
            ValueError: it is none.
        """
        response = ocsp.load_der_ocsp_response(content)
        single = next(iter(response.responses))
        if single.next_update_utc is None:
            raise ValueError("it has no nextUpdate")
        status = _STATUSES.get(single.certificate_status) or _revoked(single)
        return cls(content, status, Window(single.this_update_utc, single.next_update_utc))


def _revoked(single: ocsp.OCSPSingleResponse) -> Revoked:
    at = single.revocation_time_utc
    if at is None:
        raise ValueError("it does not say since when")
    flag = single.revocation_reason
    reason = Reason.UNSPECIFIED if flag is None else Reason.parse(flag.value)
    return Revoked(single.serial_number, at, reason)


class PresignedFolder:
    """The folder with the answers about one issuer's certificates."""

    def __init__(self, path: Path, issuer: x509.Certificate) -> None:
        """Name the folder; it is made when the first answer is written."""
        self.path = path
        self.identity = IssuerIdentity(issuer)

    def read(self, serial: int) -> SignedAnswer | None:
        """Return the answer about a certificate, or None if there is none that can be read."""
        place = self.identity.path(serial)
        if place is None:
            return None
        try:
            return SignedAnswer.parse((self.path / place).read_bytes())
        except (OSError, ValueError):
            return None

    def write(self, answers: Sequence[tuple[int, SignedAnswer]]) -> int:
        """Put answers into their places, each whole or not at all.

        Returns:
            How many; those whose path can't be a file are left out.

        Raises:
            OcspError: ``ocsp.folder``: the folder can't be written.
        """
        placed = [(self.path / place, one) for serial, one in answers if (place := self.identity.path(serial))]
        try:
            for path, answer in placed:
                path.parent.mkdir(parents=True, exist_ok=True)
                unfinished = _unfinished(path)
                unfinished.write_bytes(answer.der)
                stamp = answer.window.this_update.timestamp()
                os.utime(unfinished, (stamp, stamp))
            os.sync()  # once for all: a file each would wait for the disk a thousand times
            for path, _ in placed:
                _unfinished(path).replace(path)
        except OSError as error:
            raise OcspError(
                f"{error.filename or self.path} can't be written: {error.strerror}; the answers that are there stay",
                code="ocsp.folder",
            ) from error
        return len(placed)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


@dataclass(frozen=True, slots=True)
class Presigning:
    """Who signs answers ahead, and for how long."""

    responder: Responder
    validity: dt.timedelta
    renew_within: dt.timedelta
    """An answer that says the right thing is left alone while it is valid for longer than this."""
    count: Callable[[int], Awaitable[object]]
    """Counts signatures in the journal, before the token is asked for them."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    signed: int = 0
    fresh: int = 0
    """Left alone."""


async def presign(
    folder: PresignedFolder,
    signing: Presigning,
    statuses: Iterable[tuple[int, Status]],
    now: Callable[[], dt.datetime],
    watch: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Sign the answers that are missing, old, or wrong by now. It can be broken off and run again.

    Args:
        folder: where they go.
        signing: who signs.
        statuses: serial numbers, and what is to be said.
        now: the time.
        watch: hears after each chunk.

    Raises:
        OcspError: the folder can't be written, or the token signs wrongly.
        TokenError: the token refused; what is written stays.
    """
    progress = Progress()
    remaining = iter(statuses)
    while chunk := list(islice(remaining, CHUNK)):
        window = window_of(signing.responder.certificate, now(), signing.validity)
        until = window.this_update + signing.renew_within
        stale = [(serial, status) for serial, status in chunk if not _is_fresh(folder.read(serial), status, until)]
        if stale:
            await signing.count(len(stale))
            made = await asyncio.gather(*(_signed(folder, signing, *one, window) for one in stale))
            await asyncio.to_thread(folder.write, made)
        progress = Progress(progress.signed + len(stale), progress.fresh + len(chunk) - len(stale))
        watch(progress)
    return progress


def window_of(responder: x509.Certificate, now: dt.datetime, validity: dt.timedelta) -> Window:
    """Return from when to when an answer holds: not past the certificate of who signs it.

    Raises:
        OcspError: ``ocsp.responder_expired``.
    """
    start = now.astimezone(dt.UTC).replace(microsecond=0)
    end = min(start + validity, responder.not_valid_after_utc)
    if start >= end or start < responder.not_valid_before_utc:
        raise OcspError(
            f"the responder's certificate is valid from {responder.not_valid_before_utc:%Y-%m-%d %H:%M}Z to "
            f"{responder.not_valid_after_utc:%Y-%m-%d %H:%M}Z, and not now; renew it with 'station ca ocsp init'",
            code="ocsp.responder_expired",
        )
    return Window(start, end)


def says(answer: SignedAnswer, status: Status) -> bool:
    """Whether an answer says what is true now."""
    if isinstance(status, Revoked) and isinstance(answer.status, Revoked):
        return (answer.status.at, answer.status.reason) == (status.at, status.reason)
    return type(answer.status) is type(status)


def _is_fresh(answer: SignedAnswer | None, status: Status, until: dt.datetime) -> bool:
    return answer is not None and says(answer, status) and answer.window.next_update > until


async def _signed(
    folder: PresignedFolder, signing: Presigning, serial: int, status: Status, window: Window
) -> tuple[int, SignedAnswer]:
    responder = signing.responder
    tbs = responder.to_be_signed(
        [(folder.identity.certificate(serial), status)], window, produced_at=window.this_update
    )
    content = await sign_answer(responder, tbs, again=lambda: signing.count(1))
    return serial, SignedAnswer(content, status, window)


async def sign_answer(responder: Responder, tbs: bytes, *, again: Callable[[], Awaitable[object]]) -> bytes:
    """Let the token sign an answer, and verify the signature before anybody sees it.

    Args:
        responder: signs.
        tbs: tbsResponseData.
        again: counts one more, before the token is asked a second time after a failure that left no signature.

    Raises:
        OcspError: ``ocsp.signature_invalid``.
        TokenError: the token refused.
    """
    scheme = responder.scheme
    signature = await responder.key.sign_message(tbs, again=again, pss=scheme.pss)
    try:
        verify(responder.key.public_key(), signature, tbs, scheme.hash, pss=scheme.pss)
    except InvalidSignature as error:
        raise OcspError(
            "the token returned a signature that does not verify; nothing was answered. Compare the token's firmware "
            "with the vendor's list of faults",
            code="ocsp.signature_invalid",
        ) from error
    return responder.assembled(tbs, signature)
