"""The key that an order names for a station's share: read by whoever writes the order, from a file of that station."""

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from station.orders.errors import OrderError
from station.public_key_file import read_public_key


def station_key_sha256(path: Path) -> bytes:
    """Return the SHA-256 of the SubjectPublicKeyInfo of a public key, or of a certificate's (PEM).

    Args:
        path: a station's ``ca/ledger.pem``, or the certificate of its issuing CA.

    Raises:
        OrderError: it can't be read, or holds neither (``order.station_key``).
    """
    try:
        key = read_public_key(path)
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
