"""What was handed out to whom, what came of it, and lists from elsewhere: the rows of ``schema_5.sql``.

An export is begun once its files are complete (``begin``), filled with its units in pieces, so that no transaction is
long (``add``), and handed out last (``hand_out``). One that was begun and never handed out counts for nothing: its
units are due to the recipient as before.

Operations get the connection and the time first, and are run by ``Manifest.perform``.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hsm.durable import Reader
from station.errors import ManifestError, printable
from station.manifest.errors import RowRefused

PIECE: Final = 4096
"""Units that are added to an export in one transaction."""

REASON_LIMIT: Final = 200
"""Characters of a recipient's reason that are kept."""


class Which(StrEnum):
    """Which units a recipient lacks."""

    NEW = "new"
    """Those whose certificate was never handed to it."""
    REJECTED = "rejected"
    """Those that it rejected, the last time that they were handed to it."""
    ALL = "all"
    """All, whatever it got before."""


class Outcome(StrEnum):
    """What a recipient made of a unit."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


_HANDED: Final = (
    "SELECT {what} FROM export_unit JOIN export ON export.id = export_unit.export_id "
    "WHERE export_unit.issuance_id = issuance.id AND recipient = ? AND target = ? AND handed_at IS NOT NULL"
)

_LAST_OUTCOME: Final = (
    "(SELECT outcome FROM receipt WHERE receipt.issuance_id = issuance.id "
    "AND receipt.export_id = export_unit.export_id ORDER BY receipt.id DESC LIMIT 1)"
)


@dataclass(frozen=True, slots=True)
class Lacking:
    """What a recipient lacks; the units of an export that is to be recorded."""

    target: str
    recipient: str
    which: Which = Which.NEW

    def clause(self) -> tuple[str, list[object]]:
        """Return a condition on ``issuance``, and its parameters."""
        certified = "issuance.certificate IS NOT NULL"
        of_whom: list[object] = [self.recipient, self.target]
        match self.which:
            case Which.NEW:
                return f"{certified} AND NOT EXISTS ({_HANDED.format(what=1)})", of_whom
            case Which.REJECTED:
                last = f"{_HANDED.format(what=_LAST_OUTCOME)} ORDER BY export_unit.export_id DESC LIMIT 1"
                return f"{certified} AND 'rejected' IS ({last})", of_whom
            case Which.ALL:
                return certified, []


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """An export and what came of it."""

    id: int
    target: str
    recipient: str
    naming: str
    """What the recipient calls a unit: a text with ``{product_serial}`` or ``{hardware_id}``."""
    units: int
    begun_at: str
    handed_at: str | None
    """None: it was begun, and its files were perhaps never given to anybody; it counts for nothing."""
    accepted: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Member:
    """A unit of an export."""

    number: int
    unit_id: int
    issuance_id: int
    product_serial: str
    hardware_id: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a recipient said of a unit of an export."""

    member: Member
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class HandedRecord:
    """One handing over of a unit's certificate, as its history shows it."""

    export_id: int
    target: str
    recipient: str
    certificate_serial: str
    """40 hex digits."""
    handed_at: str
    outcome: Outcome | None
    """The newest receipt; None: nothing came back."""
    reason: str | None


@dataclass(frozen=True, slots=True)
class ListRow:
    """What others gave to one unit; at least one of it."""

    product_serial: str | None
    mac: str | None
    """EUI-48, lower case with colons."""
    imei: str | None


@dataclass(frozen=True, slots=True)
class ListRecord:
    """A list, and how far it is used up."""

    id: int
    name: str
    rows: int
    used: int
    """Rows whose product serial or MAC address a unit or the desk has, or whose IMEI is a unit's hardware id."""
    at: str


def begin(  # noqa: PLR0913  # one argument a column, by name
    connection: sqlite3.Connection, at: str, *, target: str, recipient: str, naming: str, units: int, digest: bytes
) -> int:
    """Begin an export whose files are complete; return its number.

    Args:
        connection: inside a transaction.
        at: the time.
        target: what kind of files.
        recipient: who gets them.
        naming: what the recipient calls a unit.
        units: how many.
        digest: SHA-256 of the lines ``unit_id issuance_id``, in their order.
    """
    (number,) = connection.execute(
        "INSERT INTO export (target, recipient, naming, units, units_sha256, begun_at) VALUES (?, ?, ?, ?, ?, ?) "
        "RETURNING id",
        (target, recipient, naming, units, digest, at),
    ).fetchone()
    return int(number)


def add(
    connection: sqlite3.Connection, _at: str, *, export_id: int, first: int, members: Sequence[tuple[int, int]]
) -> None:
    """Add units to an export that is begun.

    Args:
        connection: inside a transaction.
        export_id: of the export.
        first: number of the first one.
        members: (unit, issuance) of each, ``PIECE`` at most.
    """
    connection.executemany(
        "INSERT INTO export_unit (export_id, number, unit_id, issuance_id) VALUES (?, ?, ?, ?)",
        ((export_id, number, *member) for number, member in enumerate(members, first)),
    )


def hand_out(connection: sqlite3.Connection, at: str, *, export_id: int, statement: str) -> None:
    """Record that the files of an export are there for its recipient.

    Args:
        connection: inside a transaction.
        at: the time.
        export_id: of the export.
        statement: ``export.json`` of the parcel, which names each file with its digest.
    """
    connection.execute(
        "UPDATE export SET statement = ?, statement_sha256 = ?, handed_at = ? WHERE id = ?",
        (statement, hashlib.sha256(statement.encode()).digest(), at, export_id),
    )


def receive(
    connection: sqlite3.Connection, at: str, *, export_id: int, verdicts: Sequence[Verdict], source: bytes
) -> int:
    """Store what a recipient said; what it said before in the same words is not stored again.

    Args:
        connection: inside a transaction.
        at: the time.
        export_id: of the export.
        verdicts: one a unit.
        source: SHA-256 of the file that says so.

    Returns:
        How many are new.
    """
    new = 0
    for verdict in verdicts:
        said = (str(verdict.outcome), printable(verdict.reason, REASON_LIMIT)[:REASON_LIMIT])
        last = connection.execute(
            "SELECT outcome, reason FROM receipt WHERE issuance_id = ? AND export_id = ? ORDER BY id DESC LIMIT 1",
            (verdict.member.issuance_id, export_id),
        ).fetchone()
        if last == said:
            continue
        connection.execute(
            "INSERT INTO receipt (export_id, unit_id, issuance_id, outcome, reason, source_sha256, at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (export_id, verdict.member.unit_id, verdict.member.issuance_id, *said, source, at),
        )
        new += 1
    return new


def add_list(connection: sqlite3.Connection, at: str, *, name: str, rows: Sequence[ListRow], source: bytes) -> int:
    """Store a list whole; return its number.

    Raises:
        RowRefused: a list has this name (``manifest.list_exists``).
    """
    if connection.execute("SELECT 1 FROM list WHERE name = ?", (name,)).fetchone():
        raise RowRefused(
            f"a list {name!r} was imported before; give this one another name", code="manifest.list_exists"
        )
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.product_serial or ''},{row.mac or ''},{row.imei or ''}\n".encode())
    (number,) = connection.execute(
        "INSERT INTO list (name, rows, rows_sha256, source_sha256, at) VALUES (?, ?, ?, ?, ?) RETURNING id",
        (name, len(rows), digest.digest(), source, at),
    ).fetchone()
    connection.executemany(
        "INSERT INTO list_row (list_id, number, product_serial, mac, imei) VALUES (?, ?, ?, ?, ?)",
        ((number, place, row.product_serial, row.mac, row.imei) for place, row in enumerate(rows, 1)),
    )
    return int(number)


_COUNTS: Final = """
SELECT export.id, target, recipient, naming, units, begun_at, handed_at,
       count(CASE said.outcome WHEN 'accepted' THEN 1 END), count(CASE said.outcome WHEN 'rejected' THEN 1 END)
FROM export LEFT JOIN (
    SELECT export_id, outcome FROM receipt
    WHERE id IN (SELECT max(id) FROM receipt GROUP BY export_id, issuance_id)) AS said ON said.export_id = export.id
"""

_MEMBER: Final = (
    "SELECT export_unit.number, unit.id, export_unit.issuance_id, unit.product_serial, unit.hardware_id "
    "FROM export_unit JOIN unit ON unit.id = export_unit.unit_id WHERE export_unit.export_id = ?"
)


def exports(reader: Reader) -> Iterator[ExportRecord]:
    """Iterate over the exports, oldest first."""
    for row in reader.rows(f"{_COUNTS} GROUP BY export.id ORDER BY export.id"):
        yield ExportRecord(*row)


def export_of(reader: Reader, export_id: int) -> ExportRecord:
    """Return an export.

    Raises:
        ManifestError: there is none with this number (``manifest.export_unknown``).
    """
    for row in reader.rows(f"{_COUNTS} WHERE export.id = ? GROUP BY export.id", export_id):
        return ExportRecord(*row)
    raise ManifestError(
        f"no export {export_id} is on record; 'station manifest exports' lists them", code="manifest.export_unknown"
    )


def members(reader: Reader, export_id: int, *, first: int = 1, last: int | None = None) -> Iterator[Member]:
    """Iterate over units of an export, in the order of its files.

    Args:
        reader: of the manifest.
        export_id: of the export.
        first: number of the first one.
        last: number of the last one; None: all.
    """
    sql = f"{_MEMBER} AND number >= ? AND number <= ? ORDER BY number"
    for row in reader.rows(sql, export_id, first, (1 << 62) if last is None else last):
        yield Member(*row)


def member_named(reader: Reader, export_id: int, field: str, value: str) -> Member | None:
    """Find a unit in an export by what its recipient calls it.

    Args:
        reader: of the manifest.
        export_id: of the export.
        field: ``product_serial`` or ``hardware_id``.
        value: of the field.
    """
    column = {"product_serial": "unit.product_serial", "hardware_id": "unit.hardware_id"}[field]
    # From the unit, in the two halves that the indexes of issuance have: an export may hold a million.
    half = (
        "SELECT export_unit.number, unit.id, issuance.id, unit.product_serial, unit.hardware_id "  # noqa: S608
        "FROM unit CROSS JOIN issuance ON issuance.unit_id = unit.id AND issuance.state {sign} 'void' "
        "CROSS JOIN export_unit ON export_unit.issuance_id = issuance.id AND export_unit.export_id = ?1 "
        f"WHERE {column} = ?2"
    )
    row = next(reader.rows(f"{half.format(sign='<>')} UNION ALL {half.format(sign='=')}", export_id, value), None)
    return None if row is None else Member(*row)


def handed(reader: Reader, unit_id: int) -> tuple[HandedRecord, ...]:
    """Return to whom a unit's certificates were handed, oldest first, and what came back."""
    sql = """
        SELECT export.id, target, recipient, issuance.certificate_serial, handed_at, receipt.outcome, receipt.reason
        FROM issuance JOIN export_unit ON export_unit.issuance_id = issuance.id
        JOIN export ON export.id = export_unit.export_id
        LEFT JOIN receipt ON receipt.id = (SELECT max(id) FROM receipt
            WHERE receipt.issuance_id = issuance.id AND receipt.export_id = export.id)
        WHERE issuance.unit_id = ? AND {state} AND handed_at IS NOT NULL
    """
    live, void = (sql.format(state=f"issuance.state {sign} 'void'") for sign in ("<>", "="))
    rows = reader.rows(f"{live} UNION ALL {void} ORDER BY 1", unit_id, unit_id)
    return tuple(
        HandedRecord(number, target, recipient, serial, at, None if outcome is None else Outcome(outcome), why)
        for number, target, recipient, serial, at, outcome, why in rows
    )


def lists(reader: Reader) -> Iterator[ListRecord]:
    """Iterate over the lists, oldest first."""
    sql = """
        SELECT id, name, rows, (
            SELECT count(*) FROM list_row WHERE list_id = list.id
            AND (EXISTS (SELECT 1 FROM unit WHERE product_serial = list_row.product_serial)
              OR EXISTS (SELECT 1 FROM desk_serial WHERE product_serial = list_row.product_serial)
              OR EXISTS (SELECT 1 FROM unit WHERE mac = list_row.mac)
              OR EXISTS (SELECT 1 FROM desk_serial WHERE mac = list_row.mac)
              OR EXISTS (SELECT 1 FROM unit WHERE hardware_id = list_row.imei))), at
        FROM list ORDER BY id
    """
    for row in reader.rows(sql):
        yield ListRecord(*row)


_OWNERS: Final = (
    "SELECT 'unit ' || hardware_id || ' has' FROM unit WHERE {field} = ?1 UNION ALL "
    "SELECT 'the desk of order ' || name || ' gave out' FROM desk_serial "
    "JOIN production_order ON production_order.id = order_id WHERE {field} = ?1 UNION ALL "
)
_TAKEN: Final = {
    field: f"{owners}SELECT 'list ' || name || ' holds' FROM list_row JOIN list ON list.id = list_id WHERE {field} = ?1"  # noqa: S608
    for field, owners in (
        ("product_serial", _OWNERS.format(field="product_serial")),
        ("mac", _OWNERS.format(field="mac")),
        ("imei", ""),  # a unit whose hardware id it is may be made before its list comes
    )
}
"""Who has an identity already, by its name."""


def taken(reader: Reader, rows: Iterable[tuple[int, ListRow]]) -> Iterator[tuple[int, str]]:
    """Iterate over rows of a new list that clash with what is on record: the row's line, and why."""
    for line, row in rows:
        for field, sql in _TAKEN.items():
            value = getattr(row, field)
            if value is not None and (found := next(reader.rows(sql, value), None)) is not None:
                yield line, f"{found[0]} {field} {value} already"
