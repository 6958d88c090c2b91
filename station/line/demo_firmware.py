"""Firmware for a rehearsal: built, signed by keys in a SoftHSM token, and packed into a bundle, as a release is.

Each step finds what an earlier run, which was killed, has done.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_tools.build import Firmware, build_firmware
from firmware_tools.bundles.bundle import pack, read_contents
from firmware_tools.signing.mcuboot import McubootSettings
from firmware_tools.version import Version
from firmware_tools.virtual_line.line import DEFAULT_MACHINE
from hsm import KeyFamily, KeyKind, Signer, TokenUri
from hsm.files import replace_file
from hsm.key_store import labelled
from softhsm import SoftHsm
from station.config.folder import OEM_TOKEN, RehearsalFirmware
from station.firmware_keys import IMAGE_LABEL, RELEASE_LABEL, make_key, public_pem, sign_bundle, sign_mcuboot_image
from station.orders.rehearsal import PRODUCT

FOLDER: Final = "firmware"
VERSION: Final = "1.0.0"

_PLAN: Final = f"""
product = "{PRODUCT}"
version = "{VERSION}"
[flash]
kind = "smp"
[[image]]
name = "app"
file = "app.bin"
address = 0
"""

_LINUX_SIZE: Final = 64 * 1024
"""Bytes of the image for boards that are Linux processes: about that of the microcontroller's."""

_LINUX: Final = Firmware(Path(), Path())
"""Header, slot and alignment are the same for both kinds of boards."""


def make_firmware(
    directory: Path, tokens: SoftHsm, *, machine: str, build: Path, say: Callable[[str], None]
) -> RehearsalFirmware:
    """Make the bundle of a rehearsal in ``directory/firmware``, unless it is there. Blocks.

    Args:
        directory: of the line.
        tokens: get the keys.
        machine: what the boards are made of.
        build: folder for builds.
        say: told what is done, where it takes more than a moment.

    Raises:
        FirmwareToolsError, HsmError, StationError: a part can't be made.
        OSError: the folder can't be written.
    """
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    release, image, bundle = folder / "release.pem", folder / "image.pem", folder / "rehearsal.bundle"
    environment = tokens.environment
    for label, path in ((RELEASE_LABEL, release), (IMAGE_LABEL, image)):
        _key(tokens, label, path)
    if not bundle.exists():
        say(f"building, signing and packing firmware for them in {bundle}")
        content, settings = _application(machine, build)
        signed = sign_mcuboot_image(content, settings, _uri(tokens, IMAGE_LABEL), environment=environment)
        contents = pack(_PLAN.encode(), lambda _name: signed)
        packed = sign_bundle(contents, _uri(tokens, RELEASE_LABEL), environment=environment).packed()
        replace_file(bundle, packed)
    return RehearsalFirmware(
        bundle=bundle.relative_to(directory),
        release_key=release.relative_to(directory),
        image_key=image.relative_to(directory),
        digest=read_contents(bundle).digest,
        machine=machine,
    )


def _application(machine: str, build: Path) -> tuple[bytes, McubootSettings]:
    """Return what runs on a board, unsigned, and how its image is laid out."""
    firmware = _LINUX if machine == DEFAULT_MACHINE else build_firmware(build, machine=machine)
    settings = McubootSettings(
        Version.parse(VERSION), firmware.slot_size, header_size=firmware.header_size, align=firmware.align
    )
    if machine != DEFAULT_MACHINE:
        return firmware.application.read_bytes(), settings
    # What a board does that is a Linux process is in its program; its image is there to be sent, checked and named.
    return hashlib.shake_128(VERSION.encode()).digest(_LINUX_SIZE), settings


def _uri(tokens: SoftHsm, label: str) -> TokenUri:
    return TokenUri.parse(tokens.uri(OEM_TOKEN).replace(f"token={OEM_TOKEN}", f"token={OEM_TOKEN};object={label}", 1))


def _key(tokens: SoftHsm, label: str, out: Path) -> None:
    """Make a key and write its public half, unless that was done before."""
    if out.exists():
        return
    uri = _uri(tokens, label)
    with Signer.open(uri, environment=tokens.environment) as signer:
        found = labelled(signer, label, (KeyFamily.P256,))
    if not found:
        make_key(uri, out, kind=KeyKind.P256, label=label, environment=tokens.environment)
        return
    assert isinstance(found[0], ec.EllipticCurvePublicKey)  # noqa: S101 - of the family that was asked for
    replace_file(out, public_pem(found[0]))
