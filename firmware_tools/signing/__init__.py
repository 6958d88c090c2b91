"""Signing images with a key that is elsewhere: in a token, as ``station`` hands it here.

``mcuboot.py`` makes MCUboot images through imgtool, ``esp.py`` images for ESP secure boot v2 through espsecure. Both
tools run as child processes and get the signature, never a key; both check their own result before it is handed out.

Codes of ``SigningError``: ``signing.key`` (this kind of image takes no such key), ``signing.image`` (the image is none,
or signed already), ``signing.options`` (the tool refuses what it was told), ``signing.tool_missing``,
``signing.not_verified`` (the tool does not accept what came out).
"""

from typing import Protocol, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from firmware_tools.errors import SigningError

__all__ = ["ImageKey", "Signer", "SigningError"]

ImageKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
"""Public halves of keys that images are signed with."""


class Signer(Protocol):
    """A private key somewhere."""

    @property
    def public_key(self) -> ImageKey:
        """Its public half."""

    def sign(self, message: bytes) -> bytes:
        """Sign a message; blocks.

        Returns:
            ECDSA with the hash of the curve (P-256: SHA-256, P-384: SHA-384), in DER; RSASSA-PSS with SHA-256 for all
            and 32 octets of salt; or Ed25519.
        """
