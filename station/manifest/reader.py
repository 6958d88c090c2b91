"""Reading the manifest: beside the daemon, or on a copy."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Final

from hsm.durable import Reader
from station.manifest.firmware import COLUMNS as FIRMWARE_COLUMNS
from station.manifest.firmware import NEWEST, FirmwareRecord, newest_version
from station.manifest.handing import Lacking
from station.manifest.identities import searches
from station.manifest.life import LIFE_ACTS, LifeAct, life_act_of
from station.manifest.order_journal import OrderCount, count_orders
from station.manifest.order_operations import ORDER_COLUMNS, terms_of
from station.manifest.records import ISSUANCE_COLUMNS, PROOF, STATE, UNITS_WITH_ISSUANCE, issuance_of, unit_of
from station.manifest.rows import (
    DeskRefusal,
    EventRecord,
    OrderRecord,
    OrderResume,
    PassedUnit,
    ProofRecord,
    RevocationEntry,
    UnitHistory,
    UnitRecord,
    UnitState,
)
from station.manifest.schema import MANIFEST

_LIVES: Final = (UnitState.RMA, UnitState.SCRAPPED)

_EXPORT: Final = """
SELECT unit.product_serial, unit.hardware_id, unit.model, production_order.name, unit.firmware_version,
       unit.firmware_sha256, issuance.certificate_serial, issuance.spki_sha256, issuance.certificate, proof.at,
       proof.locks, unit.mac, unit.id, issuance.id
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

# In the order of the index first: grouping a million units by an expression would sort them all.
_COUNTS: Final = f"""
SELECT order_id, {STATE}, sum(units) FROM (
    SELECT order_id, state, life, count(*) AS units FROM unit INDEXED BY unit_by_order GROUP BY 1, 2, 3) AS unit
GROUP BY 1, 2
"""  # noqa: S608  # our own expression

_HOLDERS: Final = """
SELECT order_id, count(*) FROM unit INDEXED BY unit_with_serial WHERE product_serial IS NOT NULL GROUP BY order_id
UNION ALL SELECT order_id, count(*) FROM desk_serial GROUP BY order_id
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
        for _order, state, count in self.rows(_COUNTS):
            counts[UnitState(state)] += count
        return counts

    def firmware(self) -> tuple[FirmwareRecord, ...]:
        """Return the bundles that the line worked by, oldest first."""
        rows = self.rows(f"SELECT {FIRMWARE_COLUMNS} FROM firmware ORDER BY id")  # noqa: S608  # our own names
        return tuple(FirmwareRecord(*row) for row in rows)

    def newest_firmware(self, product: str) -> tuple[str, str] | None:
        """Return rank and text of the highest version of a product that was here."""
        return newest_version(next(self.rows(NEWEST, product), None))

    def order_names(self) -> tuple[str, ...]:
        """Return the names of the orders, oldest first; unlike ``orders`` it does not look at their units."""
        return tuple(name for (name,) in self.rows("SELECT name FROM production_order ORDER BY id"))

    def orders(self) -> tuple[OrderRecord, ...]:
        """Return the orders, oldest first, with how far each is."""
        units: dict[object, dict[UnitState, int]] = {}
        for order, state, count in self.rows(_COUNTS):
            units.setdefault(order, {})[UnitState(state)] = count
        holders: dict[object, int] = {}
        for order, count in self.rows(_HOLDERS):
            holders[order] = holders.get(order, 0) + count
        rows = self.rows(
            f"SELECT id, reserved, opened_at, returned, closed_at, closed_reason, burned, suspended_at, "  # noqa: S608
            f"suspended_reason, {ORDER_COLUMNS} FROM production_order ORDER BY id"
        )
        return tuple(
            OrderRecord(
                terms_of(terms),
                reserved,
                opened_at,
                MappingProxyType(dict.fromkeys(UnitState, 0) | units.get(order, {})),
                returned,
                holders.get(order, 0),
                *closed,
            )
            for order, reserved, opened_at, returned, *closed, terms in ((*row[:9], row[9:]) for row in rows)
        )

    def count_orders(self, before: OrderCount | None = None) -> OrderCount:
        """Return what the journal tells of each order.

        Args:
            before: an earlier count that is trusted, to go on from; without one all events are read, which takes ten
                seconds at a million units.
        """
        terms = self.rows(f"SELECT {ORDER_COLUMNS} FROM production_order ORDER BY id")  # noqa: S608  # our own columns
        return count_orders(self.rows, [terms_of(row) for row in terms], before)

    def order_resumes(self, order: str) -> tuple[OrderResume, ...]:
        """Return what was decided about an order, oldest first."""
        sql = (
            "SELECT taken, order_resume.burned, reason, actor, os_user, at FROM order_resume "
            "JOIN production_order ON production_order.id = order_id WHERE name = ? ORDER BY order_resume.id"
        )
        return tuple(OrderResume(*row) for row in self.rows(sql, order))

    def desk_refusals(self, order: str) -> tuple[DeskRefusal, ...]:
        """Return the requests that took a serial of an order and were refused then; the CA's journal knows the rest."""
        sql = (
            "SELECT product_serial, spki_sha256, code, reason, desk_refusal.at FROM desk_refusal "
            "JOIN desk_serial USING (product_serial) JOIN production_order ON production_order.id = order_id "
            "WHERE name = ? ORDER BY desk_refusal.at, product_serial"
        )
        return tuple(DeskRefusal(*row) for row in self.rows(sql, order))

    def identity(self) -> str:
        """Return the random id of this manifest, 32 hexadecimal digits."""
        (row,) = self.rows("SELECT uuid FROM manifest_identity")
        return str(row[0])

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
        return UnitHistory(unit, issuances, proof, tuple(self.events(unit_id=unit_id)), self.life(unit_id))

    def _proof(self, issuance_id: int) -> ProofRecord | None:
        row = next(
            self.rows(f"{PROOF} WHERE issuance_id = ?", issuance_id),
            None,
        )
        return None if row is None else ProofRecord(*row)

    def _identified(self, identity: str) -> int | None:
        for sql, parameter in searches(identity):
            row = next(self.rows(sql, parameter), None)
            if row is not None:
                return int(row[0])
        return None

    def life(self, unit_id: int) -> tuple[LifeAct, ...]:
        """Return what became of a unit, oldest first; of a unit that took another one's place, that act too."""
        sql = f"{LIFE_ACTS} WHERE unit_id = ?1 OR other_unit_id = ?1 ORDER BY life_act.id"
        return tuple(map(life_act_of, self.rows(sql, unit_id)))

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

    def export(
        self,
        *,
        state: UnitState | None = UnitState.PASSED,
        order: str | None = None,
        lacking: Lacking | None = None,
    ) -> Iterator[PassedUnit]:
        """Iterate over units as exports have them.

        Args:
            state: only these; None for all.
            order: only those of the order with this name.
            lacking: only those that a recipient lacks (``station.manifest.handing``); they have a certificate then.
        """
        where, parameters = _filter(state, order)
        if lacking is not None:
            clause, more = lacking.clause()
            where, parameters = f"{where} {'AND' if where else 'WHERE'} {clause}", [*parameters, *more]
        for row in self.rows(f"{_EXPORT} {where} ORDER BY unit.id", *parameters):
            serial = None if row[6] is None else int(row[6], 16)
            yield PassedUnit(*(*row[:6], serial, *row[7:]))


def _filter(state: UnitState | None, order: str | None) -> tuple[str, list[object]]:
    """Return a WHERE clause and its parameters."""
    clauses, parameters = [], list[object]()
    if state is not None:
        clauses.append("unit.life = ?" if state in _LIVES else "unit.state = ? AND unit.life = 'normal'")
        parameters.append(UnitState(state).value)  # callers may pass the text
    if order is not None:
        clauses.append("production_order.name = ?")
        parameters.append(order)
    return f"WHERE {' AND '.join(clauses)}" if clauses else "", parameters
