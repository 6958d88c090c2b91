"""Firmware bundles for tests: signed by a key in memory, as no released bundle is.

::

    bundle = signed_bundle(PLAN, {"app.bin": image}, key)
    (folder / "sensor.bundle").write_bytes(bundle)
"""

import struct
from collections.abc import Mapping
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_tools.bundles.bundle import pack
from firmware_tools.bundles.release_signature import ReleaseSignature, key_id, protected_header, signing_input
from firmware_tools.mcuboot_image import MAGIC


def signed_bundle(plan: str, files: Mapping[str, bytes], key: ec.EllipticCurvePrivateKey) -> bytes:
    """Pack a plan and sign it.

    Args:
        plan: TOML.
        files: what its images name.
        key: on P-256.
    """
    contents = pack(plan.encode(), files.__getitem__)
    protected = protected_header(key_id(key.public_key()))
    signature = key.sign(signing_input(protected, contents.manifest_bytes), ec.ECDSA(hashes.SHA256()))
    return contents.signed(ReleaseSignature.of(protected, signature)).packed()


def unsigned_image(version: tuple[int, int, int, int] = (1, 0, 0, 0), body: bytes = bytes(4096)) -> bytes:
    """Return an image in MCUboot's format, hashed and not signed."""
    image = struct.pack("<IIHHIIBBHII", MAGIC, 0, 32, 0, len(body), 0, *version, 0) + body
    return image + struct.pack("<HHHH", 0x6907, 40, 0x10, 32) + sha256(image).digest()
