"""How requests name an issuer, and how the plainest request for one certificate looks."""

import base64
import hashlib
from pathlib import PurePosixPath
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hsm import der
from hsm.ocsp.request import CertId

_HASHES: Final = ("sha1", "sha256", "sha384", "sha512")
_SHA1: Final = bytes.fromhex("300906052b0e03021a0500")
"""AlgorithmIdentifier with NULL, as every client in use writes it; RFC 5019 2.1.1 allows no other hash."""


class IssuerIdentity:
    """One issuer, as OCSP requests name it."""

    def __init__(self, issuer: x509.Certificate) -> None:
        """Take the hashes of its name and key (RFC 6960 4.1.1)."""
        name = issuer.subject.public_bytes()
        key = _public_key_bits(issuer)
        self._hashes = {
            algorithm: (hashlib.new(algorithm, name).digest(), hashlib.new(algorithm, key).digest())
            for algorithm in _HASHES
        }
        self._prefix = b"".join([_SHA1, *(der.encode(der.OCTET_STRING, part) for part in self._hashes["sha1"])])

    def is_named_by(self, certificate: CertId) -> bool:
        """Whether a CertID is about a certificate of this issuer."""
        if certificate.hash_name is None:
            return False
        return self._hashes[certificate.hash_name] == (certificate.name_hash, certificate.key_hash)

    def certificate(self, serial: int) -> CertId:
        """Return the CertID that clients use for a certificate of this issuer."""
        content = serial.to_bytes(serial.bit_length() // 8 + 1)
        encoded = der.encode(der.SEQUENCE, self._prefix + der.encode(0x02, content))
        return CertId(encoded, "sha1", *self._hashes["sha1"], serial)

    def request(self, serial: int) -> bytes:
        """Return the plain request for one certificate: no nonce, no extensions (RFC 5019 2.1)."""
        content = self.certificate(serial).der
        for _ in range(4):  # Request, requestList, tbsRequest, OCSPRequest
            content = der.encode(der.SEQUENCE, content)
        return content

    def path(self, serial: int) -> PurePosixPath | None:
        """Return where a web server looks for the answer to a GET (RFC 6960 A.1).

        The path is the request in Base64. That has slashes in it, which become folders; two in a row are one to a web
        server and to a file system. A path that ends with one names no file: None, and this answer is not for static
        hosting. It never happens to our own serial numbers, whose length ends each path with "=".
        """
        text = base64.b64encode(self.request(serial)).decode()
        return None if text.endswith("/") else PurePosixPath(text)


def _public_key_bits(issuer: x509.Certificate) -> bytes:
    """Return the public key's BIT STRING, without tag, length and count of unused bits."""
    spki = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    _, bits = der.children(spki, der.read(spki, 0, len(spki)))
    return spki[bits.content + 1 : bits.end]
