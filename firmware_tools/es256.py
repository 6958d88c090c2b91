"""ES256 as JSON Web Signatures have it (RFC 7518 3.4), their base64url (RFC 7515 2), and their JSON (RFC 7515 4).

Bundles, orders and exports are signed with it. Which forms and headers each of them takes stands where they are read.
Knows nothing of: headers, keys that are trusted.
"""

import base64
import binascii
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

_COORDINATE: Final = 32
"""Octets of r, and of s."""

SIGNATURE_SIZE: Final = 2 * _COORDINATE
"""Octets of a signature: r and s."""


def base64url(octets: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Read base64url without padding.

    Raises:
        ValueError: it is none; each value has one spelling here.
    """
    try:
        octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if base64url(octets) != text:
        raise ValueError("not the one spelling that base64url has for these octets")
    return octets


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of the pairs of a JSON object; a name that stands twice is refused (RFC 7515 4, RFC 8259 4).

    Raises:
        ValueError: a name stands twice.
    """
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands twice")
    return made


def signing_input(protected: str, payload: str) -> bytes:
    """Return what is signed (RFC 7515 5.1, step 5), of a protected header and a payload in base64url."""
    return f"{protected}.{payload}".encode("ascii")


def of_der(signature: bytes) -> bytes:
    """Return r and s, 32 octets each, of an ECDSA signature in DER, as X.509 and ``cryptography`` have it."""
    r, s = decode_dss_signature(signature)
    return r.to_bytes(_COORDINATE) + s.to_bytes(_COORDINATE)


def is_by(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    """Tell whether a key on P-256 made a signature of ``SIGNATURE_SIZE`` octets over a message."""
    halves = [int.from_bytes(half) for half in (signature[:_COORDINATE], signature[_COORDINATE:])]
    try:
        key.verify(encode_dss_signature(*halves), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
