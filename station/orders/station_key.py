"""The key that an order names for a station's share: read by whoever writes the order, from a file of that station."""

import hashlib
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from station.orders.errors import OrderError

_READ_MOST: Final = 64 * 1024
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"


def station_key_sha256(path: Path) -> bytes:
    """Return the SHA-256 of the SubjectPublicKeyInfo of a public key, or of a certificate's (PEM).

    Args:
        path: a station's ``ca/ledger.pem``, or the certificate of its issuing CA.

    Raises:
        OrderError: it can't be read, or holds neither (``order.station_key``).
    """
    try:
        with path.open("rb") as file:
            content = file.read(_READ_MOST)
        key = (
            x509.load_pem_x509_certificate(content).public_key()
            if _CERTIFICATE in content
            else load_pem_public_key(content)
        )
    except OSError as error:
        raise OrderError(
            f"{path}: {error.strerror}; give the station's ca/ledger.pem, or its station.toml", code="order.station_key"
        ) from None
    except ValueError:
        raise OrderError(
            f"{path}: neither a public key nor a certificate in PEM; give the station's ca/ledger.pem",
            code="order.station_key",
        ) from None
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
