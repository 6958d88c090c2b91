"""Certificates as a board hands them out: taken apart, and not read.

What a board holds is worth something only where it is, byte for byte, what was issued; so nobody has to understand it.
A parser of X.509 would be given whatever a board likes to say, and answers some of it with errors of kinds that nobody
expects, such as for a version that does not exist.
"""

import base64
import re
from typing import Final

from hsm import der

PEM_BEGIN: Final = "-----BEGIN "
"""How a block begins (RFC 7468 2)."""

_BLOCK: Final = re.compile(rb"\s*-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*")


def split(content: bytes) -> list[bytes]:
    """Return the certificates (DER) in PEM blocks, or in DER, one after the other.

    Raises:
        ValueError: something in it has not the shape of a certificate.
    """
    return split_pem(content) if content.startswith(PEM_BEGIN.encode()) else _split_der(content)


def split_pem(text: bytes) -> list[bytes]:
    """Return the certificates (DER) in PEM blocks, one after the other.

    Raises:
        ValueError: it is something else, or has something else behind it.
    """
    found, at = [], 0
    while at < len(text):
        block = _BLOCK.match(text, at)
        if block is None:
            raise ValueError(f"no PEM block of a certificate at byte {at}")
        found.append(_checked(base64.b64decode(b"".join(block[1].split()), validate=True)))
        at = block.end()
    return found


def _split_der(content: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(content):
        end = der.read(content, at, len(content)).end
        found.append(_checked(content[at:end]))
        at = end
    return found


def _checked(certificate: bytes) -> bytes:
    der.split_signed(certificate)  # RFC 5280 4.1: what is signed, by which algorithm, and the signature
    return certificate
