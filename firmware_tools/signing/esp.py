"""Images for ESP secure boot v2: a signature sector behind the image, as espsecure makes it.

The image is padded to a sector (4096 bytes) with 0xff; what is signed is all of it. The sector behind it holds up to
three signature blocks, one a key, so a further key can be added (``append``). ESP32 and C3, S2, S3, C6 take RSA-3072;
C6, H2, C2 and newer take ECDSA on P-256 as well (P-384 where the chip's ROM says so).
"""

import tempfile
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from firmware_tools.errors import SigningError
from firmware_tools.image_kinds import ESP_MAGIC
from firmware_tools.signing import ImageKey, Signer
from firmware_tools.signing.mcuboot import write_public
from firmware_tools.signing.tool import run_espsecure

SECTOR: Final = 4096
MAX_BLOCKS: Final = 3
_BLOCK: Final = 1216
_BLOCK_MAGIC: Final = 0xE7
_BLOCK_VERSIONS: Final = {2: "RSA", 3: "ECDSA"}
_RSA_BITS: Final = 3072
_FILL: Final = b"\xff"
_PARTITION_MAGIC: Final = b"\xaa\x50"


def sign_esp(image: bytes, signer: Signer, *, append: bool = False) -> bytes:
    """Sign a bootloader or application. Blocks.

    Args:
        image: in the format of the ESP loader.
        signer: with the key of secure boot.
        append: the image is signed already, and gets one signature more.

    Raises:
        SigningError: the key does not fit, the image is none, or espsecure refuses.
    """
    _check_key(signer.public_key)
    if not image or (image[0] != ESP_MAGIC and not image.startswith(_PARTITION_MAGIC)):
        raise SigningError(
            "this is no image of an ESP chip; take the .bin that esptool or ESP-IDF made", code="signing.image"
        )
    blocks = signature_blocks(image)
    if append and not 0 < blocks < MAX_BLOCKS:
        raise SigningError(
            f"the image has {blocks} signatures; one is added where there are 1 to {MAX_BLOCKS - 1}",
            code="signing.image",
        )
    kind = "RSA" if isinstance(signer.public_key, rsa.RSAPublicKey) else "ECDSA"
    if append and (there := _BLOCK_VERSIONS[image[-SECTOR + 1]]) != kind:
        raise SigningError(
            f"the image is signed with {there}, and this is a key for {kind}; a chip takes keys of one kind",
            code="signing.key",
        )
    if blocks and not append:
        raise SigningError(
            f"the image is signed already ({blocks}); add another key's signature with --append, or take the unsigned "
            "image",
            code="signing.image",
        )
    whole = image if append else image + _FILL * (-len(image) % SECTOR)
    signed = whole[:-SECTOR] if append else whole
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        body, signature, key, out = (folder / one for one in ("in.bin", "signature", "key.pem", "out.bin"))
        body.write_bytes(whole)
        write_public(key, signer.public_key)
        signature.write_bytes(signer.sign(signed))
        more = ["--append-signatures"] if append else []
        said = ["--pub-key", str(key), "--signature", str(signature), "--output", str(out)]
        run_espsecure(["sign-data", "--version", "2", *more, *said, str(body)])
        check_esp(out, key)
        return out.read_bytes()


def signature_blocks(image: bytes) -> int:
    """Return how many signatures stand behind an image; 0 for one that is not signed."""
    if len(image) <= SECTOR or len(image) % SECTOR:
        return 0
    sector = image[-SECTOR:]
    starts = (sector[block * _BLOCK :][:2] for block in range(MAX_BLOCKS))
    count = 0
    for start in starts:
        if start[0] != _BLOCK_MAGIC or start[1] not in _BLOCK_VERSIONS:
            break
        count += 1
    return count


def check_esp(image: Path, key: Path) -> None:
    """Have espsecure verify an image. Blocks.

    Raises:
        SigningError: it does not accept it (``signing.not_verified``).
    """
    try:
        run_espsecure(["verify-signature", "--version", "2", "--keyfile", str(key), str(image)])
    except SigningError as error:
        if error.code != "signing.options":
            raise
        raise SigningError(f"nothing was written: {error}", code="signing.not_verified") from None


def _check_key(key: ImageKey) -> None:
    is_rsa = isinstance(key, rsa.RSAPublicKey) and key.key_size == _RSA_BITS
    is_ec = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    if not is_rsa and not is_ec:
        raise SigningError(
            "ESP secure boot v2 takes RSA keys of 3072 bits, and on newer chips keys on P-256 or P-384; make one with "
            "'station firmware key --use image --kind rsa3072'",
            code="signing.key",
        )
