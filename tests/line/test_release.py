"""From keys in a token to firmware that runs: a board takes what the token with its key signed, and nothing else."""

from pathlib import Path

import pytest

from firmware_tools.build import build_device
from firmware_tools.bundles.bundle import Bundle, pack
from firmware_tools.errors import FlashError
from firmware_tools.flashers.smp import SmpFlasher
from firmware_tools.signing.mcuboot import McubootSettings
from firmware_tools.version import Version
from firmware_tools.virtual_line.line import VirtualLine
from hsm import KeyKind, TokenUri
from softhsm import make_tokens
from station.devices.smp_wire import SmpTransport
from station.firmware_keys import (
    IMAGE_LABEL,
    RELEASE_LABEL,
    load_release_key,
    make_key,
    sign_bundle,
    sign_mcuboot_image,
)
from station.ports.link import open_link

BUILD = Path(__file__).parents[2] / "build"
PLAN = b"""
product = "reference-device"
version = "1.4.2"
[flash]
kind = "smp"
[[image]]
name = "app"
file = "app.bin"
address = 0
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A bundle, and the public keys of its image and of another token."""
    folder = tmp_path_factory.mktemp("release")
    tokens = make_tokens(folder / "tokens", ["oem", "other"])
    oem, environment = TokenUri.parse(tokens.uri("oem")), tokens.environment
    for token in ("oem", "other"):
        uri, out = TokenUri.parse(tokens.uri(token)), folder / f"{token}.pem"
        make_key(uri, out, kind=KeyKind.P256, label=IMAGE_LABEL, environment=environment)
    make_key(oem, folder / "release.pem", kind=KeyKind.P256, label=RELEASE_LABEL, environment=environment)
    settings = McubootSettings(Version.parse("1.4.2"), 0x40000)
    image = sign_mcuboot_image(bytes(range(256)) * 40, settings, oem, environment=environment)
    contents = sign_bundle(pack(PLAN, lambda _: image), oem, environment=environment)
    (folder / "sensor.bundle").write_bytes(contents.packed())
    bundle = Bundle.open(folder / "sensor.bundle", [load_release_key(folder / "release.pem")])
    return bundle, folder


async def flashed(bundle, key, folder):
    """Flash a blank board whose bootloader trusts a key."""
    with VirtualLine(build_device(BUILD), folder, 1, image_key=key) as line:
        link = await open_link(str(line.ports[0]), 115_200)
        try:

            async def again():
                return SmpTransport(link)

            flasher = SmpFlasher(SmpTransport(link), reopen=again)
            return await flasher.flash(bundle.payload, lambda _progress: None)
        finally:
            link.close()


async def test_a_blank_board_runs_what_the_token_of_its_key_signed(release, tmp_path):
    bundle, folder = release
    report = await flashed(bundle, folder / "oem.pem", tmp_path)
    assert (report.before.is_loader, report.after.running) == (True, bundle.payload.running)


async def test_a_board_that_trusts_another_key_does_not_take_it(release, tmp_path):
    bundle, folder = release
    with pytest.raises(FlashError):
        await flashed(bundle, folder / "other.pem", tmp_path)
