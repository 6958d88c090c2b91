"""Certificates as files: PEM, DER, PKCS #7, and the chain in one file."""

import ssl
from collections.abc import Sequence
from enum import Enum

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7


class Form(Enum):
    """How a certificate is written to a file; the value is what people call it."""

    PEM = "pem"
    """The certificate alone, in PEM."""
    DER = "der"
    """The certificate alone, in DER."""
    P7B = "p7b"
    """The certificate and its chain, in PKCS #7 (RFC 2315, DER, certificates only)."""
    CHAIN = "chain"
    """The certificate and its chain in PEM, one after the other, as TLS servers want it."""

    @property
    def suffix(self) -> str:
        """What file names end with."""
        return {"der": ".cer", "p7b": ".p7b"}.get(self.value, ".pem")


def written(certificate: bytes, chain: Sequence[bytes], form: Form) -> bytes:
    """Return the content of a file.

    Args:
        certificate: DER.
        chain: DER of those above, its issuer first; the root is left out.
        form: how it is written.
    """
    if form is Form.DER:
        return certificate
    if form is Form.PEM:
        return _pem(certificate)
    if form is Form.CHAIN:
        return b"".join(map(_pem, (certificate, *chain)))
    parsed = [x509.load_der_x509_certificate(one) for one in (certificate, *chain)]
    return pkcs7.serialize_certificates(parsed, Encoding.DER)


def _pem(certificate: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(certificate).encode()
