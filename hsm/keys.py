"""Private keys in a token, as the key classes of pyca/cryptography.

Certificate, CSR, CRL and OCSP builders take them like any other key: ``builder.sign(key, hashes.SHA256())``. That
blocks the thread for as long as the token needs; ``sign_message`` is the way for a coroutine.

The token sees hashes for ECDSA and whole messages for RSA and Ed25519. The mechanism is always named: the default of
python-pkcs11 for ECDSA is one that SoftHSM does not have, and ``CKM_ECDSA`` cuts longer input off without a word.
"""

import hashlib
from collections.abc import Callable
from typing import Final, NoReturn, Self, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric import utils as asymmetric
from pkcs11.mechanisms import MGF, Mechanism

from hsm.algorithms import SCHEMES, KeyFamily
from hsm.signer import Signer
from hsm.token import Handle, Session

_Bytes = bytes | bytearray | memoryview
_Hash: TypeAlias = "hashes.HashAlgorithm | asymmetric.Prehashed | asymmetric.NoDigestInfo"

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
_STAYS: Final = "the private key stays in the token"


class TokenKey:
    """What the key classes share; a key is made by ``hsm.key_store`` only."""

    label: str
    """``CKA_LABEL``."""
    key_id: bytes
    """``CKA_ID``."""
    family: KeyFamily

    def __init__(self, signer: Signer, handle: Handle, *, label: str, key_id: bytes) -> None:
        """Keep the handle; it lives as long as the signer's session."""
        self.signer = signer
        self._handle = handle
        self.label = label
        self.key_id = key_id

    async def sign_message(self, data: bytes) -> bytes:
        """Sign with the one scheme of the key's family (``hsm.algorithms``).

        Args:
            data: the whole message.

        Returns:
            The signature as it stands in a certificate.

        Raises:
            TokenError: the token refused.
            SignerError: the signer is closed.
        """
        work, finish = self._prepare(data)
        return finish(await self.signer.sign(work))

    def sign_message_blocking(self, data: bytes) -> bytes:
        """Do as ``sign_message``, and block this thread meanwhile."""
        work, finish = self._prepare(data)
        return finish(self.signer.call_blocking(work))

    def _prepare(self, data: bytes) -> tuple[Callable[[Session], bytes], Callable[[bytes], bytes]]:
        """Return what the signer's thread does, and what makes a signature of its result."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """Name the key."""
        return f"<{type(self).__name__} {self.label!r}>"

    def __copy__(self) -> Self:
        """Return the key itself: there is only one, in the token."""
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Return the key itself."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        raise TypeError(_STAYS)

    def private_bytes(self, *_: object, **__: object) -> NoReturn:
        """Refuse."""
        raise TypeError(_STAYS)

    def private_numbers(self) -> NoReturn:
        """Refuse."""
        raise TypeError(_STAYS)


def _same(raw: bytes) -> bytes:
    return raw


class EcTokenKey(TokenKey, ec.EllipticCurvePrivateKey):
    """A key on P-256 or P-384."""

    def __init__(
        self, signer: Signer, handle: Handle, public: ec.EllipticCurvePublicKey, *, label: str, key_id: bytes
    ) -> None:
        super().__init__(signer, handle, label=label, key_id=key_id)
        self._public = public
        self.family = KeyFamily.P256 if isinstance(public.curve, ec.SECP256R1) else KeyFamily.P384

    @property
    def curve(self) -> ec.EllipticCurve:
        """The curve."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """Bits in the curve's order."""
        return self._public.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public key, as read once when the key was found."""
        return self._public

    def exchange(
        self,
        algorithm: ec.ECDH,  # noqa: ARG002 - pyca's names
        peer_public_key: ec.EllipticCurvePublicKey,  # noqa: ARG002
    ) -> NoReturn:
        """Refuse: the key may sign and nothing else."""
        raise UnsupportedAlgorithm("a signing key does no key agreement")

    def sign(self, data: _Bytes, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Sign; blocks (pyca's signature)."""
        if not isinstance(signature_algorithm, ec.ECDSA):
            raise UnsupportedAlgorithm("ECDSA is the only scheme of an EC key")
        digest, _ = _digest(bytes(data), signature_algorithm.algorithm)
        return self._finish(self.signer.call_blocking(self._work(digest)))

    def _prepare(self, data: bytes) -> tuple[Callable[[Session], bytes], Callable[[bytes], bytes]]:
        digest = (hashlib.sha256 if self.family is KeyFamily.P256 else hashlib.sha384)(data).digest()
        return self._work(digest), self._finish

    def _work(self, digest: bytes) -> Callable[[Session], bytes]:
        def sign(_: object) -> bytes:
            signature: bytes = self._handle.sign(digest, mechanism=Mechanism.ECDSA)
            return signature

        return sign

    @staticmethod
    def _finish(raw: bytes) -> bytes:
        """Turn r and s of fixed width (PKCS#11) into the SEQUENCE of X.509 (RFC 3279 2.2.3)."""
        half = len(raw) // 2
        return asymmetric.encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))


class RsaTokenKey(TokenKey, rsa.RSAPrivateKey):
    """An RSA key of 2048 bits or more."""

    family = KeyFamily.RSA

    def __init__(self, signer: Signer, handle: Handle, public: rsa.RSAPublicKey, *, label: str, key_id: bytes) -> None:
        super().__init__(signer, handle, label=label, key_id=key_id)
        self._public = public

    @property
    def key_size(self) -> int:
        """Bits in the modulus."""
        return self._public.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        """Return the public key, as read once when the key was found."""
        return self._public

    def decrypt(self, ciphertext: bytes, padding: padding.AsymmetricPadding) -> NoReturn:  # noqa: ARG002 - pyca's names
        """Refuse: the key may sign and nothing else."""
        raise UnsupportedAlgorithm("a signing key does not decrypt")

    def sign(self, data: _Bytes, padding: padding.AsymmetricPadding, algorithm: _Hash) -> bytes:
        """Sign; blocks (pyca's signature). PKCS #1 v1.5, or PSS with MGF1 over the same hash."""
        return self.signer.call_blocking(self._work(bytes(data), padding, algorithm))

    def _prepare(self, data: bytes) -> tuple[Callable[[Session], bytes], Callable[[bytes], bytes]]:
        digest = SCHEMES[KeyFamily.RSA].hash
        assert digest is not None  # noqa: S101 - for mypy: the table says so
        return self._work(data, padding.PKCS1v15(), digest), _same

    def _work(self, data: bytes, pad: padding.AsymmetricPadding, algorithm: _Hash) -> Callable[[Session], bytes]:
        mechanism, parameter, message = self._mechanism(data, pad, algorithm)

        def sign(_: object) -> bytes:
            signature: bytes = self._handle.sign(message, mechanism=mechanism, mechanism_param=parameter)
            return signature

        return sign

    def _mechanism(
        self, data: bytes, pad: padding.AsymmetricPadding, algorithm: _Hash
    ) -> tuple[Mechanism, object, bytes]:
        digest, name = _digest(data, algorithm)
        if isinstance(pad, padding.PKCS1v15):
            if isinstance(algorithm, asymmetric.Prehashed):
                return Mechanism.RSA_PKCS, None, _DIGEST_INFO[name] + digest
            return _HASHING_RSA[name], None, data
        if isinstance(pad, padding.PSS):
            inner, mask = _PSS[name]
            return Mechanism.RSA_PKCS_PSS, (inner, mask, self._salt_length(pad, len(digest))), digest
        raise UnsupportedAlgorithm("PKCS #1 v1.5 and PSS are the schemes of an RSA key")

    def _salt_length(self, pad: padding.PSS, digest_size: int) -> int:
        salt: object = pad._salt_length  # noqa: SLF001 - pyca has no public accessor
        if salt is padding.PSS.MAX_LENGTH:
            return (self.key_size + 6) // 8 - digest_size - 2
        return salt if isinstance(salt, int) else digest_size


class Ed25519TokenKey(TokenKey, ed25519.Ed25519PrivateKey):
    """An Ed25519 key."""

    family = KeyFamily.ED25519

    def __init__(
        self, signer: Signer, handle: Handle, public: ed25519.Ed25519PublicKey, *, label: str, key_id: bytes
    ) -> None:
        super().__init__(signer, handle, label=label, key_id=key_id)
        self._public = public

    def public_key(self) -> ed25519.Ed25519PublicKey:
        """Return the public key, as read once when the key was found."""
        return self._public

    def private_bytes_raw(self) -> NoReturn:
        """Refuse."""
        raise TypeError(_STAYS)

    def sign(self, data: _Bytes) -> bytes:
        """Sign; blocks (pyca's signature)."""
        return self.sign_message_blocking(bytes(data))

    def _prepare(self, data: bytes) -> tuple[Callable[[Session], bytes], Callable[[bytes], bytes]]:
        def sign(_: object) -> bytes:
            signature: bytes = self._handle.sign(data, mechanism=Mechanism.EDDSA)
            return signature

        return sign, _same


def _digest(data: bytes, algorithm: _Hash) -> tuple[bytes, str]:
    """Return the hash of ``data`` and its name; ``Prehashed`` says that ``data`` is the hash."""
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


AnyTokenKey = EcTokenKey | RsaTokenKey | Ed25519TokenKey
"""Any private key in a token."""
