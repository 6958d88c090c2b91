"""Certificates as files: PEM, DER, PKCS #7, and the chain in one file."""

import errno
import os
import ssl
import stat
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


def write_or_find(path: str, content: bytes) -> None:
    """Write a file that is not there yet, or that a power cut left unfinished: whole, or the beginning of it.

    A file that is there costs a look; one that is not costs what writing it costs.

    Raises:
        FileExistsError: something else is there; it is left as it is.
        OSError: the file can't be written.
    """
    begun = 0
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        begun = _begun(path, content)
        if begun == len(content):
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.write(descriptor, content[begun:]) != len(content) - begun:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)


def _begun(path: str, content: bytes) -> int:
    """Return how much of its content a file holds that is there already.

    Raises:
        FileExistsError: it holds something else, or is no file.
    """
    other = FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise other from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise other
        held = os.read(descriptor, len(content) + 1)
    finally:
        os.close(descriptor)
    if not content.startswith(held):
        raise other
    return len(held)


def _pem(certificate: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(certificate).encode()
