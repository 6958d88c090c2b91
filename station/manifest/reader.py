"""Reading the manifest: beside the daemon, or on a copy."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Final

from hsm.durable import Reader
from hsm.serials import SERIAL_DIGITS
from station.manifest.records import ISSUANCE_COLUMNS, UNITS_WITH_ISSUANCE, issuance_of, unit_of
from station.manifest.rows import (
    EventRecord,
    OrderRecord,
    OrderTerms,
    PassedUnit,
    ProofRecord,
    RevocationEntry,
    UnitHistory,
    UnitRecord,
    UnitState,
)
from station.manifest.schema import MANIFEST

_HEX: Final = re.compile(r"[0-9a-fA-F:]+")
_DIGEST_DIGITS: Final = 64

_EXPORT: Final = """
SELECT unit.product_serial, unit.hardware_id, unit.model, production_order.name, unit.firmware_version,
       unit.firmware_sha256, issuance.certificate_serial, issuance.spki_sha256, issuance.certificate, proof.at,
       proof.locks
FROM unit JOIN production_order ON production_order.id = unit.order_id
LEFT JOIN issuance ON issuance.unit_id = unit.id AND issuance.state <> 'void'
LEFT JOIN proof ON proof.issuance_id = issuance.id
"""

_REVOKED: Final = """
SELECT issuance.certificate_serial, unit.hardware_id, unit.product_serial, production_order.name,
       issuance.certificate, issuance.changed_at, issuance.void_reason
FROM issuance INDEXED BY void_issuance JOIN unit ON unit.id = issuance.unit_id
JOIN production_order ON production_order.id = unit.order_id
WHERE issuance.state = 'void' ORDER BY issuance.unit_id, issuance.id
"""

# Two halves, as the two partial indexes have them.
_ISSUANCES: Final = f"""
SELECT {ISSUANCE_COLUMNS} FROM issuance WHERE unit_id = ?1 AND state <> 'void'
UNION ALL SELECT {ISSUANCE_COLUMNS} FROM issuance WHERE unit_id = ?1 AND state = 'void' ORDER BY 1
"""  # noqa: S608  # our own column names


class ManifestReader(Reader):
    """A manifest, to be read. Iterators read as they go, so that memory stays flat; finish or drop them soon."""

    def __init__(self, path: Path) -> None:
        """Open the manifest.

        Args:
            path: the file, in use or not; a copy in a read-only folder will do.

        Raises:
            ManifestError: no such file, newer, older, foreign, or damaged.
        """
        super().__init__(MANIFEST, path)

    def counts(self) -> dict[UnitState, int]:
        """Return how many units are in each state."""
        counts = dict.fromkeys(UnitState, 0)
        for state, count in self.rows("SELECT state, count(*) FROM unit INDEXED BY unit_by_order GROUP BY state"):
            counts[UnitState(state)] = count
        return counts

    def orders(self) -> tuple[OrderRecord, ...]:
        """Return the orders, oldest first, with how far each is."""
        units: dict[object, dict[UnitState, int]] = {}
        for order, state, count in self.rows("SELECT order_id, state, count(*) FROM unit GROUP BY order_id, state"):
            units.setdefault(order, {})[UnitState(state)] = count
        rows = self.rows(
            "SELECT id, reserved, opened_at, name, product, profile, quantity, serial_format, first_number "
            "FROM production_order ORDER BY id"
        )
        return tuple(
            OrderRecord(
                OrderTerms(*terms),
                reserved,
                opened_at,
                MappingProxyType(dict.fromkeys(UnitState, 0) | units.get(order, {})),
            )
            for order, reserved, opened_at, *terms in rows
        )

    def units(
        self,
        *,
        state: UnitState | None = None,
        order: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[UnitRecord]:
        """Iterate over units in the order in which they were seen first.

        Args:
            state: only these.
            order: only those of the order with this name.
            limit: at most so many.
            newest_first: the other way round.
        """
        where, parameters = _filter(state, order)
        direction = "DESC" if newest_first else "ASC"
        sql = f"{UNITS_WITH_ISSUANCE} {where} ORDER BY unit.id {direction} LIMIT ?"
        return map(unit_of, self.rows(sql, *parameters, -1 if limit is None else limit))

    def unit(self, identity: str) -> UnitHistory | None:
        """Find a unit with its issuances, proof and events.

        Args:
            identity: its product serial, hardware id, certificate serial (hex, also of a void one) or the SHA-256 of
                its public key (64 hex digits).

        Returns:
            The unit, or None. Where a text is one unit's serial and another's hardware id, the serial counts.
        """
        unit_id = self._identified(identity)
        if unit_id is None:
            return None
        unit = unit_of(next(self.rows(f"{UNITS_WITH_ISSUANCE} WHERE unit.id = ?", unit_id)))
        issuances = tuple(issuance_of(row) for row in self.rows(_ISSUANCES, unit_id))
        proof = None if unit.issuance is None else self._proof(unit.issuance.id)
        return UnitHistory(unit, issuances, proof, tuple(self.events(unit_id=unit_id)))

    def _proof(self, issuance_id: int) -> ProofRecord | None:
        row = next(
            self.rows(
                "SELECT issuance_id, challenge, message, signature, read_back_sha256, locks, seconds, at FROM proof "
                "WHERE issuance_id = ?",
                issuance_id,
            ),
            None,
        )
        return None if row is None else ProofRecord(*row)

    def _identified(self, identity: str) -> int | None:
        searches: list[tuple[str, object]] = [
            ("SELECT id FROM unit WHERE product_serial = ?", identity),
            ("SELECT id FROM unit WHERE hardware_id = ?", identity),
        ]
        digits = identity.replace(":", "").lower()
        if _HEX.fullmatch(identity) and len(digits.lstrip("0")) <= SERIAL_DIGITS:
            padded = digits.lstrip("0").zfill(SERIAL_DIGITS)
            searches.append(("SELECT unit_id FROM issuance WHERE certificate_serial = ?", padded))
        if _HEX.fullmatch(identity) and len(digits) == _DIGEST_DIGITS:
            searches.append(("SELECT unit_id FROM public_key WHERE spki_sha256 = ?", bytes.fromhex(digits)))
        for sql, parameter in searches:
            row = next(self.rows(sql, parameter), None)
            if row is not None:
                return int(row[0])
        return None

    def events(self, *, unit_id: int | None = None, after: int = 0) -> Iterator[EventRecord]:
        """Iterate over events in their order.

        Args:
            unit_id: only of this unit.
            after: only with a greater id; a program that follows the events passes the last one it saw.
        """
        columns = "SELECT id, at, unit_id, slot, step, kind, facts FROM event WHERE id > ?"
        rows = (
            self.rows(f"{columns} ORDER BY id", after)
            if unit_id is None
            else self.rows(f"{columns} AND unit_id = ? ORDER BY id", after, unit_id)
        )
        for *fields, facts in rows:
            yield EventRecord(*(*fields, MappingProxyType(json.loads(facts))))

    def revocation_list(self) -> Iterator[RevocationEntry]:
        """Iterate over the certificates that were given up, signed or perhaps signed: none is to be accepted."""
        for serial, *fields in self.rows(_REVOKED):
            yield RevocationEntry(int(serial, 16), *fields)

    def export(self, *, state: UnitState | None = UnitState.PASSED, order: str | None = None) -> Iterator[PassedUnit]:
        """Iterate over units as exports have them.

        Args:
            state: only these; None for all.
            order: only those of the order with this name.
        """
        where, parameters = _filter(state, order)
        for row in self.rows(f"{_EXPORT} {where} ORDER BY unit.id", *parameters):
            serial = None if row[6] is None else int(row[6], 16)
            yield PassedUnit(*(*row[:6], serial, *row[7:]))


def _filter(state: UnitState | None, order: str | None) -> tuple[str, list[object]]:
    """Return a WHERE clause and its parameters."""
    chosen = [("unit.state = ?", state), ("production_order.name = ?", order)]
    clauses = [clause for clause, value in chosen if value is not None]
    parameters: list[object] = [str(value) for _, value in chosen if value is not None]
    return f"WHERE {' AND '.join(clauses)}" if clauses else "", parameters
