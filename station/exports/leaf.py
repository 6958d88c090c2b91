"""What an export needs to see in a certificate, without parsing a million of them.

The manifest's certificates were linted and parsed when they were signed. So fields are found by their DER: after the
issuer's name, which is known byte by byte, come the validity, the subject and the key (RFC 5280 4.1). A field in a form
that is not expected here is read by pyca's parser, which is twenty times slower and knows every form.
"""

import base64
import re
import ssl
from dataclasses import dataclass
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from station.exports.target import ExportError
from station.manifest import PassedUnit

_COMMON_NAME: Final = b"\x06\x03\x55\x04\x03"
_AUTHORITY: Final = b"\x06\x03\x55\x1d\x23\x04"
"""The extension AuthorityKeyIdentifier, and the tag of its value."""
_KEY_ID: Final = 0x80
_TEXTS: Final = (0x0C, 0x13)
"""Tags of UTF8String and PrintableString."""
_SHORT: Final = 0x80
"""Lengths from here on have more than one octet."""
_P256_KEY: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200 04")
"""SubjectPublicKeyInfo of a point on P-256 (RFC 5480 2.1), up to the point's coordinates."""
_COORDINATE: Final = 32
_VENDOR: Final = bytes.fromhex("060a2b0601040182a27c02010c04")
"""Matter Core 6.2.2.2: 1.3.6.1.4.1.37244.2.1 and the head of a UTF8String of four."""
_PRODUCT: Final = bytes.fromhex("060a2b0601040182a27c02020c04")
_MATTER_ID: Final = re.compile(rb"[0-9A-F]{4}")


@dataclass(frozen=True, slots=True)
class Issuer:
    """The CA that signed the units of an export."""

    certificate: x509.Certificate
    name: bytes
    """Its subject in DER."""
    pem: str
    key_id: bytes | None
    """How a certificate of it names its key (RFC 5280 4.2.1.1), up to the octets; None: it says none."""

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """Look at a certificate."""
        pem = certificate.public_bytes(Encoding.PEM).decode()
        return cls(certificate, certificate.subject.public_bytes(), pem, _key_id(certificate))

    @property
    def base64_der(self) -> str:
        """Its certificate as ``x5c`` of a JWK has it."""
        return base64.b64encode(self.certificate.public_bytes(Encoding.DER)).decode()

    def certified(self, unit: PassedUnit) -> tuple[bytes, int]:
        """Return a unit's certificate (DER), and where in it the issuer's name ends.

        Raises:
            ExportError: it has none, or another CA signed it.
        """
        der = unit.certificate
        if der is None:
            raise ExportError(
                f"unit {unit.product_serial or unit.hardware_id} has no certificate; export units that passed",
                code="export.unit_unfit",
            )
        at = der.find(self.name)
        if at < 0:
            raise ExportError(
                f"the certificate of unit {unit.product_serial} is not of {self.certificate.subject.rfc4514_string()}; "
                "name its CA with --issuer, or choose the units with --order",
                code="export.other_issuer",
            )
        end = at + len(self.name)
        names_a_key = der.find(_AUTHORITY, end)
        if self.key_id is not None and names_a_key >= 0 and der.find(self.key_id, names_a_key) < 0:
            raise ExportError(
                f"the certificate of unit {unit.product_serial} is of a CA of that name with another key, before or "
                "after a renewal; name that CA's certificate with --issuer, or choose the units with --order",
                code="export.other_issuer",
            )
        return der, end


def _key_id(certificate: x509.Certificate) -> bytes | None:
    try:
        digest = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return None
    return bytes((_KEY_ID, len(digest))) + digest


def common_name(der: bytes, start: int) -> str | None:
    """Return the first CN of a certificate's subject, or None.

    Args:
        der: the certificate.
        start: where the issuer's name ends.
    """
    at = der.find(_COMMON_NAME, start)
    if at >= 0:
        tag, length = der[at + 5], der[at + 6]
        if tag in _TEXTS and length < _SHORT:
            return der[at + 7 : at + 7 + length].decode()
    found = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else None


def matter_ids(der: bytes, start: int) -> tuple[str, str] | None:
    """Return vendor and product id of a DAC's subject, four hex digits each; None if it is no DAC."""
    found = []
    for head in (_VENDOR, _PRODUCT):
        at = der.find(head, start)
        value = der[at + len(head) : at + len(head) + 4]
        if at < 0 or not _MATTER_ID.fullmatch(value):
            return None
        found.append(value.decode())
    return found[0], found[1]


def p256_point(der: bytes, start: int) -> tuple[bytes, bytes] | None:
    """Return the coordinates of a certificate's key; None if it is not on P-256."""
    at = der.find(_P256_KEY, start)
    if at >= 0:
        x = at + len(_P256_KEY)
        return der[x : x + _COORDINATE], der[x + _COORDINATE : x + 2 * _COORDINATE]
    key = x509.load_der_x509_certificate(der).public_key()
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        numbers = key.public_numbers()
        return numbers.x.to_bytes(_COORDINATE), numbers.y.to_bytes(_COORDINATE)
    return None


def pem(der: bytes) -> str:
    """Return a certificate as PEM (RFC 7468)."""
    return ssl.DER_cert_to_PEM_cert(der)
