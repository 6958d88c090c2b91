"""From rows of SQLite to values. The schema's tables are STRICT, so a column has the type it says."""

from typing import Final

from hsm.durable import Row
from station.manifest.rows import IssuanceRecord, IssuanceState, UnitRecord, UnitState

ISSUANCE_COLUMNS: Final = (
    "issuance.id, issuance.unit_id, issuance.state, issuance.spki_sha256, issuance.certificate_serial, issuance.tbs, "
    "issuance.tbs_sha256, issuance.signing_tries, issuance.certificate, issuance.certificate_sha256, "
    "issuance.intended_at, issuance.changed_at, issuance.void_reason"
)

STATE: Final = "CASE unit.life WHEN 'normal' THEN unit.state ELSE unit.life END"
"""What a unit is now: what became of it after the pass counts more than the pass."""

_UNIT_COLUMNS: Final = (
    "unit.id, unit.hardware_id, unit.product_serial, production_order.name, unit.model, unit.firmware_version, "
    f"unit.firmware_sha256, {STATE}, unit.attempts, unit.slot, unit.first_seen_at, unit.changed_at, "
    "unit.failure_code, unit.failure_sentence, unit.failure_step, unit.mac"
)
_UNIT_WIDTH: Final = _UNIT_COLUMNS.count(",") + 1

UNITS_WITH_ISSUANCE: Final = (
    f"SELECT {_UNIT_COLUMNS}, {ISSUANCE_COLUMNS} FROM unit "  # noqa: S608  # our own column names
    "JOIN production_order ON production_order.id = unit.order_id "
    "LEFT JOIN issuance ON issuance.unit_id = unit.id AND issuance.state <> 'void'"
)
"""Units with their live issuance, if any; a WHERE clause may follow."""

PROOF: Final = "SELECT issuance_id, challenge, message, signature, read_back_sha256, locks, seconds, at FROM proof"
"""The columns of a ``ProofRecord``; a WHERE clause may follow."""


def issuance_of(row: Row) -> IssuanceRecord:
    """Parse a row of ``ISSUANCE_COLUMNS``."""
    return IssuanceRecord(row[0], row[1], IssuanceState(row[2]), row[3], int(row[4], 16), *row[5:])


def unit_of(row: Row) -> UnitRecord:
    """Parse a row of ``UNITS_WITH_ISSUANCE``."""
    issuance = row[_UNIT_WIDTH:]
    live = None if issuance[0] is None else issuance_of(issuance)
    return UnitRecord(*(*row[:7], UnitState(row[7]), *row[8:_UNIT_WIDTH], live))
