"""A key that leaves the place of the signature blank.

pyca/cryptography has no way to get a TBSCertificate without a signature. Signing with a throwaway key gives one, and
costs a key and a signature each time, which is dear for RSA. The builders take any object of their key classes, and put
into the certificate what its ``sign`` returns; these return zeros, as many as the longest real signature has. Such a
certificate is as large as the real one can get, can be linted, and is worth nothing to anybody.
"""

from typing import Any, Final, NoReturn, Self

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from hsm.algorithms import KeyFamily, PublicKey, family_of

_SIZES: Final = {KeyFamily.P256: 72, KeyFamily.P384: 104, KeyFamily.ED25519: 64}
"""Octets of the longest signature (ECDSA: SEQUENCE of two INTEGERs that both need a leading zero)."""


def signature_size(public: PublicKey) -> int:
    """Return the octets of the longest signature of a key."""
    if isinstance(public, rsa.RSAPublicKey):
        return (public.key_size + 7) // 8
    return next(size for family, size in _SIZES.items() if family is family_of(public))


class _Blank:
    """What the blank keys share."""

    def __init__(self, public: Any, size: int) -> None:  # noqa: ANN401 - each class below narrows it
        self._public = public
        self._signature = bytes(size)

    def sign(self, *_: object) -> bytes:
        return self._signature

    def public_key(self) -> Any:  # noqa: ANN401 - as above
        return self._public

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a blank key can't do that")

    exchange = decrypt = private_bytes = private_bytes_raw = private_numbers = _refuse

    @property
    def key_size(self) -> int:
        size: int = self._public.key_size
        return size

    @property
    def curve(self) -> ec.EllipticCurve:
        curve: ec.EllipticCurve = self._public.curve
        return curve

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


class _BlankEc(_Blank, ec.EllipticCurvePrivateKey):
    """Goes as a key on an elliptic curve."""


class _BlankRsa(_Blank, rsa.RSAPrivateKey):
    """Goes as an RSA key."""


class _BlankEd25519(_Blank, ed25519.Ed25519PrivateKey):
    """Goes as an Ed25519 key."""


def blank_key(public: PublicKey, size: int) -> _BlankEc | _BlankRsa | _BlankEd25519:
    """Return a blank key.

    Args:
        public: the issuer's public key.
        size: octets of the signatures, from ``signature_size``.
    """
    if isinstance(public, ec.EllipticCurvePublicKey):
        return _BlankEc(public, size)
    return _BlankRsa(public, size) if isinstance(public, rsa.RSAPublicKey) else _BlankEd25519(public, size)
