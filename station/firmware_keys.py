"""Keys for firmware in tokens: the release key that signs bundles, and the keys that sign images.

A bundle is signed by a *release key* (ES256), an image by an *image key*, whose public half is in the bootloader or the
chip's fuses. Both are made in a token and stay there. ``firmware_tools`` knows bundles and images, and gets signatures.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from firmware_tools.bundles.bundle import Contents
from firmware_tools.bundles.release_signature import (
    MAX_SIGNATURES,
    ReleaseSignature,
    key_id,
    protected_header,
    signing_input,
)
from firmware_tools.signing import ImageKey
from firmware_tools.signing.esp import sign_esp
from firmware_tools.signing.mcuboot import McubootSettings, sign_mcuboot
from hsm import KeyFamily, KeyKind, Signer, TokenUri, find_key, generate_key
from hsm.files import write_new
from hsm.key_store import destroy_key, labelled
from hsm.keys import AnyTokenKey
from station.errors import StationError
from station.public_key_file import read_public_key

RELEASE_LABEL: Final = "release-key"
IMAGE_LABEL: Final = "image-key"
"""Labels of the keys, where the token's URI names no ``object``."""

IMAGE_KINDS: Final = (KeyKind.P256, KeyKind.P384, KeyKind.RSA2048, KeyKind.RSA3072, KeyKind.ED25519)
"""Keys that sign images of one kind or another."""

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class FirmwareError(StationError):
    """A key for firmware can't be used, or not for this."""

    code = "firmware.error"


class TokenImageSigner:
    """A ``firmware_tools.signing.Signer`` whose key is in a token."""

    def __init__(self, key: AnyTokenKey) -> None:
        """Take a key that was found."""
        self._key = key

    @property
    def public_key(self) -> ImageKey:
        """The key's public half."""
        return self._key.public_key()

    def sign(self, message: bytes) -> bytes:
        """Sign a message; RSA with PSS. Blocks."""
        return self._key.sign_message_blocking(message, pss=isinstance(self.public_key, rsa.RSAPublicKey))


def make_key(
    uri: TokenUri, out: Path, *, kind: KeyKind, label: str, environment: Mapping[str, str] = _NOTHING
) -> ImageKey:
    """Make a key in a token, and write its public half. Blocks.

    Args:
        uri: the token; ``object=`` names the key.
        out: gets the public key in PEM; must not be there.
        kind: of key.
        label: name of the key where the URI has none.
        environment: variables that the module reads.

    Raises:
        FirmwareError: the file is there.
        HsmError: the token can't make it, or holds a key of this label.
        OSError: the file can't be written.
    """
    if out.exists():
        raise FirmwareError(f"{out} is there already; name another file", code="file.exists")
    with Signer.open(uri, environment=environment, writable=True) as signer:
        key = generate_key(signer, kind, uri.object or label)
        public = key.public_key()
        try:
            write_new(out, public_pem(public))
        except BaseException:
            destroy_key(key)  # nobody has its public half: it would only be in the way of the next try
            raise
    return public


def spki_id(key: ImageKey) -> str:
    """Return how a key is named: the SHA-256 of its SubjectPublicKeyInfo, hex."""
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def public_pem(key: ImageKey) -> bytes:
    """Return a public key in PEM."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign_bundle(contents: Contents, uri: TokenUri, *, environment: Mapping[str, str] = _NOTHING) -> Contents:
    """Add a signature of a release key to a bundle. Blocks.

    Args:
        contents: the bundle, read and checked.
        uri: the token; ``object=`` names the key.
        environment: variables that the module reads.

    Raises:
        FirmwareError: this key signed it before, or is not on P-256.
        HsmError: the token can't be used.
    """
    with _found_key(uri, RELEASE_LABEL, (KeyFamily.P256,), environment) as key:
        public = key.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)  # noqa: S101 - of the family that was asked for
        if any(one.is_of(public, contents.manifest_bytes) for one in contents.signatures):
            raise FirmwareError(
                f"key {key_id(public)[:16]}… signed this bundle before; nothing was changed",
                code="bundle.signed_before",
            )
        if len(contents.signatures) >= MAX_SIGNATURES:
            raise FirmwareError(
                f"this bundle has {MAX_SIGNATURES} signatures, and no more fit; pack it again from its plan, and sign "
                "that one",
                code="bundle.signature",
            )
        protected = protected_header(key_id(public))
        signature = key.sign_message_blocking(signing_input(protected, contents.manifest_bytes))
    made = ReleaseSignature.of(protected, signature)
    if not made.is_of(public, contents.manifest_bytes):
        raise FirmwareError(
            "the token returned a signature that does not verify; nothing was written", code="firmware.token"
        )
    return contents.signed(made)


@contextmanager
def image_signer(uri: TokenUri, *, environment: Mapping[str, str] = _NOTHING) -> Iterator[TokenImageSigner]:
    """Find an image key in a token, for as long as the block goes. Blocks.

    Raises:
        FirmwareError: the token does not hold one key of this name.
        HsmError: the token can't be used.
    """
    families = tuple(dict.fromkeys(kind.family for kind in IMAGE_KINDS))
    with _found_key(uri, IMAGE_LABEL, families, environment) as key:
        yield TokenImageSigner(key)


def sign_mcuboot_image(
    image: bytes, settings: McubootSettings, uri: TokenUri, *, environment: Mapping[str, str] = _NOTHING
) -> bytes:
    """Make an MCUboot image, signed by a key in a token; imgtool has verified it. Blocks.

    Raises:
        FirmwareError, HsmError: the key can't be used.
        SigningError: imgtool refuses.
    """
    with image_signer(uri, environment=environment) as signer:
        return sign_mcuboot(image, settings, signer)


def sign_esp_image(
    image: bytes, uri: TokenUri, *, append: bool = False, environment: Mapping[str, str] = _NOTHING
) -> bytes:
    """Sign an image for ESP secure boot v2 with a key in a token; espsecure has verified it. Blocks.

    Raises:
        FirmwareError, HsmError: the key can't be used.
        SigningError: espsecure refuses.
    """
    with image_signer(uri, environment=environment) as signer:
        return sign_esp(image, signer, append=append)


def load_release_key(path: Path) -> ec.EllipticCurvePublicKey:
    """Read the public half of a release key, or the certificate that holds it, in PEM.

    Raises:
        FirmwareError: it can't be read, or is not on P-256 (``firmware.key_file``).
    """
    try:
        key = read_public_key(path)
    except OSError as error:
        raise FirmwareError(
            f"{path}: {error.strerror}; name the file with the public key of who releases firmware",
            code="firmware.key_file",
        ) from None
    except ValueError:
        raise FirmwareError(
            f"{path}: neither a public key nor a certificate in PEM; 'station firmware key' writes one",
            code="firmware.key_file",
        ) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FirmwareError(
            f"{path}: bundles are signed with ES256, and this key is not on P-256", code="firmware.key_file"
        )
    return key


@contextmanager
def _found_key(
    uri: TokenUri, label: str, families: Sequence[KeyFamily], environment: Mapping[str, str]
) -> Iterator[AnyTokenKey]:
    wanted = uri.object or label
    with Signer.open(uri, environment=environment) as signer:
        found: list[ImageKey] = []
        for family in families:
            with suppress(ValueError):  # a key on the other curve
                found += labelled(signer, wanted, (family,))
        if len(found) != 1:
            count = f"{len(found)} keys" if found else "no key"
            kinds = ", ".join(family.value for family in families)
            raise FirmwareError(
                f"token {signer.name!r} holds {count} called {wanted!r} of a kind that signs this ({kinds}); name it "
                "with object=… in the URI, or make it with 'station firmware key'",
                code="firmware.key",
            )
        yield find_key(signer, found[0])
