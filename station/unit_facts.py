"""What the manifest knows of a unit, as facts for a file with its data; and which such files a line can write.

``station.line.unit_data`` writes them.
"""

from collections.abc import Mapping
from typing import Final

from firmware_tools.bundles.bundle import Bundle
from firmware_tools.flashers import FlasherKind
from firmware_tools.unit_files import Fact, UnitFacts, needed_facts
from station.errors import ConfigError
from station.manifest import UnitRecord

_WRITES_PARTS: Final = (FlasherKind.ESP, FlasherKind.PROBE)
"""Loaders that write a part of the flash and leave the rest: the firmware is there already."""

_LABELLED: Final = "matter_"
"""How facts begin whose other half has to stand on the unit's label."""


def facts_of(record: UnitRecord, more: Mapping[str, Fact] | None = None) -> UnitFacts:
    """Return what is known of a unit; a fact that it has not got yet is left out.

    Args:
        record: the unit's row.
        more: facts that no row holds: those of Matter, the issuer's certificate.
    """
    certificate = None if record.issuance is None else record.issuance.certificate
    known: Mapping[str, Fact | None] = {
        "product_serial": record.product_serial,
        "hardware_id": record.hardware_id,
        "mac": record.mac,
        "model": record.model,
        "order": record.order,
        "firmware_version": record.firmware_version,
        "certificate": certificate,
    }
    return UnitFacts({name: fact for name, fact in known.items() if fact is not None} | dict(more or {}))


def check_unit_data(bundle: Bundle) -> None:
    """Refuse, when the line starts, data that it could not write.

    Raises:
        ConfigError: ``config.firmware``.
    """
    if not bundle.unit_files:
        return
    kind = bundle.payload.kind
    names = ", ".join(unit_file.name for unit_file in bundle.unit_files)
    if kind not in _WRITES_PARTS:
        raise ConfigError(
            f"the bundle has data of single units ({names}), and its loader {kind.value!r} can't write a part of the "
            f"flash; {' and '.join(one.value for one in _WRITES_PARTS)} can",
            code="config.firmware",
        )
    needed = {fact for unit_file in bundle.unit_files for fact in needed_facts(unit_file)}
    if labelled := sorted(fact for fact in needed if fact.startswith(_LABELLED)):
        raise ConfigError(
            f"the bundle's data of single units ({names}) name {', '.join(labelled)}, whose passcode has to be printed "
            "on the unit, and the line prints no labels yet",
            code="config.firmware",
        )
