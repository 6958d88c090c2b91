"""``station firmware sign-image``: images for bootloaders and chips, signed with a key in a token."""

from pathlib import Path
from typing import Final

import click

from firmware_tools.bundles.manifest import MAX_IMAGE
from firmware_tools.mcuboot_image import read_mcuboot
from firmware_tools.signing.mcuboot import McubootSettings
from firmware_tools.version import Version
from hsm import TokenUri
from hsm.files import write_new
from station.cli.commands import command, json_option
from station.cli.output import print_json
from station.errors import StationError
from station.firmware_keys import sign_esp_image, sign_mcuboot_image

_EXAMPLES: Final = (
    "station firmware sign-image app.bin --version 1.4.2 --slot-size 0x40000 --out signed.bin --key 'pkcs11:…'",
    "station firmware sign-image app.bin --version 1.4.2 --slot-size 0x40000 --out a.bin --key 'pkcs11:…' -- --pad",
    "station firmware sign-image --format esp sensor.bin --out sensor-signed.bin --key 'pkcs11:…'",
)


def _number(text: str | int) -> int:
    """Read a whole number, decimal or like 0x200."""
    try:
        return text if isinstance(text, int) else int(text, 0)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no number; write 512 or 0x200") from None


@command("sign-image", examples=_EXAMPLES)
@click.argument("image", type=click.Path(dir_okay=False))
@click.argument("more", nargs=-1, metavar="[-- OPTIONS OF IMGTOOL]")
@click.option("--key", "uri", required=True, metavar="URI", help="The key: a PKCS#11 URI; keys are in tokens.")
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="File for the signed image.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["mcuboot", "esp"]),
    default="mcuboot",
    show_default=True,
    help="mcuboot: an MCUboot image; esp: ESP secure boot v2.",
)
@click.option("--version", help="MCUboot: the image's version, like 1.4.2 or 1.4.2+7.")
@click.option(
    "--header-size", type=_number, metavar="BYTES", default=0x200, show_default="0x200", help="MCUboot: of the header."
)
@click.option("--slot-size", type=_number, metavar="BYTES", help="MCUboot: of the slot; image and trailer have to fit.")
@click.option(
    "--align", type=_number, metavar="BYTES", default=8, show_default=True, help="MCUboot: bytes that the flash writes."
)
@click.option(
    "--pad-header/--no-pad-header",
    default=True,
    show_default=True,
    help="MCUboot: put room for the header before the image; Zephyr's builds have it already.",
)
@click.option("--append", is_flag=True, help="esp: add a signature to an image that is signed already.")
@json_option("Write one JSON object: file, size, and for MCUboot version and hash.")
def sign_image(  # noqa: PLR0913 - an option each
    image: str,
    *,
    more: tuple[str, ...],
    uri: str,
    out: str,
    form: str,
    version: str | None,
    header_size: int,
    slot_size: int | None,
    align: int,
    pad_header: bool,
    append: bool,
    as_json: bool,
) -> None:
    """Sign an image with a key in a token.

    No signing key is ever a file. imgtool lays out and verifies MCUboot images, espsecure those for ESP secure boot v2.
    Options of imgtool that stand after -- are handed to it.
    """
    if Path(out).exists():
        raise StationError(f"{out} is there already; name another file", code="file.exists")
    with Path(image).open("rb") as file:
        content = file.read(MAX_IMAGE + 1)
    if len(content) > MAX_IMAGE:
        raise StationError(f"{image} is longer than {MAX_IMAGE} bytes; name the right file", code="file.too_long")
    if form == "esp":
        if more or version:
            raise click.UsageError("--version and options of imgtool are for --format mcuboot; leave them out")
        signed = sign_esp_image(content, TokenUri.parse(uri), append=append)
    else:
        settings = _settings(version, header_size, slot_size, align, more, append=append, pad_header=pad_header)
        signed = sign_mcuboot_image(content, settings, TokenUri.parse(uri))
    write_new(Path(out), signed)
    facts: dict[str, object] = {"file": out, "size": len(signed)}
    if form == "mcuboot":
        made = read_mcuboot(signed)
        facts |= {"version": str(made.version), "sha256": made.sha256}
    if as_json:
        print_json(facts)
        return
    tool = "imgtool" if form == "mcuboot" else "espsecure"
    click.echo(f"wrote {out}, {len(signed)} bytes; {tool} verified its signature")


def _settings(  # noqa: PLR0913 - as they were said
    version: str | None,
    header_size: int,
    slot_size: int | None,
    align: int,
    more: tuple[str, ...],
    *,
    append: bool,
    pad_header: bool,
) -> McubootSettings:
    if append:
        raise click.UsageError("--append is for --format esp; an MCUboot image has one signature")
    if version is None or slot_size is None:
        raise click.UsageError("an MCUboot image needs --version (like 1.4.2) and --slot-size (like 0x40000)")
    try:
        parsed = Version.parse(version)
    except ValueError as error:
        raise click.UsageError(f"--version is {version!r}; {error}") from None
    return McubootSettings(parsed, slot_size, header_size, align, pad_header, more)
