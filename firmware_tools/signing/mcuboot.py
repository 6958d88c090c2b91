"""MCUboot images: header, padding, hash and signature, as imgtool makes them.

Three runs of imgtool: one writes what is to be signed (``--vector-to-sign``), one puts the signature in (``--fix-sig``,
``--fix-sig-pubkey``), one verifies. ECDSA on P-256 and P-384 and RSA sign the image; Ed25519 signs its
hash. (``--pure`` is imgtool's only where it holds the private key.)
"""

import base64
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from firmware_tools.errors import SigningError
from firmware_tools.mcuboot_image import is_mcuboot
from firmware_tools.signing import ImageKey, Signer
from firmware_tools.signing.tool import run_imgtool
from firmware_tools.version import Version

_OURS: Final = (
    "-k",
    "--key",
    "--fix-sig",
    "--fix-sig-pubkey",
    "--vector-to-sign",
    "--sig-out",
    "-v",
    "--version",
    "--pure",
)
"""Options of imgtool that are said here."""

_SHORT: Final = re.compile(r"-[kv]")
"""Those of one letter may have their value right behind them: ``-kkey.pem``."""

_ON_SAVING: Final = frozenset({"--pad", "--confirm", "--test"})
"""Options that fill the file up to its slot: what is signed ends before that."""

_FIELDS: Final = ((255, "major"), (255, "minor"), (65_535, "patch"), (0xFFFF_FFFF, "build"))
"""The largest numbers that a version in an image's header has room for."""

_MAX_SIZE: Final = 1 << 28
"""Bytes of a header or slot: what is larger is a slip, and imgtool would make it in memory."""

_RSA_BITS: Final = (2048, 3072)
_INTEL_HEX: Final = re.compile(rb":[0-9A-Fa-f]{8}")


@dataclass(frozen=True, slots=True)
class McubootSettings:
    """How an image is laid out; as the bootloader of the product was built."""

    version: Version
    slot_size: int
    """Bytes; image and trailer have to fit."""
    header_size: int = 0x200
    """Bytes."""
    align: int = 8
    """Bytes that the flash writes at once."""
    pad_header: bool = True
    """The image begins with its vector table, and gets room for the header; Zephyr's images have it already."""
    more: tuple[str, ...] = ()
    """Further options of ``imgtool sign``: ``--security-counter 7``, ``--pad``, ``--confirm``."""


def sign_mcuboot(image: bytes, settings: McubootSettings, signer: Signer) -> bytes:
    """Make a signed image. Blocks.

    Args:
        image: what the linker made, in binary.
        settings: how it is laid out.
        signer: with the image key.

    Raises:
        SigningError: the key does not fit, or imgtool refuses.
    """
    _check_key(signer.public_key)
    if not image:
        raise SigningError("this image is empty; build it again", code="signing.image")
    if is_mcuboot(image):
        raise SigningError(
            "this image has a header of MCUboot already; sign the binary that the build makes before it is signed "
            "(Zephyr: zephyr.bin)",
            code="signing.image",
        )
    if _INTEL_HEX.match(image):
        raise SigningError("this is Intel HEX; sign the binary (objcopy -O binary)", code="signing.image")
    as_digest = isinstance(signer.public_key, ed25519.Ed25519PublicKey)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        body, vector, signature, key, out = (
            folder / one for one in ("in.bin", "vector", "signature", "key.pem", "out")
        )
        body.write_bytes(image)
        write_public(key, signer.public_key)
        options = ["sign", *_layout(settings), *settings.more]
        bare = ["sign", *_layout(settings), *(one for one in settings.more if one not in _ON_SAVING)]
        # the public key decides on the hash, so it has to be known in the first run too; a signature is not used there
        signature.write_bytes(base64.b64encode(bytes(64)))
        fixed = ["--fix-sig", str(signature), "--fix-sig-pubkey", str(key)]
        vector_of = ["--vector-to-sign", "digest" if as_digest else "payload"]
        run_imgtool([*bare, *fixed, *vector_of, str(body), str(vector)])
        if not vector.exists():
            raise SigningError(
                f"imgtool made nothing to sign of {' '.join(settings.more)}; leave out what asks it for something else",
                code="signing.options",
            )
        signature.write_bytes(base64.b64encode(signer.sign(vector.read_bytes())))
        run_imgtool([*options, *fixed, str(body), str(out)])
        check_mcuboot(out, key)
        return out.read_bytes()


def check_mcuboot(image: Path, key: Path) -> None:
    """Have imgtool verify an image. Blocks.

    Raises:
        SigningError: it does not accept it (``signing.not_verified``).
    """
    try:
        run_imgtool(["verify", "--key", str(key), str(image)])
    except SigningError as error:
        if error.code != "signing.options":
            raise
        raise SigningError(f"nothing was written: {error}", code="signing.not_verified") from None


def write_public(path: Path, key: ImageKey) -> None:
    """Write a public key in PEM."""
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.write_bytes(pem)


def _layout(settings: McubootSettings) -> Sequence[str]:
    for option in settings.more:
        if option.split("=")[0] in _OURS or _SHORT.match(option):
            raise SigningError(
                f"{option} is the station's to say, or can't be had from a token; leave it out", code="signing.options"
            )
    version = settings.version
    if version.pre:
        raise SigningError(
            f"{version}: an image's header has no room for a pre-release; write it as {version.major}.{version.minor}."
            f"{version.patch}+BUILD",
            code="signing.options",
        )
    for number, (most, name) in zip((version.major, version.minor, version.patch, version.build), _FIELDS, strict=True):
        if number > most:
            raise SigningError(
                f"{version}: an image's header has room for a {name} number up to {most}", code="signing.options"
            )
    for size, name in ((settings.header_size, "header"), (settings.slot_size, "slot")):
        if not 0 < size <= _MAX_SIZE:
            raise SigningError(f"the {name}'s size is {size:#x}, which no board has", code="signing.options")
    said = f"{version.major}.{version.minor}.{version.patch}+{version.build}"
    options = ["--version", said, "--header-size", hex(settings.header_size), "--align", str(settings.align)]
    options += ["--slot-size", hex(settings.slot_size)]
    if settings.pad_header:
        options.append("--pad-header")
    return options


def _check_key(key: ImageKey) -> None:
    fits = (
        isinstance(key, ed25519.Ed25519PublicKey)
        or (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1))
        or (isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS)
    )
    if not fits:
        raise SigningError(
            "MCUboot takes keys on P-256 or P-384, Ed25519, and RSA of 2048 or 3072 bits; make one with "
            "'station firmware key --use image'",
            code="signing.key",
        )
