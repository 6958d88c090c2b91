"""What a certificate signing request (PKCS #10, RFC 2986) must be before anybody looks at what it says.

A ``Csr`` exists only with a checked signature: whoever sent it holds the private key. What it asks for, subject and
extensions, is a wish that the profile need not grant.

Devices with Mbed TLS before 3.5 write ``ecdsa-with-SHA256`` with NULL parameters, which RFC 5758 3.2 forbids and
pyca/cryptography refuses. The AlgorithmIdentifier stands outside of what is signed, so the NULL is taken away, and the
signature over the request's own bytes is checked all the same.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from hsm import der as tlv
from hsm.algorithms import KeyFamily, PublicKey, family_of, verify
from hsm.columns import each
from hsm.errors import CsrError, HsmError
from hsm.weak_keys import weakness

W = TypeVar("W", bound=x509.ExtensionType)

MAX_CSR: Final = 4096
"""Bytes in a request; RSA-4096 with a long subject needs half of it."""

_PEM: Final = re.compile(
    rb"\s*-----BEGIN (NEW )?CERTIFICATE REQUEST-----([0-9A-Za-z+/=\s]+)-----END (NEW )?CERTIFICATE REQUEST-----\s*"
)
_P256_UNCOMPRESSED: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
"""How a SubjectPublicKeyInfo of P-256 begins if its point is not compressed (RFC 5480 2); the point is the rest."""
_P256_SIZE: Final = 91
_UNREADABLE: Final = (ValueError, KeyError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What pyca/cryptography raises at wishes it can't read: a KeyError at a string type that it does not know, a TypeError
at a BIT STRING in a name, the last at x400Address and ediPartyName."""
_NO_ATTRIBUTES: Final = bytes.fromhex("a000")
_EC_FAMILIES: Final = frozenset({KeyFamily.P256, KeyFamily.P384})
_RSA: Final = frozenset({KeyFamily.RSA})
_NULL_PARAMETERS: Final[Mapping[bytes, bytes]] = MappingProxyType(
    {
        tlv.encode(tlv.SEQUENCE, oid + tlv.NULL): tlv.encode(tlv.SEQUENCE, oid)
        for oid in (tlv.object_identifier(f"1.2.840.10045.4.3.{n}") for n in (2, 3, 4))
    }
)
"""ecdsa-with-SHA256, -SHA384 and -SHA512 with NULL parameters, and as they should be."""

_SIGNATURES: Final[Mapping[str, tuple[frozenset[KeyFamily], hashes.HashAlgorithm | None]]] = MappingProxyType(
    {
        "1.2.840.10045.4.3.2": (_EC_FAMILIES, hashes.SHA256()),
        "1.2.840.10045.4.3.3": (_EC_FAMILIES, hashes.SHA384()),
        "1.2.840.10045.4.3.4": (_EC_FAMILIES, hashes.SHA512()),
        "1.2.840.113549.1.1.11": (_RSA, hashes.SHA256()),
        "1.2.840.113549.1.1.12": (_RSA, hashes.SHA384()),
        "1.2.840.113549.1.1.13": (_RSA, hashes.SHA512()),
        "1.3.101.112": (frozenset({KeyFamily.ED25519}), None),
    }
)
"""Signature algorithms that are accepted: whose key makes them, and over which hash."""


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """Which keys a device may have."""

    families: frozenset[KeyFamily] = field(default_factory=lambda: frozenset(KeyFamily))
    rsa_min_bits: int = 2048
    rsa_max_bits: int = 4096
    """A larger key makes each check slower, and no device needs it."""
    rsa_min_exponent: int = 65537
    """NIST SP 800-56B 6.2: odd, above 2^16, below 2^256."""
    rsa_max_exponent: int = 2**256 - 1

    def check(self, key: PublicKeyTypes) -> PublicKey:
        """Return the key if it may be used.

        Raises:
            CsrError: ``csr.key_type`` or ``csr.key_weak``.
        """
        family = family_of(key)
        if family is None or family not in self.families:
            wanted = ", ".join(sorted(member.value for member in self.families))
            raise CsrError(
                f"the key is {_name(key)}; allowed are {wanted}",
                code="csr.key_type",
                operator="The board has a key of the wrong kind. Put the board into the red bin.",
            )
        if isinstance(key, rsa.RSAPublicKey):
            self._check_rsa(key)
        return key  # type: ignore[return-value]  # family_of knows no others

    def _check_rsa(self, key: rsa.RSAPublicKey) -> None:
        if key.key_size > self.rsa_max_bits:
            raise CsrError(f"the key is {_name(key)}; at most {self.rsa_max_bits} bits", code="csr.key_type")
        numbers = key.public_numbers()
        if key.key_size < self.rsa_min_bits:
            fault: str | None = f"the key is {_name(key)}; at least {self.rsa_min_bits} bits"
        elif not self.rsa_min_exponent <= numbers.e <= self.rsa_max_exponent or numbers.e % 2 == 0:
            fault = f"the public exponent {numbers.e} is not odd, 65537 or more, and below 2^256"
        else:
            fault = weakness(numbers.n)
        if fault is not None:
            raise CsrError(
                fault,
                code="csr.key_weak",
                operator="The board made a weak key. Put the board into the red bin.",
            )


DEFAULT_POLICY: Final = KeyPolicy()


@dataclass(frozen=True, slots=True)
class Csr:
    """A request whose signature is checked and whose key may be used."""

    der: bytes
    """As it was sent (or as the PEM held it)."""
    public_key: PublicKey
    spki: bytes
    """SubjectPublicKeyInfo in its one DER form: an EC point uncompressed, whatever the request held."""
    spki_sha256: bytes
    """What makes a key recognisable; 32 bytes."""
    normalised: bool
    """NULL parameters were taken out of the outer AlgorithmIdentifier."""
    _request: x509.CertificateSigningRequest = field(repr=False, compare=False)
    _wishes: bool = field(default=True, repr=False, compare=False)
    """Whether it asks for extensions, as far as can be told without reading them."""

    @property
    def subject(self) -> x509.Name:
        """What the request asks for; read when somebody looks, because nothing depends on it.

        Raises:
            CsrError: it can't be read.
        """
        try:
            return self._request.subject
        except _UNREADABLE as error:
            raise CsrError("the subject of the request can't be read", cause=error) from error

    @property
    def names(self) -> tuple[x509.GeneralName, ...]:
        """The alternative names that the request asks for.

        Raises:
            CsrError: they can't be read.
        """
        found = self._wish(x509.SubjectAlternativeName)
        return () if found is None else tuple(found)

    @property
    def asks_for_ca(self) -> bool:
        """Whether the request asks for a CA's certificate.

        Raises:
            CsrError: what it asks for can't be read.
        """
        found = self._wish(x509.BasicConstraints)
        return found is not None and found.ca

    def _wish(self, kind: type[W]) -> W | None:
        if not self._wishes:
            return None
        try:
            return self._request.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            return None
        except _UNREADABLE as error:
            raise CsrError("the extensions that the request asks for can't be read", reason=error) from error

    @classmethod
    def parse(cls, der_or_pem: bytes, *, policy: KeyPolicy = DEFAULT_POLICY) -> "Csr":
        """Parse and check a request.

        Args:
            der_or_pem: at most ``MAX_CSR`` bytes of DER, or that in PEM.
            policy: which keys are allowed.

        Raises:
            CsrError: ``csr.malformed``, ``csr.too_large``, ``csr.signature_algorithm``, ``csr.signature_invalid``,
                ``csr.key_type`` or ``csr.key_weak``.
        """
        return cls._read(der_or_pem, policy).proven()

    @classmethod
    def parse_all(
        cls, requests: Iterable[bytes | HsmError], *, policy: KeyPolicy = DEFAULT_POLICY
    ) -> list["Csr | HsmError"]:
        """Do as ``parse``, for several (``hsm.columns``): each for itself."""
        return each(_Claim.proven, each(lambda one: cls._read(one, policy), requests))

    @classmethod
    def _read(cls, der_or_pem: bytes, policy: KeyPolicy) -> "_Claim":
        """Read a request and check all of it but its signature."""
        der = _from_pem(der_or_pem) if der_or_pem.lstrip()[:1] == b"-" else der_or_pem
        if len(der) > MAX_CSR:
            raise CsrError(f"the request has {len(der)} bytes; at most {MAX_CSR}", code="csr.too_large")
        try:
            parts = tlv.split_signed(der)
        except tlv.DerError as error:
            raise CsrError(f"the request is not DER of a PKCS #10 request: {error}") from error
        plain = _NULL_PARAMETERS.get(parts.algorithm)
        request, key = _load(der if plain is None else tlv.join_signed(parts.tbs, plain, parts.signature))
        checked = policy.check(key)
        digest = _digest(request, checked)
        if request.tbs_certrequest_bytes != parts.tbs:
            raise CsrError("the request is read in two ways")
        fields = tlv.parts(parts.tbs)
        spki = _spki(checked, fields[2])
        csr = cls(
            der=der,
            public_key=checked,
            spki=spki,
            spki_sha256=hashlib.sha256(spki).digest(),
            normalised=plain is not None,
            _request=request,
            _wishes=fields[3:] not in ([], [_NO_ATTRIBUTES]),
        )
        return _Claim(csr, request.signature, parts.tbs, digest)


class _Claim(NamedTuple):
    """A request that says to be of whoever holds its key; it leaves this module proven only."""

    csr: Csr
    signature: bytes
    tbs: bytes
    digest: hashes.HashAlgorithm | None

    def proven(self) -> Csr:
        """Return the request if its signature is that of its own key."""
        try:
            verify(self.csr.public_key, self.signature, self.tbs, self.digest)
        except InvalidSignature:
            raise CsrError(
                "the signature of the request is not that of its own key",
                code="csr.signature_invalid",
                operator="The board could not prove that it holds its key. Put the board into the red bin.",
            ) from None
        return self.csr


def _spki(key: PublicKey, sent: bytes) -> bytes:
    """Return a key's SubjectPublicKeyInfo in its one DER form: the request's own bytes where they are in it."""
    if len(sent) == _P256_SIZE and sent.startswith(_P256_UNCOMPRESSED):
        return sent
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _from_pem(text: bytes) -> bytes:
    found = _PEM.fullmatch(text) if len(text) <= 2 * MAX_CSR else None
    if found is None or found[1] != found[3]:
        raise CsrError("the request is not one PEM block of a CERTIFICATE REQUEST")
    try:
        return base64.b64decode(b"".join(found[2].split()), validate=True)
    except binascii.Error as error:
        raise CsrError("the PEM block is not base64") from error


def _load(der: bytes) -> tuple[x509.CertificateSigningRequest, PublicKeyTypes]:
    try:
        request = x509.load_der_x509_csr(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise CsrError("the request is not a PKCS #10 request", cause=error) from error
    try:
        return request, request.public_key()
    except UnsupportedAlgorithm as error:
        raise CsrError("the request holds a key of a kind that nobody knows", code="csr.key_type") from error
    except ValueError as error:
        raise CsrError(
            "the public key is not one: a point that is not on its curve, or a broken RSA key",
            code="csr.key_invalid",
            cause=error,
        ) from error


def _digest(request: x509.CertificateSigningRequest, key: PublicKey) -> hashes.HashAlgorithm | None:
    """Return the hash that the request's signature is over; None where the scheme hashes by itself."""
    oid = request.signature_algorithm_oid.dotted_string
    families, digest = _SIGNATURES.get(oid, (frozenset(), None))
    if family_of(key) not in families:
        raise CsrError(f"the signature algorithm {oid} is not accepted with this key", code="csr.signature_algorithm")
    return digest


def _name(key: PublicKeyTypes) -> str:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC on {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA-{key.key_size}"
    return type(key).__name__.strip("_").removesuffix("PublicKey")
