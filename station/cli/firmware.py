"""``station firmware``: from a build's images to a bundle that a line takes (key, pack, sign, verify, show)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from firmware_tools.bundles.bundle import Bundle, Contents, pack, read_contents
from firmware_tools.bundles.manifest import MAX_IMAGE
from firmware_tools.bundles.manifest_toml import MAX_MANIFEST
from firmware_tools.bundles.release_signature import key_id
from hsm import KeyKind, TokenUri
from hsm.files import replace_file, write_new
from station.cli.commands import Group, json_option
from station.cli.firmware_flash import flash
from station.cli.firmware_image import sign_image
from station.cli.firmware_unit_data import unit_data
from station.cli.output import print_fields, print_json
from station.errors import StationError, printable
from station.firmware_keys import (
    IMAGE_KINDS,
    IMAGE_LABEL,
    RELEASE_LABEL,
    FirmwareError,
    load_release_key,
    make_key,
    sign_bundle,
    spki_id,
)

SUFFIX: Final = ".bundle"
"""How files of bundles end."""

_KEY_EXAMPLES: Final = (
    "station firmware key --token 'pkcs11:token=oem?module-path=…&pin-source=prompt:' --out release.pem",
    "station firmware key --use image --kind rsa3072 --token 'pkcs11:token=oem;object=secure-boot?…' --out boot.pem",
)


@click.group("firmware", cls=Group, examples=["station firmware pack --help", "station firmware show sensor.bundle"])
def firmware() -> None:
    """Sign images, and make firmware bundles.

    A bundle is one file with all that boards of a product get. Whoever releases firmware signs it with a key in a
    token; the line takes no other.
    """


firmware.add_command(sign_image)
firmware.add_command(unit_data)
firmware.add_command(flash)


@firmware.command("key", examples=_KEY_EXAMPLES)
@click.option("--token", required=True, metavar="URI", help="Token that gets the key; object= names it.")
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="File for the public key (PEM).")
@click.option(
    "--use",
    type=click.Choice(["bundle", "image"]),
    default="bundle",
    show_default=True,
    help="What it signs: bundles, or images that bootloaders and chips check.",
)
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in IMAGE_KINDS]),
    default=KeyKind.P256.value,
    show_default=True,
    help="Of the key; bundles are signed with p256.",
)
def key(*, token: str, out: str, use: str, kind: str) -> None:
    """Make a key that signs bundles, or images.

    It is made in the token and can't leave it. The public key of bundles goes to each station ([product] release_key),
    that of images into the bootloader or the chip's fuses.
    """
    if use == "bundle" and kind != KeyKind.P256.value:
        raise click.UsageError("bundles are signed with ES256, by a key of kind p256; leave --kind out")
    public = make_key(
        TokenUri.parse(token),
        Path(out),
        kind=KeyKind(kind),
        label=RELEASE_LABEL if use == "bundle" else IMAGE_LABEL,
    )
    click.echo(f"made key {spki_id(public)[:16]}…, public key {out}")
    if use == "bundle":
        click.echo("next: give the file to each station, and name it in [product] release_key of station.toml")
    else:
        click.echo("next: build the bootloader with it, then station firmware sign-image")


@firmware.command(
    "pack", examples=["station firmware pack sensor.toml", "station firmware pack sensor.toml --out FILE"]
)
@click.argument("plan", type=click.Path(dir_okay=False))
@click.option("--out", type=click.Path(dir_okay=False), help="File to write; left out: PRODUCT-VERSION.bundle.")
@json_option("Write one JSON object: the file, and what is in it.")
def pack_command(plan: str, *, out: str | None, as_json: bool) -> None:
    """Pack a bundle; nobody has signed it yet.

    PLAN is a TOML file with product, version, images and where they go (docs/firmware.md). Images are looked for beside
    it, and checked: an image for another chip, or a damaged one, is not packed.
    """
    folder = Path(plan).parent
    contents = pack(_read(Path(plan), MAX_MANIFEST), lambda name: _read(folder / name, MAX_IMAGE), name=plan)
    manifest = contents.manifest
    path = Path(out or f"{manifest.product.replace('/', '-').replace(' ', '-')}-{manifest.version}{SUFFIX}")
    try:
        write_new(path, contents.packed())
    except FileExistsError:
        raise StationError(f"{path} is there already; name another file with --out", code="file.exists") from None
    if as_json:
        print_json({"file": str(path), **described(contents)})
        return
    print_fields(_fields(contents))
    click.echo(f"wrote {path}; next: station firmware sign {path} --key 'pkcs11:…'")


@firmware.command(
    "sign", examples=["station firmware sign sensor-1.4.2.bundle --key 'pkcs11:token=oem;object=release-key?…'"]
)
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--key", "uri", required=True, metavar="URI", help="The key: a PKCS#11 URI (RFC 7512); keys are in tokens."
)
@click.option("--yes", is_flag=True, help="Don't show the bundle and ask.")
def sign(file: str, *, uri: str, yes: bool) -> None:
    """Sign a bundle, or add a signature.

    All of it is checked before, and shown. Whoever packed it need not be who signs it; its digest stays the same.
    """
    path = Path(file)
    contents = read_contents(path)
    if not yes:
        print_fields(_fields(contents))
        if not click.confirm("sign this bundle?", err=True):
            raise StationError("not signed; nothing was changed")
    signed = sign_bundle(contents, TokenUri.parse(uri))
    replace_file(path, signed.packed())
    kid = signed.signatures[-1].kid
    click.echo(f"signed {file} with key {kid[:16]}…; signatures: {len(signed.signatures)}")


@firmware.command("verify", examples=["station firmware verify sensor-1.4.2.bundle --release-key release.pem"])
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--release-key",
    "keys",
    required=True,
    multiple=True,
    type=click.Path(dir_okay=False),
    help="Public key that is trusted (PEM); repeated.",
)
@json_option("Write one JSON object: what is in it, and who signed it.")
def verify(file: str, *, keys: Sequence[str], as_json: bool) -> None:
    """Verify all of a bundle, as a line does.

    Names, sizes, digests and images are checked, and that a key that is trusted signed it.
    """
    named = [(name, load_release_key(Path(name))) for name in keys]
    bundle = Bundle.open(Path(file), [public for _, public in named])
    signers = [name for name, public in named if key_id(public) in bundle.signers]
    if as_json:
        print_json({"file": file, "verified": True, "signers": signers, **described(bundle.contents)})
        return
    click.echo(f"{file}: {bundle.product} {bundle.version}, digest {bundle.digest.hex()}")
    click.echo(f"all of it fits together; signed by {', '.join(signers)}")


@firmware.command("show", examples=["station firmware show sensor-1.4.2.bundle", "station firmware show FILE --json"])
@click.argument("file", type=click.Path(dir_okay=False))
@json_option("Write one JSON object.")
def show(file: str, *, as_json: bool) -> None:
    """Show what is in a bundle.

    Digests are checked; who signed it is not: 'verify' does that.
    """
    contents = read_contents(Path(file))
    if as_json:
        print_json({"file": file, "verified": False, **described(contents)})
        return
    kids = ", ".join(f"{printable(one.kid[:16])}…" for one in contents.signatures)
    said = f"{kids} (not verified; 'station firmware verify' does)" if kids else "none"
    print_fields([*_fields(contents), ("signatures", said)])


def described(contents: Contents) -> dict[str, object]:
    """Return what is in a bundle, for programs."""
    manifest = contents.manifest
    return {
        "product": manifest.product,
        "version": str(manifest.version),
        "digest": contents.digest,
        "minimum_bootloader": None if manifest.minimum_bootloader is None else str(manifest.minimum_bootloader),
        "kind": manifest.kind,
        "chip": manifest.chip,
        "running": manifest.running,
        "options": dict(manifest.options),
        "images": manifest.images,
        "unit_data": [
            {"name": one.name, "format": one.format, "address": one.address, "size": one.size}
            for one in manifest.unit_files
        ],
        "lock": manifest.lock_plan,
        "signatures": [one.kid for one in contents.signatures],
    }


def _fields(contents: Contents) -> list[tuple[str, str]]:
    """Say what is in a bundle, for people."""
    manifest = contents.manifest
    images = [f"{one.name}: {one.size} bytes at {one.address:#x}, {one.file}" for one in manifest.images]
    files = [f"{one.name}: {one.format.value}, {one.size} bytes at {one.address:#x}" for one in manifest.unit_files]
    steps = [
        f"{one.name}: by {one.by}{', for good' if one.irreversible else ''} {' '.join(one.arguments)}".rstrip()
        for one in manifest.lock_plan
    ]
    fields = [
        ("product", manifest.product),
        ("version", str(manifest.version)),
        ("digest", contents.digest.hex()),
        ("flashed by", f"{manifest.kind.value} {manifest.chip}".rstrip()),
        ("images", "\n".join(images)),
    ]
    if manifest.options:
        fields.append(("options", ", ".join(f"{name} {value}" for name, value in manifest.options.items())))
    if manifest.running is not None:
        fields.append(("runs as", manifest.running.hex()))
    if manifest.minimum_bootloader is not None:
        fields.append(("bootloader", f"{manifest.minimum_bootloader} or newer"))
    if files:
        fields.append(("unit data", "\n".join(files)))
    if steps:
        fields.append(("lock-down", "\n".join(steps)))
    return fields


def _read(path: Path, most: int) -> bytes:
    """Read a file that people named; a longer one is refused before it fills the memory."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise FirmwareError(f"{path} is longer than {most} bytes; name the right file", code="file.too_long")
    return content
