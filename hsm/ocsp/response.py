"""What an OCSP answer is (RFC 6960 4.2).

::

    OCSPResponse ::= SEQUENCE { responseStatus ENUMERATED, [0] EXPLICIT { id-pkix-ocsp-basic, OCTET STRING } OPTIONAL }

    BasicOCSPResponse ::= SEQUENCE { tbsResponseData, AlgorithmIdentifier, BIT STRING, [0] EXPLICIT SEQUENCE OF cert }

    tbsResponseData ::= SEQUENCE {
        responderID  [2] EXPLICIT OCTET STRING,    -- SHA-1 of the responder's public key
        producedAt   GeneralizedTime,
        responses    SEQUENCE OF SEQUENCE {
            certID      CertID,
            certStatus  [0] NULL | [1] { GeneralizedTime, [0] EXPLICIT CRLReason OPTIONAL } | [2] NULL,
                        -- good, revoked, unknown
            thisUpdate  GeneralizedTime,
            nextUpdate  [0] EXPLICIT GeneralizedTime,
            [1] EXPLICIT Extensions OPTIONAL },
        [1] EXPLICIT Extensions OPTIONAL }

An answer is made in two steps, as a certificate is: the bytes to be signed, and then the token's signature put to them.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from hsm import der
from hsm.algorithms import scheme_of
from hsm.keys import AnyTokenKey
from hsm.ocsp.request import NONCE, CertId
from hsm.revocation.crl import Revoked, generalized_time, invalidity_date
from hsm.revocation.reasons import Reason

_ENUMERATED: Final = 0x0A
_GOOD: Final = bytes((0x80, 0))
_UNKNOWN: Final = bytes((0x82, 0))
_TAG_0, _TAG_1, _TAG_2 = 0xA0, 0xA1, 0xA2
_BASIC: Final = der.object_identifier("1.3.6.1.5.5.7.48.1.1")
_NONCE: Final = der.object_identifier(NONCE)


class Failure(IntEnum):
    """An answer that is none: ``responseStatus`` (RFC 6960 4.2.1); nobody signs it."""

    MALFORMED_REQUEST = 1
    INTERNAL_ERROR = 2
    TRY_LATER = 3
    UNAUTHORIZED = 6
    """The certificate's issuer is not ours (RFC 5019 2.2.3)."""

    @property
    def der(self) -> bytes:
        """The whole OCSPResponse."""
        return der.encode(der.SEQUENCE, bytes((_ENUMERATED, 1, self)))


@dataclass(frozen=True, slots=True)
class Unknown:
    """We never issued a certificate with this serial number."""


@dataclass(frozen=True, slots=True)
class Good:
    """We issued it, and it is not revoked."""


Status = Good | Unknown | Revoked


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when an answer holds; whole seconds."""

    this_update: dt.datetime
    next_update: dt.datetime


class Responder:
    """The identity that answers carry: the responder's certificate, and how its key signs."""

    def __init__(self, certificate: x509.Certificate, key: AnyTokenKey) -> None:
        """Prepare what is the same in each answer.

        Args:
            certificate: of the delegated responder (RFC 6960 4.2.2.2), or of the CA itself.
            key: the private key to it.
        """
        self.certificate = certificate
        self.key = key
        self.scheme = scheme_of(certificate)
        """How its key signs."""
        digest = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
        self._responder_id = der.encode(_TAG_2, der.encode(der.OCTET_STRING, digest))
        content = certificate.public_bytes(serialization.Encoding.DER)
        self._certificates = der.encode(_TAG_0, der.encode(der.SEQUENCE, content))

    def to_be_signed(
        self,
        answers: Sequence[tuple[CertId, Status]],
        window: Window,
        *,
        produced_at: dt.datetime,
        nonce: bytes | None = None,
    ) -> bytes:
        """Return tbsResponseData."""
        singles = b"".join(_single(certificate, status, window) for certificate, status in answers)
        content = self._responder_id + generalized_time(produced_at) + der.encode(der.SEQUENCE, singles)
        if nonce is not None:
            value = der.encode(der.OCTET_STRING, der.encode(der.OCTET_STRING, nonce))
            extension = der.encode(der.SEQUENCE, _NONCE + value)
            content += der.encode(_TAG_1, der.encode(der.SEQUENCE, extension))
        return der.encode(der.SEQUENCE, content)

    def assembled(self, tbs: bytes, signature: bytes) -> bytes:
        """Return the OCSPResponse with its signature and the responder's certificate."""
        bits = der.encode(der.BIT_STRING, b"\0" + signature)
        basic = der.encode(der.SEQUENCE, tbs + self.scheme.identifier + bits + self._certificates)
        body = der.encode(der.SEQUENCE, _BASIC + der.encode(der.OCTET_STRING, basic))
        return der.encode(der.SEQUENCE, bytes((_ENUMERATED, 1, 0)) + der.encode(_TAG_0, body))


def _single(certificate: CertId, status: Status, window: Window) -> bytes:
    extensions = b""
    match status:
        case Good():
            said = _GOOD
        case Unknown():
            said = _UNKNOWN
        case Revoked():
            said = der.encode(_TAG_1, generalized_time(status.at) + _reason(status.reason))
            if status.invalid_since is not None:  # a CRL entry's extensions may stand here (RFC 6960 4.4.5)
                extension = invalidity_date(status.invalid_since)
                extensions = der.encode(_TAG_1, der.encode(der.SEQUENCE, extension))
    until = der.encode(_TAG_0, generalized_time(window.next_update))
    content = certificate.der + said + generalized_time(window.this_update) + until + extensions
    return der.encode(der.SEQUENCE, content)


def _reason(reason: Reason) -> bytes:
    if reason is Reason.UNSPECIFIED:  # as in a CRL: rather absent
        return b""
    return der.encode(_TAG_0, bytes((_ENUMERATED, 1, reason)))
