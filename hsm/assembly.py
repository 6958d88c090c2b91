"""A TBSCertificate put together from its parts (RFC 5280 4.1).

The parts are encoded by pyca/cryptography: names, keys, the values of extensions. What is put around them here is what
its builder puts there too, which ``hsm.drafting`` compares; the builder takes ten times as long.
"""

import datetime as dt
import functools
import hashlib
from typing import Final

from cryptography import x509

from hsm import der

_VERSION_3: Final = bytes.fromhex("a003020102")
_INTEGER: Final = 0x02
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_EXTENSIONS: Final = 0xA3
_TRUE: Final = b"\x01\x01\xff"
_UTC_TIME_ENDS: Final = 2050


def extension(value: x509.ExtensionType, *, critical: bool) -> bytes:
    """Return the DER of an Extension."""
    return raw_extension(der.object_identifier(value.oid.dotted_string), value.public_bytes(), critical=critical)


def raw_extension(oid: bytes, value: bytes, *, critical: bool = False) -> bytes:
    """Return the DER of an Extension, from the DER of its parts."""
    return der.encode(der.SEQUENCE, oid + (_TRUE if critical else b"") + der.encode(der.OCTET_STRING, value))


@functools.lru_cache(maxsize=256)  # a batch has few different ones, and writing one costs as much as all the rest here
def time(moment: dt.datetime) -> bytes:
    """Return the DER of a Time: UTCTime through 2049, GeneralizedTime after (RFC 5280 4.1.2.5)."""
    if moment.year < _UTC_TIME_ENDS:
        return der.encode(_UTC_TIME, f"{moment:%y%m%d%H%M%SZ}".encode())
    return der.encode(_GENERALIZED_TIME, f"{moment:%Y%m%d%H%M%SZ}".encode())


def key_identifier(spki: bytes) -> bytes:
    """Return the SHA-1 of the key in a SubjectPublicKeyInfo (RFC 5280 4.2.1.2, method 1)."""
    _, bits = der.parts(spki)
    content = der.read(bits, 0, len(bits)).content + 1  # after the count of unused bits
    return hashlib.sha1(bits[content:], usedforsecurity=False).digest()


def extensions_field(extensions: bytes) -> bytes:
    """Return the field of a TBSCertificate with extensions in it, given one after the other."""
    return der.encode(_EXTENSIONS, der.encode(der.SEQUENCE, extensions))


def tbs_certificate(  # noqa: PLR0913 - the fields of a certificate
    *,
    serial: int,
    algorithm: bytes,
    issuer: bytes,
    not_before: dt.datetime,
    not_after: dt.datetime,
    subject: bytes,
    spki: bytes,
    extensions: bytes,
) -> bytes:
    """Return the DER of a TBSCertificate.

    Args:
        serial: positive.
        algorithm: AlgorithmIdentifier of the signature.
        issuer: Name.
        not_before: UTC, whole seconds.
        not_after: UTC, whole seconds.
        subject: Name.
        spki: SubjectPublicKeyInfo.
        extensions: from ``extensions_field``.
    """
    return der.encode(
        der.SEQUENCE,
        b"".join(
            (
                _VERSION_3,
                der.encode(_INTEGER, serial.to_bytes(serial.bit_length() // 8 + 1)),
                algorithm,
                issuer,
                der.encode(der.SEQUENCE, time(not_before) + time(not_after)),
                subject,
                spki,
                extensions,
            )
        ),
    )
