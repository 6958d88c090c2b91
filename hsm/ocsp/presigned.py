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
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509 import ocsp
from cryptography.x509.oid import SignatureAlgorithmOID

from hsm.algorithms import scheme_of, verify
from hsm.errors import OcspError
from hsm.ocsp.delegation import check_delegation
from hsm.ocsp.identity import IssuerIdentity
from hsm.ocsp.request import CertId
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
    def parse(cls, content: bytes, certificate: CertId, issuer: x509.Certificate) -> "SignedAnswer":
        """Read an answer that lay in a folder, where anybody may have put it.

        Args:
            content: the answer.
            certificate: that it has to be about.
            issuer: who signed it, or whose responder did.

        Raises:
            ValueError: it is none, is about another certificate, or its signature is not to be trusted.
        """
        response = ocsp.load_der_ocsp_response(content)
        single = next(iter(response.responses))
        named = (single.serial_number, single.issuer_name_hash, single.issuer_key_hash)
        if named != (certificate.serial, certificate.name_hash, certificate.key_hash):
            raise ValueError("it is about another certificate")
        _check_signature(response, issuer)
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


def _check_signature(response: ocsp.OCSPResponse, issuer: x509.Certificate) -> None:
    """See that the issuer, or a responder of its own, signed an answer: the one now, or an earlier one.

    Raises:
        ValueError: nobody who may did.
    """
    signer = response.certificates[0] if response.certificates else issuer
    pss = response.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS
    try:
        _check_responder(signer, issuer)
        verify(
            signer.public_key(),  # type: ignore[arg-type]  # another kind is an error below
            response.signature,
            response.tbs_response_bytes,
            scheme_of(signer, pss=True).hash if pss else response.signature_hash_algorithm,
            pss=pss,
        )
    except (OcspError, InvalidSignature, UnsupportedAlgorithm, TypeError, AttributeError) as error:
        raise ValueError("its signature is not to be trusted") from error


_check_responder = lru_cache(maxsize=64)(check_delegation)
"""The same few certificates stand in all answers."""


class PresignedFolder:
    """The folder with the answers about one issuer's certificates."""

    def __init__(self, path: Path, issuer: x509.Certificate) -> None:
        """Name the folder; it is made when the first answer is written."""
        self.path = path
        self.identity = IssuerIdentity(issuer)
        self._issuer = issuer

    def read(self, serial: int) -> SignedAnswer | None:
        """Return the answer about a certificate, or None if there is none that can be read and is signed for us."""
        place = self.identity.path(serial)
        if place is None:
            return None
        try:
            content = (self.path / place).read_bytes()
            return SignedAnswer.parse(content, self.identity.certificate(serial), self._issuer)
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
