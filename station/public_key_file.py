"""Public keys as people hand them over: a SubjectPublicKeyInfo, or the certificate that holds it, in PEM (RFC 7468)."""

from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_public_key

_MOST: Final = 64 * 1024
"""Octets that are read of such a file."""

_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"


def read_public_key(path: Path) -> PublicKeyTypes | CertificatePublicKeyTypes:
    """Read the key of a file, of whatever kind it is.

    Raises:
        OSError: the file can't be read.
        ValueError: it holds neither a public key nor a certificate.
    """
    with path.open("rb") as file:
        content = file.read(_MOST)
    if _CERTIFICATE in content:
        return x509.load_pem_x509_certificate(content).public_key()
    return load_pem_public_key(content)
