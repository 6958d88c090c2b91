"""What a firmware bundle says of itself: its member ``bundle.toml``.

A *plan* is the same file as a person writes it: ``size``, ``sha256`` and ``running`` may be left out, since packing
finds them, and ``file`` is a path beside the plan. ``docs/firmware.md`` has a table of all fields.

Knows nothing of: zip files, signatures, boards.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeAlias

from firmware_tools.errors import BundleError
from firmware_tools.flashers import FlasherKind
from firmware_tools.version import Version

FORMAT: Final = "firmware-bundle-1"
"""Stands in the file: nothing else that a release key signed can pass for a bundle."""

MAX_MANIFEST: Final = 64 * 1024
"""Bytes of ``bundle.toml``."""

MAX_IMAGES: Final = 16
MAX_IMAGE: Final = 32 * 1024 * 1024
"""Bytes of one image: more than the flash of any chip that the flashers know."""

_MAX_ADDRESS: Final = 0xFFFF_FFFF
_MAX_LIST: Final = 64
_MAX_DOTS: Final = 100
"""In one line: a key of thousands of parts takes the parser many seconds."""
_ESP_SECTOR: Final = 4096
"""Bytes that an ESP chip erases at once."""
_LONG_TEXT: Final = 256

LOCKERS: Final = ("device", "esp", "stm32", "probe")
"""Who can do a step of the lock-down."""

Option: TypeAlias = str | int | bool

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_MEMBER: Final = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]*(?:/[0-9A-Za-z_][0-9A-Za-z_.-]*){0,3}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_CHIP: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]*")
"""As the tools name chips; it stands in their command lines, so it may not look like an option."""
_RESERVED: Final = {"bundle.toml", "signature.json"}


class UnitFormat(Enum):
    """Files with data of one unit, by the names that stand in a bundle (``firmware_tools.unit_files``)."""

    ESP_NVS = "esp-nvs"
    ZEPHYR_NVS = "zephyr-nvs"
    MATTER_TLV = "matter-tlv"
    CBOR = "cbor"


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One image, as the bundle lists it."""

    name: str
    file: str
    """Its member in the zip; in a plan a path beside the plan."""
    address: int
    """As ``firmware_tools.flashers.Placed.address``."""
    size: int | None
    sha256: bytes | None
    """32 bytes; both are there but in a plan."""


@dataclass(frozen=True, slots=True)
class UnitEntry:
    """One value in a unit's file."""

    key: str
    type: str
    value: str
    """Text with names of facts in braces: ``{product_serial}``."""


@dataclass(frozen=True, slots=True)
class UnitFile:
    """A file that is made for each unit and flashed with the images."""

    name: str
    format: UnitFormat
    address: int
    size: int
    """Bytes that it fills."""
    entries: tuple[UnitEntry, ...]
    options: Mapping[str, Option] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LockStep:
    """One step of the lock-down; ``station.locking`` says what each does."""

    name: str
    """For people and the record: ``debug``, ``JTAG``, ``read-out protection``."""
    by: str
    """Who does it: ``device`` (the board's own command), ``esp``, ``stm32`` or ``probe``."""
    arguments: tuple[str, ...]
    irreversible: bool


@dataclass(frozen=True, slots=True)
class BundleManifest:
    """All of ``bundle.toml``."""

    product: str
    version: Version
    kind: FlasherKind
    chip: str
    images: tuple[ImageEntry, ...]
    running: bytes | None = None
    """As ``firmware_tools.flashers.Payload.running``."""
    minimum_bootloader: Version | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    lock_plan: tuple[LockStep, ...] = ()
    unit_files: tuple[UnitFile, ...] = ()


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
        _refuse(name, f"it is longer than {MAX_MANIFEST} bytes")
    if any(line.count(b".") > _MAX_DOTS for line in content.splitlines()):
        _refuse(name, f"a line has more than {_MAX_DOTS} dots; write tables in place of dotted keys")
    try:
        said = tomllib.loads(content.decode())
    except UnicodeDecodeError:
        _refuse(name, "it is not UTF-8")
    except (ValueError, RecursionError) as error:  # ValueError alone: a number of thousands of digits
        _refuse(name, f"not TOML: {error}"[:200])
    top = _Table(said, name, "")
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
        lock_plan=tuple(_lock_step(one) for one in top.tables("lock", _MAX_LIST)),
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


def with_images(manifest: BundleManifest, images: tuple[ImageEntry, ...], running: bytes | None) -> BundleManifest:
    """Return the manifest of a plan, completed."""
    return replace(manifest, images=images, running=running)


def _image(table: "_Table", *, is_plan: bool) -> ImageEntry:
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


def _unit_file(table: "_Table") -> UnitFile:
    made = UnitFile(
        name=table.pattern("name", _NAME, 'name = "factory-data"'),
        format=UnitFormat(table.one_of("format", [one.value for one in UnitFormat])),
        address=table.integer("address", 0, _MAX_ADDRESS, "address = 0x9000"),
        size=table.integer("size", 1, MAX_IMAGE, "size = 0x6000"),
        options=table.options("options"),
        entries=tuple(_entry(one) for one in table.tables("entry", _MAX_LIST)),
    )
    table.close()
    return made


def _entry(table: "_Table") -> UnitEntry:
    entry = UnitEntry(
        key=table.text("key", 'key = "factory/serial"'),
        type=table.text("type", 'type = "string"'),
        value=table.text("value", 'value = "{product_serial}"', most=1024),
    )
    table.close()
    return entry


def _lock_step(table: "_Table") -> LockStep:
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
        _refuse(name, "it lists no image; add an [[image]]")
    placed = [(image.name, image.address, image.size or 1) for image in manifest.images]
    placed += [(unit.name, unit.address, unit.size) for unit in manifest.unit_files]
    for what, values in (("name", [one[0] for one in placed]), ("file", [one.file for one in manifest.images])):
        for value in values:
            if values.count(value) > 1:
                _refuse(name, f"two images have the {what} {value!r}; each needs its own")
    in_bytes = manifest.kind is not FlasherKind.SMP
    if in_bytes and manifest.chip and not _CHIP.fullmatch(manifest.chip):
        _refuse(name, f"'chip' in [flash] is {manifest.chip!r}; write it as the tool names it, like esp32c3")
    for one, start, size in placed if in_bytes else ():
        if start + size - 1 > _MAX_ADDRESS:
            _refuse(name, f"{one!r} ends beyond {_MAX_ADDRESS:#x}; correct its address")
    for (one, start, size), (two, above, _) in pairwise(sorted(placed, key=lambda entry: entry[1])):
        if above < start + (size if in_bytes else 1):
            _refuse(name, f"{one!r} and {two!r} overlap at address {above:#x}; correct an address")
        if manifest.kind is FlasherKind.ESP and above // _ESP_SECTOR <= (start + size - 1) // _ESP_SECTOR:
            _refuse(
                name,
                f"{one!r} and {two!r} share a sector of {_ESP_SECTOR} bytes at {above:#x}: writing one erases the "
                "other; correct an address",
            )


def _version(table: "_Table", key: str) -> Version:
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


def _refuse(name: str, what: str) -> NoReturn:
    raise BundleError(f"{name}: {what}", code="bundle.manifest")


class _Table:
    """One table, of which each key is taken."""

    def __init__(self, content: Mapping[str, Any], file: str, where: str) -> None:
        self._content = dict(content)
        self._file = file
        self._where = where
        self._known: list[str] = []

    def refuse(self, key: str, what: str) -> NoReturn:
        _refuse(self._file, f"{key!r}{f' in {self._where}' if self._where else ''} {what}")

    def has(self, key: str) -> bool:
        self._known.append(key)
        return key in self._content

    def _take(self, key: str, kind: type, example: str) -> Any:  # noqa: ANN401 - what TOML holds
        self._known.append(key)
        if key not in self._content:
            self.refuse(key, f"is missing; add {example}")
        value = self._content.pop(key)
        if type(value) is not kind:
            self.refuse(key, f"is of another type; write {example}")
        return value

    def text(self, key: str, example: str, *, most: int = 64) -> str:
        value: str = self._take(key, str, example)
        if not (0 < len(value) <= most and value.isascii() and value.isprintable()):
            self.refuse(key, f"takes 1 to {most} printable ASCII characters; write {example}")
        return value

    def pattern(self, key: str, pattern: re.Pattern[str], example: str) -> str:
        value = self.text(key, example, most=128)
        if not pattern.fullmatch(value):
            self.refuse(key, f"is {value!r}; write something like {example}")
        return value

    def one_of(self, key: str, known: tuple[str, ...] | list[str]) -> str:
        value = self.text(key, f'{key} = "{known[0]}"')
        if value not in known:
            self.refuse(key, f"is {value!r}; known: {', '.join(known)}")
        return value

    def integer(self, key: str, low: int, high: int, example: str) -> int:
        value: int = self._take(key, int, example)
        if not low <= value <= high:
            self.refuse(key, f"is too {'small' if value < low else 'large'}; write a number from {low} to {high}")
        return value

    def flag(self, key: str, example: str) -> bool:
        value: bool = self._take(key, bool, example)
        return value

    def texts(self, key: str, example: str) -> tuple[str, ...]:
        value = self._take(key, list, example)
        fitting = [one for one in value if isinstance(one, str) and len(one) <= _LONG_TEXT and one.isascii()]
        if len(fitting) != len(value) or len(value) > _MAX_LIST or not all(one.isprintable() for one in fitting):
            self.refuse(key, f"takes at most {_MAX_LIST} short texts; write {example}")
        return tuple(fitting)

    def digest(self, key: str) -> bytes:
        value = self.text(key, f'{key} = "<64 hexadecimal digits>"')
        if not _SHA256.fullmatch(value):
            self.refuse(key, "is not a SHA-256; write its 64 hexadecimal digits, in lower case")
        return bytes.fromhex(value)

    def table(self, key: str) -> "_Table":
        return _Table(self._take(key, dict, f"[{key}]"), self._file, f"[{key}]")

    def tables(self, key: str, most: int) -> list["_Table"]:
        if not self.has(key):
            return []
        value = self._take(key, list, f"[[{key}]]")
        if len(value) > most or not all(isinstance(one, dict) for one in value):
            self.refuse(key, f"takes at most {most} tables; write [[{key}]] above each")
        return [_Table(one, self._file, f"[[{key}]] {number}") for number, one in enumerate(value, start=1)]

    def options(self, key: str) -> Mapping[str, Option]:
        if not self.has(key):
            return MappingProxyType({})
        table = _Table(self._take(key, dict, f"[{key}]"), self._file, key)
        return MappingProxyType({name: table.option(name) for name in list(table._content)})

    def option(self, key: str) -> Option:
        value = self._content.pop(key)
        if not re.fullmatch(r"[a-z0-9_-]{1,32}", key):
            self.refuse(key, "is no name of an option; write lower-case letters, digits, _ and -")
        if isinstance(value, bool):
            return value
        if isinstance(value, int) and abs(value) <= _MAX_ADDRESS:
            return value
        if isinstance(value, str) and len(value) <= _LONG_TEXT and value.isascii() and value.isprintable():
            return value
        return self.refuse(key, "takes a short text, a number of 32 bits, or true or false")

    def close(self) -> None:
        for key in self._content:
            self.refuse(str(key)[:40], f"is unknown; known: {', '.join(dict.fromkeys(self._known))}")
