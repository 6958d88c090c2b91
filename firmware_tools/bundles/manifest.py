"""What a firmware bundle says of itself, as Python types: all that stands in its member ``bundle.toml``.

``manifest_toml.py`` reads and writes the file. Knows nothing of: TOML, zip files, signatures, boards.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, TypeAlias

from firmware_tools.flashers import FlasherKind
from firmware_tools.version import Version

MAX_IMAGE: Final = 32 * 1024 * 1024
"""Bytes of one image: more than the flash of any chip that the flashers know."""

Option: TypeAlias = str | int | bool


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


def with_images(manifest: BundleManifest, images: tuple[ImageEntry, ...], running: bytes | None) -> BundleManifest:
    """Return the manifest of a plan, completed."""
    return replace(manifest, images=images, running=running)
