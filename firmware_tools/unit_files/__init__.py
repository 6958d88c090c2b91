"""Files with the data of one unit, flashed beside its images: made in memory, of what is known of the unit.

A bundle says which values go where (``[[unit_data]]``); the line knows the facts. ``make_unit_file`` joins them:

=============  ================================================================  =============================
format         what it is                                                        key of an entry
=============  ================================================================  =============================
``esp-nvs``    NVS partition of ESP-IDF (``esp_nvs.py``); Matter on ESP reads it  ``namespace/key``
``zephyr-nvs`` settings of Zephyr in its NVS (``zephyr_nvs.py``)                 name of the setting
``matter-tlv`` one structure in the TLV of Matter (``containers.py``)            context tag, ``0`` to ``255``
``cbor``       one CBOR map (``containers.py``); nRF Connect's factory data      name in the map
=============  ================================================================  =============================

Nothing here touches a disk. Codes of ``UnitFileError``: ``unit_file.invalid`` (an entry or option makes no sense),
``unit_file.fact_missing``, ``unit_file.value`` (a fact does not fit its type), ``unit_file.too_large``,
``unit_file.tool_missing``.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from firmware_tools.bundles.manifest import UnitFile, UnitFormat
from firmware_tools.errors import UnitFileError
from firmware_tools.flashers import Placed
from firmware_tools.unit_files import containers, esp_nvs, zephyr_nvs
from firmware_tools.unit_files.values import FACTS, Fact, Format, UnitFacts, Value, check_entries, filled, needed_facts

__all__ = [
    "FACTS",
    "Fact",
    "UnitFacts",
    "UnitFileError",
    "Value",
    "check_unit_file",
    "make_unit_file",
    "needed_facts",
    "values_of",
]

_FORMATS: Final[Mapping[UnitFormat, Format]] = {
    UnitFormat.ESP_NVS: esp_nvs.FORMAT,
    UnitFormat.ZEPHYR_NVS: zephyr_nvs.FORMAT,
    UnitFormat.MATTER_TLV: containers.MATTER_TLV,
    UnitFormat.CBOR: containers.CBOR,
}
_ERASED: Final = b"\xff"


def check_unit_file(unit_file: UnitFile) -> None:
    """Refuse a plan that could make no file, whatever the unit.

    Raises:
        UnitFileError: ``unit_file.invalid``.
    """
    check_entries(unit_file)
    _FORMATS[unit_file.format].check(unit_file)


def values_of(unit_file: UnitFile, facts: UnitFacts) -> tuple[Value, ...]:
    """Return what goes into a file for one unit.

    Raises:
        UnitFileError: a fact is missing, or does not fit.
    """
    return filled(unit_file, facts)


def make_unit_file(unit_file: UnitFile, facts: UnitFacts) -> Placed:
    """Make a file for one unit, as large as the plan says.

    Args:
        unit_file: from the bundle.
        facts: of the unit.

    Raises:
        UnitFileError: a fact is missing or does not fit, or all of it does not fit into the file.
    """
    values = filled(unit_file, facts)
    content = _FORMATS[unit_file.format].make(unit_file, values)
    if len(content) > unit_file.size:
        raise UnitFileError(
            f"{unit_file.name}: the data take {len(content)} bytes, and the bundle gives them {unit_file.size}; make "
            "the partition larger, or leave something out",
            code="unit_file.too_large",
        )
    whole = content + _ERASED * (unit_file.size - len(content))
    is_secret = any(value.is_secret for value in values)
    return Placed(unit_file.name, whole, unit_file.address, hashlib.sha256(whole).digest(), is_secret=is_secret)
