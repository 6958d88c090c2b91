"""The columns of an export, and their values as text.

====================  ================================================================================================
product_serial        what stands on the label
hardware_id           what the board calls itself
model                 product model of its firmware
order                 name of the production order
firmware_version      as the board reported it
firmware_sha256       64 hex digits
certificate_serial    40 hex digits
spki_sha256           SHA-256 of the SubjectPublicKeyInfo, 64 hex digits
certificate           the device's certificate, PEM (RFC 7468)
passed_at             UTC, ``2026-01-31T12:34:56.789Z``
locks                 what was observed to be closed, names joined by a space: ``debug credentials``
mac                   MAC address (EUI-48) that its order gave it, ``02:00:00:00:00:01``
====================  ================================================================================================

A value that a unit does not have (it has not passed yet, its order gives no MAC address) is None.
"""

import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from firmware_tools.provisioning import Locks
from hsm.serials import serial_text
from station.manifest import PassedUnit

COLUMNS: Final = (
    "product_serial",
    "hardware_id",
    "model",
    "order",
    "firmware_version",
    "firmware_sha256",
    "certificate_serial",
    "spki_sha256",
    "certificate",
    "passed_at",
    "locks",
    "mac",
)


@lru_cache(maxsize=256)
def locks_text(locks: int) -> str:
    """Return the names of the locks; a bit without a name (another device language) as a number, so none gets lost."""
    names = [str(lock.name).lower() for lock in Locks if lock & locks]
    unnamed = locks & ~sum(Locks)
    return " ".join([*names, hex(unnamed)] if unnamed else names)


def values(unit: PassedUnit) -> Mapping[str, str | None]:
    """Return a unit's values by column, in the order of ``COLUMNS``."""
    return {
        "product_serial": unit.product_serial,
        "hardware_id": unit.hardware_id,
        "model": unit.model,
        "order": unit.order,
        "firmware_version": unit.firmware_version,
        "firmware_sha256": unit.firmware_sha256.hex(),
        "certificate_serial": None if unit.certificate_serial is None else serial_text(unit.certificate_serial),
        "spki_sha256": None if unit.spki_sha256 is None else unit.spki_sha256.hex(),
        "certificate": None if unit.certificate is None else ssl.DER_cert_to_PEM_cert(unit.certificate),
        "passed_at": unit.passed_at,
        "locks": None if unit.locks is None else locks_text(unit.locks),
        "mac": unit.mac,
    }
