"""What an image can be told to be before a board is touched: an MCUboot image, or one for a certain ESP chip."""

from types import MappingProxyType
from typing import Final

from firmware_tools.flashers import FlasherKind, Placed
from firmware_tools.mcuboot_image import NotMcuboot, is_mcuboot, read_mcuboot

ESP_MAGIC: Final = 0xE9
_ESP_CHIP_AT: Final = 12
_ESP_HEADER: Final = 24

ESP_CHIPS: Final = MappingProxyType(
    {
        "esp32": 0,
        "esp32s2": 2,
        "esp32c3": 5,
        "esp32s3": 9,
        "esp32c2": 12,
        "esp32c6": 13,
        "esp32h2": 16,
        "esp32p4": 18,
        "esp32c61": 20,
        "esp32c5": 23,
    }
)
"""Chip id in the extended header of an application or bootloader (esptool, "Firmware Image Format")."""


def check_image(kind: FlasherKind, chip: str, image: Placed) -> str | None:
    """Return what is wrong with an image; None if nothing can be told to be.

    Args:
        kind: which flasher it is for.
        chip: as ``Payload.chip``.
        image: the image.
    """
    if kind is FlasherKind.SMP or is_mcuboot(image.content):
        try:
            read_mcuboot(image.content)
        except NotMcuboot as error:
            return f"is not for MCUboot: {error}"
    if kind is FlasherKind.ESP:
        return _esp_fault(chip, image.content)
    return None


def _esp_fault(chip: str, content: bytes) -> str | None:
    wanted = ESP_CHIPS.get(chip.lower().replace("-", ""))
    if wanted is None:
        return f"is for chip {chip!r}, which is none that is known here; known: {', '.join(ESP_CHIPS)}"
    if len(content) < _ESP_HEADER or content[0] != ESP_MAGIC:
        return None  # a partition table, a file system
    found = int.from_bytes(content[_ESP_CHIP_AT : _ESP_CHIP_AT + 2], "little")
    if found != wanted:
        name = next((name for name, number in ESP_CHIPS.items() if number == found), f"chip id {found}")
        return f"is for {name}, and the bundle is for {chip}; take the image that was built for it"
    return None
