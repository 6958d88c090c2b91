"""Firmware for virtual boards, signed by keys in memory: what tests and benchmarks flash, made in a millisecond."""

import struct
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_tools.mcuboot_image import MAGIC
from firmware_tools.testing import signed_bundle

_HASH, _KEY_HASH, _ECDSA = 0x10, 0x01, 0x22
"""TLVs of MCUboot's image.h."""

PLAN = """
product = "reference-device"
version = "{version}"
{more}
[flash]
kind = "smp"
[flash.options]
erase_seconds = 2
boot_seconds = 10
[[image]]
name = "app"
file = "app.bin"
address = 0
{lock}
"""


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class Releases:
    """A folder with the public keys of who releases firmware, and what they release."""

    folder: Path
    release: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    image: ec.EllipticCurvePrivateKey = field(default_factory=_key)

    def __post_init__(self) -> None:
        """Write the public keys."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.release_key.write_bytes(_pem(self.release))
        self.image_key.write_bytes(_pem(self.image))

    @property
    def release_key(self) -> Path:
        """Who signs bundles."""
        return self.folder / "release.pem"

    @property
    def image_key(self) -> Path:
        """Who signs images."""
        return self.folder / "image.pem"

    def signed_image(self, version: str = "1.0.0", body: bytes = bytes(20_000)) -> bytes:
        """Return an image in MCUboot's format that the bootloader takes."""
        numbers = [int(number) for number in version.split(".")]
        image = struct.pack("<IIHHIIBBHII", MAGIC, 0, 32, 0, len(body), 0, *numbers, 0, 0) + body
        spki = self.image.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        signature = self.image.sign(image, ec.ECDSA(SHA256()))
        values = ((_HASH, sha256(image).digest()), (_KEY_HASH, sha256(spki).digest()), (_ECDSA, signature))
        trailer = b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in values)
        return image + struct.pack("<HH", 0x6907, 4 + len(trailer)) + trailer

    def bundle(
        self, version: str = "1.0.0", *, body: bytes = bytes(20_000), lock: str = "", more: str = "", name: str = "app"
    ) -> Path:
        """Write a bundle with one image, and return its path."""
        plan = PLAN.format(version=version, lock=lock, more=more)
        path = self.folder / f"{name}-{version}.bundle"
        path.write_bytes(signed_bundle(plan, {"app.bin": self.signed_image(version, body)}, self.release))
        return path
