"""Reading and writing the member ``bundle.toml`` of a firmware bundle.

A *plan* is the same file as a person writes it: ``size``, ``sha256`` and ``running`` may be left out, since packing
finds them, and ``file`` is a path beside the plan. ``docs/firmware.md`` has a table of all fields.

Knows nothing of: zip files, signatures, boards.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from firmware_tools.bundles.manifest import (
    MAX_IMAGE,
    BundleManifest,
    ImageEntry,
    LockStep,
    Option,
    UnitEntry,
    UnitFile,
    UnitFormat,
)
from firmware_tools.bundles.toml_table import MAX_LIST, Table, refuse
from firmware_tools.errors import BundleError
from firmware_tools.flashers import FlasherKind
from firmware_tools.version import Version

FORMAT: Final = "firmware-bundle-1"
"""Stands in the file: nothing else that a release key signed can pass for a bundle."""

MAX_MANIFEST: Final = 64 * 1024
"""Bytes of ``bundle.toml``."""

MAX_IMAGES: Final = 16

LOCKERS: Final = ("device", "esp", "stm32", "probe")
"""Who can do a step of the lock-down."""

_MAX_ADDRESS: Final = 0xFFFF_FFFF
_MAX_DOTS: Final = 100
"""In one line: a key of thousands of parts takes the parser many seconds."""
_ESP_SECTOR: Final = 4096
"""Bytes that an ESP chip erases at once."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_MEMBER: Final = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]*(?:/[0-9A-Za-z_][0-9A-Za-z_.-]*){0,3}")
_CHIP: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]*")
"""As the tools name chips; it stands in their command lines, so it may not look like an option."""
_RESERVED: Final = {"bundle.toml", "signature.json"}


def read_manifest(content: bytes, *, name: str = "bundle.toml", is_plan: bool = False) -> BundleManifest:
    """Read ``bundle.toml``, or a plan.

    Args:
        content: the file.
        name: how it is named in complaints.
        is_plan: sizes and digests may be missing, and a file's name may be any path.

    Raises:
        BundleError: ``bundle.manifest``; the message names the key and what to write.
    """
    if len(content) > MAX_MANIFEST:
        refuse(name, f"it is longer than {MAX_MANIFEST} bytes")
    if any(line.count(b".") > _MAX_DOTS for line in content.splitlines()):
        refuse(name, f"a line has more than {_MAX_DOTS} dots; write tables in place of dotted keys")
    try:
        said = tomllib.loads(content.decode())
    except UnicodeDecodeError:
        refuse(name, "it is not UTF-8")
    except (ValueError, RecursionError) as error:  # ValueError alone: a number of thousands of digits
        refuse(name, f"not TOML: {error}"[:200])
    top = Table(said, name, "")
    if not is_plan or top.has("format"):
        top.one_of("format", (FORMAT,))
    flash = top.table("flash")
    made = BundleManifest(
        product=top.text("product", 'product = "sensor"', most=32),
        version=_version(top, "version"),
        minimum_bootloader=_version(top, "minimum_bootloader") if top.has("minimum_bootloader") else None,
        kind=FlasherKind(flash.one_of("kind", [kind.value for kind in FlasherKind])),
        chip=flash.text("chip", 'chip = "esp32c3"') if flash.has("chip") else "",
        running=flash.digest("running") if flash.has("running") else None,
        options=flash.options("options"),
        images=tuple(_image(one, is_plan=is_plan) for one in top.tables("image", MAX_IMAGES)),
        unit_files=tuple(_unit_file(one) for one in top.tables("unit_data", MAX_IMAGES)),
        lock_plan=tuple(_lock_step(one) for one in top.tables("lock", MAX_LIST)),
    )
    flash.close()
    top.close()
    _check(made, name)
    return made


def write_manifest(manifest: BundleManifest) -> bytes:
    """Write ``bundle.toml``; the same manifest gives the same bytes.

    Raises:
        BundleError: it could not be read again.
    """
    lines = [f'format = "{FORMAT}"', f"product = {_quoted(manifest.product)}", f'version = "{manifest.version}"']
    if manifest.minimum_bootloader is not None:
        lines.append(f'minimum_bootloader = "{manifest.minimum_bootloader}"')
    lines += ["", "[flash]", f'kind = "{manifest.kind.value}"']
    if manifest.chip:
        lines.append(f"chip = {_quoted(manifest.chip)}")
    if manifest.running is not None:
        lines.append(f'running = "{manifest.running.hex()}"')
    lines += _options("flash.options", manifest.options)
    for image in manifest.images:
        assert image.sha256 is not None  # noqa: S101 - packing filled it in
        lines += ["", "[[image]]", f"name = {_quoted(image.name)}", f"file = {_quoted(image.file)}"]
        lines += [f"address = {image.address:#x}", f"size = {image.size}", f'sha256 = "{image.sha256.hex()}"']
    for unit in manifest.unit_files:
        lines += ["", "[[unit_data]]", f"name = {_quoted(unit.name)}", f'format = "{unit.format.value}"']
        lines += [f"address = {unit.address:#x}", f"size = {unit.size:#x}"]
        lines += _options("unit_data.options", unit.options)
        for entry in unit.entries:
            lines += ["[[unit_data.entry]]", f"key = {_quoted(entry.key)}", f"type = {_quoted(entry.type)}"]
            lines.append(f"value = {_quoted(entry.value)}")
    for step in manifest.lock_plan:
        lines += ["", "[[lock]]", f"name = {_quoted(step.name)}", f"by = {_quoted(step.by)}"]
        lines.append(f"arguments = {json.dumps(list(step.arguments))}")
        lines.append(f"irreversible = {json.dumps(step.irreversible)}")
    content = ("\n".join(lines) + "\n").encode()
    if read_manifest(content) != manifest:
        raise BundleError("this manifest can't be written so that it is read the same", code="bundle.manifest")
    return content


def _image(table: Table, *, is_plan: bool) -> ImageEntry:
    entry = ImageEntry(
        name=table.pattern("name", _NAME, 'name = "app"'),
        file=table.text("file", 'file = "app.bin"', most=1024)
        if is_plan
        else table.pattern("file", _MEMBER, 'file = "app.bin"'),
        address=table.integer("address", 0, _MAX_ADDRESS, "address = 0x10000"),
        size=table.integer("size", 1, MAX_IMAGE, "size = 4096") if not is_plan or table.has("size") else None,
        sha256=table.digest("sha256") if not is_plan or table.has("sha256") else None,
    )
    if entry.file in _RESERVED:
        table.refuse("file", "is a name of the bundle's own; rename the image")
    table.close()
    return entry


def _unit_file(table: Table) -> UnitFile:
    made = UnitFile(
        name=table.pattern("name", _NAME, 'name = "factory-data"'),
        format=UnitFormat(table.one_of("format", [one.value for one in UnitFormat])),
        address=table.integer("address", 0, _MAX_ADDRESS, "address = 0x9000"),
        size=table.integer("size", 1, MAX_IMAGE, "size = 0x6000"),
        options=table.options("options"),
        entries=tuple(_entry(one) for one in table.tables("entry", MAX_LIST)),
    )
    table.close()
    return made


def _entry(table: Table) -> UnitEntry:
    entry = UnitEntry(
        key=table.text("key", 'key = "factory/serial"'),
        type=table.text("type", 'type = "string"'),
        value=table.text("value", 'value = "{product_serial}"', most=1024),
    )
    table.close()
    return entry


def _lock_step(table: Table) -> LockStep:
    step = LockStep(
        name=table.text("name", 'name = "debug"'),
        by=table.one_of("by", LOCKERS),
        arguments=table.texts("arguments", 'arguments = ["DIS_PAD_JTAG", "1"]') if table.has("arguments") else (),
        irreversible=table.flag("irreversible", "irreversible = true"),
    )
    table.close()
    return step


def _check(manifest: BundleManifest, name: str) -> None:
    """Refuse what no board could hold."""
    if not manifest.images:
        refuse(name, "it lists no image; add an [[image]]")
    placed = [(image.name, image.address, image.size or 1) for image in manifest.images]
    placed += [(unit.name, unit.address, unit.size) for unit in manifest.unit_files]
    for what, values in (("name", [one[0] for one in placed]), ("file", [one.file for one in manifest.images])):
        for value in values:
            if values.count(value) > 1:
                refuse(name, f"two images have the {what} {value!r}; each needs its own")
    in_bytes = manifest.kind is not FlasherKind.SMP
    if in_bytes and manifest.chip and not _CHIP.fullmatch(manifest.chip):
        refuse(name, f"'chip' in [flash] is {manifest.chip!r}; write it as the tool names it, like esp32c3")
    for one, start, size in placed if in_bytes else ():
        if start + size - 1 > _MAX_ADDRESS:
            refuse(name, f"{one!r} ends beyond {_MAX_ADDRESS:#x}; correct its address")
    for (one, start, size), (two, above, _) in pairwise(sorted(placed, key=lambda entry: entry[1])):
        if above < start + (size if in_bytes else 1):
            refuse(name, f"{one!r} and {two!r} overlap at address {above:#x}; correct an address")
        if manifest.kind is FlasherKind.ESP and above // _ESP_SECTOR <= (start + size - 1) // _ESP_SECTOR:
            refuse(
                name,
                f"{one!r} and {two!r} share a sector of {_ESP_SECTOR} bytes at {above:#x}: writing one erases the "
                "other; correct an address",
            )


def _version(table: Table, key: str) -> Version:
    text = table.text(key, f'{key} = "1.0.0"')
    try:
        return Version.parse(text)
    except ValueError as error:
        table.refuse(key, f"is {text!r}; {error}")


def _quoted(text: str) -> str:
    return json.dumps(text)  # printable ASCII, checked when it was read: a TOML basic string


def _options(title: str, options: Mapping[str, Option]) -> list[str]:
    if not options:
        return []
    return [f"[{title}]", *(f"{key} = {json.dumps(value)}" for key, value in options.items())]
