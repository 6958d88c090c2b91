"""Which keys and signatures we know, and how they are written in a certificate.

One hash belongs to one kind of key: a key that signs under several is a key about which less can be said.

=========  ==============================  =======================================
family     signature                       AlgorithmIdentifier
=========  ==============================  =======================================
p256       ECDSA with SHA-256              RFC 5758 3.2, parameters absent
p384       ECDSA with SHA-384              RFC 5758 3.2, parameters absent
rsa        RSASSA-PKCS1-v1_5, SHA-256      RFC 4055 5, parameters NULL
ed25519    Ed25519                         RFC 8410 3, parameters absent
=========  ==============================  =======================================

An RSA issuer may sign with RSASSA-PSS instead (``RSA_PSS``: SHA-256, MGF1 with SHA-256, 32 octets of salt; RFC 4055 3),
where a profile or its own certificate says so.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import PublicKeyAlgorithmOID, SignatureAlgorithmOID

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
"""The public keys that a CA or a device may have."""


class KeyFamily(Enum):
    """Kinds of key that differ in how they sign."""

    P256 = "p256"
    P384 = "p384"
    RSA = "rsa"
    ED25519 = "ed25519"


class KeyKind(Enum):
    """Keys that can be generated."""

    P256 = "p256"
    P384 = "p384"
    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    ED25519 = "ed25519"

    @property
    def family(self) -> KeyFamily:
        """How such a key signs."""
        return KeyFamily(self.value.rstrip("0123456789")) if self.value.startswith("rsa") else KeyFamily(self.value)

    @property
    def rsa_bits(self) -> int | None:
        """Bits in the modulus, or None if this is not RSA."""
        return int(self.value.removeprefix("rsa")) if self.family is KeyFamily.RSA else None


@dataclass(frozen=True, slots=True)
class SignatureScheme:
    """How keys of one family sign."""

    hash: hashes.SHA256 | hashes.SHA384 | None
    """None for a scheme that hashes by itself."""
    identifier: bytes
    """The AlgorithmIdentifier in DER."""
    pss: bool = False
    """RSASSA-PSS with the hash for everything, and a salt as long as the hash."""


SCHEMES: Final[Mapping[KeyFamily, SignatureScheme]] = MappingProxyType(
    {
        KeyFamily.P256: SignatureScheme(hashes.SHA256(), bytes.fromhex("300a06082a8648ce3d040302")),
        KeyFamily.P384: SignatureScheme(hashes.SHA384(), bytes.fromhex("300a06082a8648ce3d040303")),
        KeyFamily.RSA: SignatureScheme(hashes.SHA256(), bytes.fromhex("300d06092a864886f70d01010b0500")),
        KeyFamily.ED25519: SignatureScheme(None, bytes.fromhex("300506032b6570")),
    }
)

RSA_PSS: Final = SignatureScheme(
    hashes.SHA256(),
    bytes.fromhex(
        "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108"
        "300d06096086480165030402010500a203020120"
    ),
    pss=True,
)


def pss_padding(digest: hashes.HashAlgorithm) -> padding.PSS:
    """Return the one PSS that we use with a hash."""
    return padding.PSS(padding.MGF1(digest), digest.digest_size)


def scheme_of(certificate: x509.Certificate, *, pss: bool = False) -> SignatureScheme:
    """Return how the key of a certificate signs what is no certificate: CRLs and OCSP answers.

    An RSA key does so with PSS where that is wanted, and where its certificate says so: its key is for PSS only (RFC
    4055 1.2), or it was signed with PSS itself, so whoever accepts it knows PSS.

    Args:
        certificate: of a key that ``family_of`` knows.
        pss: a profile wants it.
    """
    family = family_of(certificate.public_key())
    if family is None:
        raise ValueError("the certificate's key is of no kind that signs here")
    if family is not KeyFamily.RSA:
        return SCHEMES[family]
    said = certificate.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS
    return RSA_PSS if pss or said or is_pss_key(certificate) else SCHEMES[family]


def is_pss_key(certificate: x509.Certificate) -> bool:
    """Whether the key of a certificate may sign with RSASSA-PSS only (``id-RSASSA-PSS``, RFC 4055 1.2)."""
    return certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS


_CURVES: Final = {ec.SECP256R1.name: KeyFamily.P256, ec.SECP384R1.name: KeyFamily.P384}


def family_of(key: PublicKeyTypes) -> KeyFamily | None:
    """Return the family of a public key, or None for a key we don't know, like one on P-224."""
    kind = _kind_of(type(key))
    return _CURVES.get(key.curve.name) if kind is ec.EllipticCurvePublicKey else _FAMILIES.get(kind)  # type: ignore[union-attr]


_FAMILIES: Final[Mapping[object, KeyFamily]] = MappingProxyType(
    {rsa.RSAPublicKey: KeyFamily.RSA, ed25519.Ed25519PublicKey: KeyFamily.ED25519}
)


@functools.cache
def _kind_of(kind: type) -> type | None:
    """Return which of pyca's abstract classes a class is; to ask them costs more than all else here, so ask once."""
    known = (ec.EllipticCurvePublicKey, rsa.RSAPublicKey, ed25519.Ed25519PublicKey)
    return next((one for one in known if issubclass(kind, one)), None)


@functools.cache
def _ecdsa(name: str) -> ec.ECDSA:
    """Return ECDSA with a hash; to make one costs as much as hashing."""
    return ec.ECDSA(next(one for one in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()) if one.name == name))


def verify(
    key: PublicKey, signature: bytes, data: bytes, digest: hashes.HashAlgorithm | None, *, pss: bool = False
) -> None:
    """Check a signature; RSA means PKCS #1 v1.5, or with ``pss`` RSASSA-PSS.

    Raises:
        cryptography.exceptions.InvalidSignature: it is not the key's signature over ``data``.
    """
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, data)
        return
    if digest is None:
        raise ValueError("RSA and ECDSA need a hash")
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, data, pss_padding(digest) if pss else padding.PKCS1v15(), digest)
    else:
        key.verify(signature, data, _ecdsa(digest.name))
