"""What a token is asked for: one signature, by the key that belongs to a public key.

A request names the *public* key. Handles die with their session, so nobody but the signer's thread holds one; it finds
the private key again after each login.

A signature can often be had in more than one way: ``CKM_SHA256_RSA_PKCS`` over the message, or ``CKM_RSA_PKCS`` over
the hash with its DigestInfo. A request lists the ways, best first, and the token's own list of mechanisms chooses. The
mechanism is always named: the default of python-pkcs11 for ECDSA is one that SoftHSM does not have, and ``CKM_ECDSA``
cuts longer input off without a word.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric import utils as asymmetric
from pkcs11.constants import Attribute
from pkcs11.mechanisms import MGF, Mechanism

from hsm.algorithms import SCHEMES, PublicKey, family_of, pss_padding
from hsm.key_rules import RULES

Hash: TypeAlias = "hashes.HashAlgorithm | asymmetric.Prehashed | asymmetric.NoDigestInfo"
"""What pyca hands to ``sign``."""

_HASHING_RSA: Final = {
    "sha256": Mechanism.SHA256_RSA_PKCS,
    "sha384": Mechanism.SHA384_RSA_PKCS,
    "sha512": Mechanism.SHA512_RSA_PKCS,
}
_PSS: Final = {
    "sha256": (Mechanism.SHA256, MGF.SHA256),
    "sha384": (Mechanism.SHA384, MGF.SHA384),
    "sha512": (Mechanism.SHA512, MGF.SHA512),
}
_DIGEST_INFO: Final = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
"""What goes before the hash in PKCS #1 v1.5 (RFC 8017 9.2, note 1)."""


class Purpose(Enum):
    """Why a token is asked; the audit counts the two apart."""

    SIGNATURE = "signature"
    """Something leaves with it: a certificate, a CRL, an answer."""
    PROBE = "probe"
    """To see whether the key signs; the message is ours, no DER, and is thrown away."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyName:
    """A key pair, named by its public half."""

    public: PublicKey
    spki_sha256: bytes
    """SHA-256 of SubjectPublicKeyInfo."""
    rules: Mapping[Attribute, bool] = field(default_factory=lambda: RULES)
    """What the private half must be, whenever it is found."""

    @classmethod
    def of(cls, public: PublicKey, rules: Mapping[Attribute, bool] = RULES) -> "KeyName":
        """Name the key pair of a public key."""
        spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return cls(public, hashlib.sha256(spki).digest(), rules)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to a signature."""

    mechanism: Mechanism
    message: bytes
    """What the token gets."""
    parameter: object = None


@dataclass(frozen=True, slots=True, eq=False)
class SignRequest:
    """One signature to be made."""

    key: KeyName
    ways: tuple[Way, ...]
    """Best first; all end with the same kind of signature."""
    finish: Callable[[bytes], bytes]
    """Makes the signature of X.509 of what the token returns."""
    purpose: Purpose = Purpose.SIGNATURE
    gate: Callable[[], None] | None = None
    """Asked on the token's thread before each try, and before it is counted; what it raises ends the matter."""


def message_request(
    key: KeyName, message: bytes, purpose: Purpose = Purpose.SIGNATURE, *, pss: bool = False
) -> SignRequest:
    """Ask for a signature over a message with the scheme of the key's family (``hsm.algorithms``); RSA also by PSS."""
    family = family_of(key.public)
    digest = None if family is None else SCHEMES[family].hash
    if digest is None:
        return SignRequest(key, (Way(Mechanism.EDDSA, message),), _same, purpose)
    if isinstance(key.public, rsa.RSAPublicKey):
        pad = pss_padding(digest) if pss else padding.PKCS1v15()
        return SignRequest(key, rsa_ways(key.public, message, pad, digest), _same, purpose)
    return ec_request(key, hashlib.new(digest.name, message).digest(), purpose)


def ec_request(key: KeyName, digest: bytes, purpose: Purpose = Purpose.SIGNATURE) -> SignRequest:
    """Ask for an ECDSA signature over a hash."""
    return SignRequest(key, (Way(Mechanism.ECDSA, digest),), sequence_of, purpose)


def rsa_request(key: KeyName, data: bytes, pad: padding.AsymmetricPadding, algorithm: Hash) -> SignRequest:
    """Ask for an RSA signature as pyca describes it.

    Raises:
        UnsupportedAlgorithm: neither PKCS #1 v1.5 nor PSS, or a hash that a CA does not use.
    """
    assert isinstance(key.public, rsa.RSAPublicKey)  # noqa: S101 - for mypy: RsaTokenKey says so
    return SignRequest(key, rsa_ways(key.public, data, pad, algorithm), _same)


def rsa_ways(public: rsa.RSAPublicKey, data: bytes, pad: padding.AsymmetricPadding, algorithm: Hash) -> tuple[Way, ...]:
    """Return the ways to an RSA signature; PSS has MGF1 over the same hash."""
    digest, name = digest_of(data, algorithm)
    if isinstance(pad, padding.PKCS1v15):
        raw = Way(Mechanism.RSA_PKCS, _DIGEST_INFO[name] + digest)
        return (raw,) if isinstance(algorithm, asymmetric.Prehashed) else (Way(_HASHING_RSA[name], data), raw)
    if isinstance(pad, padding.PSS):
        inner, mask = _PSS[name]
        return (Way(Mechanism.RSA_PKCS_PSS, digest, (inner, mask, _salt_length(public, pad, len(digest)))),)
    raise UnsupportedAlgorithm("PKCS #1 v1.5 and PSS are the schemes of an RSA key")


def _salt_length(public: rsa.RSAPublicKey, pad: padding.PSS, digest_size: int) -> int:
    salt: object = pad._salt_length  # noqa: SLF001 - pyca has no public accessor
    if salt is padding.PSS.MAX_LENGTH:
        return (public.key_size + 6) // 8 - digest_size - 2
    return salt if isinstance(salt, int) else digest_size


def digest_of(data: bytes, algorithm: Hash) -> tuple[bytes, str]:
    """Return the hash of ``data`` and its name; ``Prehashed`` says that ``data`` is the hash.

    Raises:
        UnsupportedAlgorithm: a CA does not sign with this hash.
        ValueError: a hash of the wrong length was handed over.
    """
    if isinstance(algorithm, asymmetric.Prehashed):
        name = algorithm._algorithm.name  # noqa: SLF001 - pyca has no public accessor
        if len(data) != algorithm.digest_size:
            raise ValueError("the hash that was handed over has the wrong length")
    elif isinstance(algorithm, hashes.HashAlgorithm):
        name = algorithm.name
    else:
        raise UnsupportedAlgorithm("a CA signs a hash with its name")
    if name not in _DIGEST_INFO:
        raise UnsupportedAlgorithm(f"{name} is not a hash that a CA signs with")
    return (data if isinstance(algorithm, asymmetric.Prehashed) else hashlib.new(name, data).digest()), name


def sequence_of(raw: bytes) -> bytes:
    """Turn r and s of fixed width (PKCS#11) into the SEQUENCE of X.509 (RFC 3279 2.2.3)."""
    half = len(raw) // 2
    return asymmetric.encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))


def _same(raw: bytes) -> bytes:
    return raw
