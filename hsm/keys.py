"""Private keys in a token, as the key classes of pyca/cryptography.

Certificate, CSR, CRL and OCSP builders take them like any other key: ``builder.sign(key, hashes.SHA256())``. That
blocks the thread for as long as the token needs; ``sign_message`` is the way for a coroutine.

A key holds no handle of the token: handles die when a token is reloaded. It names its public half, and the signer finds
the private one (``hsm.request``).
"""

from collections.abc import Callable, Sequence
from typing import Final, NoReturn, Protocol, Self, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from hsm.algorithms import KeyFamily
from hsm.errors import HsmError
from hsm.health import State
from hsm.key_rules import KeyFacts
from hsm.request import Hash, KeyName, Purpose, SignRequest, digest_of, ec_request, message_request, rsa_request
from hsm.signer import Again, AgainAt
from hsm.token import Session, TokenFacts

T = TypeVar("T")

_Bytes = bytes | bytearray | memoryview
_STAYS: Final = "the private key stays in the token"


class Signing(Protocol):
    """What makes signatures: a ``Signer``, or several behind one face (``hsm.failover``)."""

    @property
    def name(self) -> str:
        """The label of the token, or of the tokens."""

    @property
    def token(self) -> TokenFacts:
        """The token, or the first of the tokens, as it described itself right before the last login."""

    @property
    def state(self) -> State:
        """How it is."""

    @property
    def unavailable(self) -> HsmError | None:
        """What a caller would be told now; None while it is awake."""

    async def sign(self, request: SignRequest, *, again: Again | None = None) -> bytes:
        """Make one signature; ``again`` is awaited before a token is asked once more."""

    async def sign_all(
        self, requests: Sequence[SignRequest], *, again: AgainAt | None = None
    ) -> list[bytes | HsmError]:
        """Make signatures by one key in one go; where one can't be had, it and all after it are the error."""

    def sign_blocking(self, request: SignRequest, *, again: Callable[[], object] | None = None) -> bytes:
        """Do as ``sign``, and block this thread meanwhile."""

    async def awake(self) -> None:
        """Return when it works; wait for the next try to reload, and raise what that came to."""

    async def find(self, key: KeyName) -> KeyFacts:
        """Find a private key by its public half, and hold it to its rules."""

    def find_blocking(self, key: KeyName) -> KeyFacts:
        """Do as ``find``, and block this thread meanwhile."""

    async def call(self, work: Callable[[Session], T]) -> T:
        """Run ``work(session)`` on the thread of a token."""

    def call_blocking(self, work: Callable[[Session], T]) -> T:
        """Do as ``call``, and block this thread meanwhile."""


class TokenKey:
    """What the key classes share; a key is made by ``hsm.key_store`` only."""

    label: str
    """``CKA_LABEL``."""
    key_id: bytes
    """``CKA_ID``."""
    family: KeyFamily

    def __init__(self, signer: Signing, name: KeyName, *, label: str, key_id: bytes) -> None:
        """Keep the name."""
        self.signer = signer
        self.name = name
        self.label = label
        self.key_id = key_id

    async def sign_message(
        self, data: bytes, *, again: Again | None = None, purpose: Purpose = Purpose.SIGNATURE, pss: bool = False
    ) -> bytes:
        """Sign with the scheme of the key's family (``hsm.algorithms``).

        Args:
            data: the whole message.
            again: awaited before the token is asked a second time, after a failure that left no signature.
            purpose: what it is for; the audit counts probes apart.
            pss: an RSA key signs with PSS.

        Returns:
            The signature as it stands in a certificate.

        Raises:
            TokenError: the token refused, or is asleep.
            SignerError: the signer is closed.
        """
        return await self.signer.sign(message_request(self.name, data, purpose, pss=pss), again=again)

    def sign_message_blocking(
        self,
        data: bytes,
        *,
        again: Callable[[], object] | None = None,
        purpose: Purpose = Purpose.SIGNATURE,
        pss: bool = False,
    ) -> bytes:
        """Do as ``sign_message``, and block this thread meanwhile."""
        return self.signer.sign_blocking(message_request(self.name, data, purpose, pss=pss), again=again)

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


class EcTokenKey(TokenKey, ec.EllipticCurvePrivateKey):
    """A key on P-256 or P-384."""

    def __init__(
        self, signer: Signing, name: KeyName, public: ec.EllipticCurvePublicKey, *, label: str, key_id: bytes
    ) -> None:
        super().__init__(signer, name, label=label, key_id=key_id)
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
        digest, _ = digest_of(bytes(data), signature_algorithm.algorithm)
        return self.signer.sign_blocking(ec_request(self.name, digest))


class RsaTokenKey(TokenKey, rsa.RSAPrivateKey):
    """An RSA key of 2048 bits or more."""

    family = KeyFamily.RSA

    def __init__(self, signer: Signing, name: KeyName, public: rsa.RSAPublicKey, *, label: str, key_id: bytes) -> None:
        super().__init__(signer, name, label=label, key_id=key_id)
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

    def sign(self, data: _Bytes, padding: padding.AsymmetricPadding, algorithm: Hash) -> bytes:
        """Sign; blocks (pyca's signature). PKCS #1 v1.5, or PSS with MGF1 over the same hash."""
        return self.signer.sign_blocking(rsa_request(self.name, bytes(data), padding, algorithm))


class Ed25519TokenKey(TokenKey, ed25519.Ed25519PrivateKey):
    """An Ed25519 key."""

    family = KeyFamily.ED25519

    def __init__(
        self, signer: Signing, name: KeyName, public: ed25519.Ed25519PublicKey, *, label: str, key_id: bytes
    ) -> None:
        super().__init__(signer, name, label=label, key_id=key_id)
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


AnyTokenKey = EcTokenKey | RsaTokenKey | Ed25519TokenKey
"""Any private key in a token."""


def key_of(signer: Signing, name: KeyName, *, label: str, key_id: bytes) -> AnyTokenKey:
    """Make the key of a public key."""
    public = name.public
    if isinstance(public, ec.EllipticCurvePublicKey):
        return EcTokenKey(signer, name, public, label=label, key_id=key_id)
    if isinstance(public, rsa.RSAPublicKey):
        return RsaTokenKey(signer, name, public, label=label, key_id=key_id)
    return Ed25519TokenKey(signer, name, public, label=label, key_id=key_id)
