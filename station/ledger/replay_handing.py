"""Rows of exports and lists against their events: what was handed out, and what others gave (``schema_5.sql``).

Their members have no events of their own. The event of an export or a list says beforehand how many there are, and the
SHA-256 of them in order; so they are read once more and hashed. An export that was begun and never handed out counts
for nothing: it may have fewer members than it says, and nothing vouches for those until it has all of them.
"""

# ruff: noqa: SLF001  # the table of steps names methods of the class above it

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from station.ledger.damage import Damage, Kind, Report, differing
from station.ledger.store import LedgerReader

EXPORT: Final = (
    "id", "target", "recipient", "naming", "units", "units_sha256", "begun_at", "statement_sha256", "handed_at",
)  # fmt: skip
"""Columns of ``export`` that events tell; ``statement`` by its digest."""

LIST: Final = ("id", "name", "rows", "rows_sha256", "source_sha256", "at")

_BLOBS: Final = frozenset({"units_sha256", "statement_sha256", "rows_sha256", "source_sha256"})

_UNITS: Final = "SELECT number, unit_id, issuance_id FROM export_unit WHERE export_id = ? ORDER BY number"
_ROWS: Final = "SELECT number, product_serial, mac, imei FROM list_row WHERE list_id = ? ORDER BY number"

Facts = Mapping[str, str]
Row = tuple[Any, ...]


@dataclass(slots=True)
class _Export:
    target: str
    recipient: str
    naming: str
    units: int
    units_sha256: bytes
    begun_at: str
    statement_sha256: bytes | None = None
    handed_at: str | None = None

    def row(self, number: int) -> Row:
        return (
            number, self.target, self.recipient, self.naming, self.units, self.units_sha256, self.begun_at,
            self.statement_sha256, self.handed_at,
        )  # fmt: skip


class HandingJournal:
    """The exports and lists, as the events tell them, one event after the other."""

    def __init__(self, reader: LedgerReader, report: Report) -> None:
        """Begin with nothing."""
        self._reader = reader
        self._report = report
        self._exports: dict[int, _Export] = {}
        self._lists: dict[int, Row] = {}

    def event(self, step: bytes, said: Facts, at: str) -> None:
        """Take an event of a step in ``HANDING_STEPS``.

        Raises:
            KeyError, ValueError: the journal has no such event.
        """
        HANDING_STEPS[step](self, said, at)

    def finish(self) -> Mapping[str, int]:
        """Compare all rows; return how many each table may have."""
        counts = dict.fromkeys(("export_unit", "list_row"), 0)
        for number, export in self._exports.items():
            self._check_export(number, export)
            counts["export_unit"] += self._check_members(
                "export_unit",
                number,
                export.units,
                export.units_sha256,
                map(_unit_line, self._reader.rows(_UNITS, number)),
                may_lack=export.handed_at is None,
            )
        for number, row in self._lists.items():
            found = next(self._reader.rows(f"SELECT {', '.join(LIST)} FROM list WHERE id = ?", number), None)  # noqa: S608
            self._compare("list", LIST, row, found)
            counts["list_row"] += self._check_members(
                "list_row", number, row[2], row[3], map(_list_line, self._reader.rows(_ROWS, number))
            )
        return counts | {"export": len(self._exports), "list": len(self._lists)}

    def _begun(self, said: Facts, at: str) -> None:
        number = int(said["export"])
        if number in self._exports:
            raise ValueError("an export begins once")
        self._exports[number] = _Export(
            said["target"], said["recipient"], said["naming"], int(said["units"]),
            bytes.fromhex(said["units_sha256"]), at,
        )  # fmt: skip

    def _handed(self, said: Facts, at: str) -> None:
        export = self._exports[int(said["export"])]
        if export.handed_at is not None:
            raise ValueError("an export is handed out once")
        export.statement_sha256, export.handed_at = bytes.fromhex(said["statement_sha256"]), at

    def _list(self, said: Facts, at: str) -> None:
        number = int(said["list"])
        if number in self._lists:
            raise ValueError("a list is imported once")
        digests = (bytes.fromhex(said[name]) for name in ("rows_sha256", "source_sha256"))
        self._lists[number] = (number, said["name"], int(said["rows"]), *digests, at)

    def _check_export(self, number: int, export: _Export) -> None:
        sql = f"SELECT {', '.join(EXPORT)}, statement FROM export WHERE id = ?"  # noqa: S608  # our own names
        row = next(self._reader.rows(sql, number), None)
        self._compare("export", EXPORT, export.row(number), None if row is None else row[:-1])
        if row is None:
            return
        statement = None if row[-1] is None else _digest(row[-1])
        if statement != export.statement_sha256:
            why = "statement is not the one whose SHA-256 the events tell"
            self._report(Damage(Kind.CHANGED, "export", str(number), why))

    def _check_members(  # noqa: PLR0913  # what they are, and what they have to be
        self,
        table: str,
        of: int,
        size: int,
        digest: bytes,
        members: Iterator[tuple[int, bytes]],
        *,
        may_lack: bool = False,
    ) -> int:
        """Hash members in their order.

        Returns:
            How many there are.
        """
        hashed, count = sha256(), 0
        for number, line in members:
            count += 1
            if number != count:
                kind, row = (Kind.INSERTED, number) if count > size else (Kind.REMOVED, count)
                self._report(Damage(kind, table, f"{of}/{row}", f"its numbers have no gap, and {number} came"))
                return count + sum(1 for _ in members)
            hashed.update(line)
        if count > size:
            self._report(Damage(Kind.INSERTED, table, f"{of}/{size + 1}", f"the events tell of {size}"))
        elif count < size and not may_lack:
            self._report(Damage(Kind.REMOVED, table, f"{of}/{count + 1}", f"the events tell of {size}"))
        elif count == size and hashed.digest() != digest:
            self._report(
                Damage(
                    Kind.CHANGED, table, f"{of}/1 to {of}/{size}", "they are not those whose SHA-256 the events tell"
                )
            )
        return count

    def _compare(self, table: str, columns: tuple[str, ...], expected: Row, row: Row | None) -> None:
        if row is None:
            self._report(Damage(Kind.REMOVED, table, str(expected[0]), "an event tells of it"))
            return
        found = tuple(
            value if name in _BLOBS or not isinstance(value, bytes) else value.decode("utf-8", "backslashreplace")
            for name, value in zip(columns, row, strict=True)
        )
        if found != expected:
            self._report(Damage(Kind.CHANGED, table, str(expected[0]), differing(columns, expected, found)))


HANDING_STEPS: Final[Mapping[bytes, Callable[[HandingJournal, Facts, str], None]]] = {
    b"export": HandingJournal._begun,
    b"export-handed": HandingJournal._handed,
    b"list": HandingJournal._list,
}


def _unit_line(row: Row) -> tuple[int, bytes]:
    """Return a number, and what of an export's unit is hashed (``export.units_sha256``)."""
    return row[0], b"%d %d\n" % row[1:]


def _list_line(row: Row) -> tuple[int, bytes]:
    """Return a number, and what of a list's row is hashed (``list.rows_sha256``)."""
    number, serial, mac, imei = row
    # NULL is written as nothing: an empty text, or a comma that moves a border, must not be taken for it
    sound = b"" not in row and b"," not in (mac or b"") and b"," not in (imei or b"")
    return number, b"%s,%s,%s\n" % (serial or b"", mac or b"", imei or b"") if sound else repr(row).encode()


def _digest(value: object) -> bytes:
    return sha256(value if isinstance(value, bytes) else repr(value).encode()).digest()
