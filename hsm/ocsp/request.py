"""What an OCSP request is (RFC 6960 4.1), and what of it is taken.

::

    OCSPRequest ::= SEQUENCE {
        tbsRequest         SEQUENCE {
            version            [0] EXPLICIT INTEGER DEFAULT v1,
            requestorName      [1] EXPLICIT GeneralName OPTIONAL,
            requestList        SEQUENCE OF SEQUENCE { reqCert CertID, [0] EXPLICIT Extensions OPTIONAL },
            requestExtensions  [2] EXPLICIT Extensions OPTIONAL },
        optionalSignature  [0] EXPLICIT ... OPTIONAL }

    CertID ::= SEQUENCE {
        AlgorithmIdentifier, issuerNameHash OCTET STRING, issuerKeyHash OCTET STRING, serialNumber INTEGER }

pyca/cryptography reads requests for one certificate only, and does not hand out the CertID's bytes, which an answer
has to repeat: clients compare them. So it is read here, as strict DER. Who asks, and a signature of his, change
nothing: the answers are public.
"""

from dataclasses import dataclass
from typing import Final

from hsm import der
from hsm.errors import OcspError

MAX_REQUEST: Final = 4096
"""Bytes of a request that are read at all; with one certificate it has some 80."""

MAX_CERTIFICATES: Final = 16
"""Certificates in one request."""

NONCE: Final = "1.3.6.1.5.5.7.48.1.2"
"""id-pkix-ocsp-nonce (RFC 9654 2.1)."""

MAX_NONCE: Final = 128
"""Octets of a nonce (RFC 9654 2.1); a longer one, or none at all in the extension, is malformed."""

_INTEGER: Final = 0x02
_BOOLEAN: Final = 0x01
_V1: Final = bytes((_INTEGER, 1, 0))
_TAG_0, _TAG_1, _TAG_2 = 0xA0, 0xA1, 0xA2
_TRUE: Final = b"\xff"
_MAX_SERIAL: Final = 20
_NONCE_OID: Final = der.object_identifier(NONCE)

_HASHES: Final = {
    der.object_identifier("1.3.14.3.2.26"): ("sha1", 20),
    der.object_identifier("2.16.840.1.101.3.4.2.1"): ("sha256", 32),
    der.object_identifier("2.16.840.1.101.3.4.2.2"): ("sha384", 48),
    der.object_identifier("2.16.840.1.101.3.4.2.3"): ("sha512", 64),
}


@dataclass(frozen=True, slots=True)
class CertId:
    """Which certificate is asked about."""

    der: bytes
    """As it stands in the request; the answer repeats it."""
    hash_name: str | None
    """``sha1`` to ``sha512``; None for one that we don't know."""
    name_hash: bytes
    """Of the issuer's name."""
    key_hash: bytes
    """Of the issuer's public key."""
    serial: int


@dataclass(frozen=True, slots=True)
class OcspRequest:
    """A request."""

    certificates: tuple[CertId, ...]
    """One at least."""
    nonce: bytes | None
    """The nonce's octets."""

    @classmethod
    def parse(cls, data: bytes) -> "OcspRequest":
        """Read a request.

        Raises:
            OcspError: ``ocsp.malformed``: it is not one, asks too much, or demands an extension that we don't know.
        """
        if len(data) > MAX_REQUEST:
            raise _malformed(f"{len(data)} bytes are more than {MAX_REQUEST}")
        try:
            return _request(data)
        except der.DerError as error:
            raise _malformed(str(error)) from error


def _malformed(reason: str) -> OcspError:
    return OcspError(f"this is no OCSP request: {reason}", code="ocsp.malformed")


def _request(data: bytes) -> OcspRequest:
    outer = der.read(data, 0, len(data))
    if outer.tag != der.SEQUENCE or outer.end != len(data):
        raise der.DerError("it is not one SEQUENCE")
    found = der.children(data, outer)
    if [part.tag for part in found] not in ([der.SEQUENCE], [der.SEQUENCE, _TAG_0]):
        raise der.DerError("it does not begin with a SEQUENCE")
    parts = der.children(data, found[0])
    if parts and parts[0].tag == _TAG_0:
        if data[parts[0].content : parts[0].end] != _V1:
            raise der.DerError("its version is not v1")
        del parts[0]
    if parts and parts[0].tag == _TAG_1:
        del parts[0]
    if not parts or parts[0].tag != der.SEQUENCE or [part.tag for part in parts[1:]] not in ([], [_TAG_2]):
        raise der.DerError("it has no requestList")
    requests = der.children(data, parts[0])
    if not 1 <= len(requests) <= MAX_CERTIFICATES:
        raise der.DerError(f"it asks for {len(requests)} certificates; 1 to {MAX_CERTIFICATES} are answered")
    nonce = _extensions(data, parts[1]) if len(parts) > 1 else None
    return OcspRequest(tuple(_single(data, request) for request in requests), nonce)


def _single(data: bytes, request: der.Element) -> CertId:
    parts = der.children(data, request) if request.tag == der.SEQUENCE else []
    if [part.tag for part in parts] not in ([der.SEQUENCE], [der.SEQUENCE, _TAG_0]):
        raise der.DerError("a request is not a CertID")
    if len(parts) > 1:
        _extensions(data, parts[1])
    match der.children(data, parts[0]):
        case [algorithm, name, key, serial] if (algorithm.tag, name.tag, key.tag, serial.tag) == (
            der.SEQUENCE,
            der.OCTET_STRING,
            der.OCTET_STRING,
            _INTEGER,
        ):
            pass
        case _:
            raise der.DerError("a CertID has another shape")
    identifier = der.children(data, algorithm)
    parameters = b"".join(data[part.start : part.end] for part in identifier[1:])
    if not identifier or identifier[0].tag != der.OBJECT_IDENTIFIER or parameters not in {b"", der.NULL}:
        raise der.DerError("a CertID names no hash")
    hash_name, size = _HASHES.get(data[identifier[0].start : identifier[0].end], (None, 0))
    name_hash, key_hash = data[name.content : name.end], data[key.content : key.end]
    if hash_name is not None and not len(name_hash) == len(key_hash) == size:
        raise der.DerError("a hash has the wrong length")
    return CertId(
        data[parts[0].start : parts[0].end], hash_name, name_hash, key_hash, _serial(data[serial.content : serial.end])
    )


def _serial(content: bytes) -> int:
    if not content or len(content) > _MAX_SERIAL:
        raise der.DerError("a serial number has 1 to 20 octets")
    if len(content) > 1 and content[0] == 0 and content[1] & 0x80 == 0:
        raise der.DerError("a serial number is not in its shortest form")
    if content[0] & 0x80:
        raise der.DerError("a serial number is not negative")
    return int.from_bytes(content)


def _extensions(data: bytes, tagged: der.Element) -> bytes | None:
    """Return the nonce, if there is one; refuse what is critical and unknown (RFC 6960 4.4)."""
    match der.children(data, tagged):
        case [sequence] if sequence.tag == der.SEQUENCE:
            pass
        case _:
            raise der.DerError("extensions are not a SEQUENCE")
    nonce = None
    for extension in der.children(data, sequence):
        parts = der.children(data, extension) if extension.tag == der.SEQUENCE else []
        tags = [part.tag for part in parts]
        if tags not in (
            [der.OBJECT_IDENTIFIER, der.OCTET_STRING],
            [der.OBJECT_IDENTIFIER, _BOOLEAN, der.OCTET_STRING],
        ):
            raise der.DerError("an extension has another shape")
        critical = len(parts) > 2 and data[parts[1].content : parts[1].end] == _TRUE  # noqa: PLR2004 - the BOOLEAN is there
        if data[parts[0].start : parts[0].end] == _NONCE_OID:
            if nonce is not None:
                raise der.DerError("it has two nonces")
            nonce = _nonce(data, parts[-1])
        elif critical:
            raise der.DerError("it demands an extension that is not known here")
    return nonce


def _nonce(data: bytes, value: der.Element) -> bytes:
    inner = der.children(data, value)
    if [part.tag for part in inner] != [der.OCTET_STRING]:
        raise der.DerError("its nonce is not an OCTET STRING")
    nonce = data[inner[0].content : inner[0].end]
    if not 1 <= len(nonce) <= MAX_NONCE:
        raise der.DerError(f"its nonce has {len(nonce)} octets; 1 to {MAX_NONCE} are answered")
    return nonce
