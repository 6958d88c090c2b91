"""Lists of identities as CSV: from the printer of a label roll, from the ERP, from a module maker.

The first line names the columns: ``product_serial``, ``mac`` and ``imei``, one of them at least, in any order. Others
have to be named to be passed over. A MAC address may be written with ``:``, ``-``, ``.`` or nothing between its digits;
it is kept in lower case with colons. An IMEI has 15 digits, the last one a check digit (Luhn; 3GPP TS 23.003 6.2.1).
"""

import csv
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from station.errors import StationError, printable
from station.manifest.handing import ListRow

COLUMNS: Final = ("product_serial", "mac", "imei")
ROWS_LIMIT: Final = 1_000_000
_SERIAL: Final = re.compile(r"[!-~](?:[ -~]{0,62}[!-~])?")
_IMEI_DIGITS: Final = 15
_SEPARATED: Final = re.compile(
    r"[0-9A-Fa-f]{2}([:-]?)(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4}"
)


class ImportRefused(StationError):
    """What is to be imported can't be."""

    code = "import.malformed"


class _Table(Protocol):
    """What ``csv.reader`` returns."""

    @property
    def line_num(self) -> int:
        """Lines that were read."""

    def __iter__(self) -> Iterator[list[str]]:
        """Iterate over the rows."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a row."""

    line: int
    """Of the file, counted from 1; the row begins there."""
    text: str


@dataclass(frozen=True, slots=True)
class ReadList:
    """A list, as far as it can be taken."""

    rows: tuple[tuple[int, ListRow], ...]
    """With the line where each begins."""
    faults: tuple[Fault, ...]
    sha256: bytes
    """Of the file."""


def read_list(path: Path, *, ignore: Sequence[str] = ()) -> ReadList:
    """Read a list; nothing is written.

    Args:
        path: of the CSV file, UTF-8.
        ignore: columns to pass over.

    Raises:
        ImportRefused: it is no such table at all.
    """
    content = read_file(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ImportRefused(f"{path}:{line}: not UTF-8 text; save it as UTF-8") from None
    table = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = [column.strip() for column in next(table, [])]
        _check_header(path, header, ignore)
        return _read(table, header, hashlib.sha256(content).digest())
    except csv.Error as error:
        raise ImportRefused(f"{path}:{table.line_num}: not CSV ({error})") from None


def read_file(path: Path) -> bytes:
    """Read a file whole.

    Raises:
        ImportRefused: it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImportRefused(
            f"{path}: can't be read ({error.strerror}); check the path", code="import.unreadable"
        ) from None


def _check_header(path: Path, header: Sequence[str], ignore: Sequence[str]) -> None:
    known = {*COLUMNS, *ignore}
    if unknown := [column for column in header if column not in known]:
        raise ImportRefused(
            f"{path}:1: unknown column {printable(unknown[0], 40)!r}; columns are {', '.join(COLUMNS)}, and --ignore "
            "passes over others"
        )
    if not set(COLUMNS) & set(header):
        raise ImportRefused(f"{path}:1: no column to import; the first line names them: {', '.join(COLUMNS)}")
    if len(set(header)) != len(header):
        raise ImportRefused(f"{path}:1: a column is named twice")


def _read(table: _Table, header: Sequence[str], sha256: bytes) -> ReadList:
    rows, faults = list[tuple[int, ListRow]](), list[Fault]()
    seen: dict[tuple[str, str], int] = {}
    line = table.line_num + 1
    for cells in table:
        here, line = line, table.line_num + 1
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            faults.append(Fault(here, f"has {len(cells)} cells, the first line has {len(header)}"))
            continue
        if len(rows) >= ROWS_LIMIT:
            faults.append(Fault(here, f"is row {ROWS_LIMIT + 1}: cut the list into several"))
            break
        found = {column: cell.strip() for column, cell in zip(header, cells, strict=True) if cell.strip()}
        wrong, row = _row(found)
        for field in COLUMNS:
            value = getattr(row, field)
            if value is not None and (first := seen.setdefault((field, value), here)) != here:
                wrong.append(f"{field} {value} stands in line {first} already")
        faults += [Fault(here, text) for text in wrong]
        if not wrong:
            rows.append((here, row))
    return ReadList(tuple(rows), tuple(faults), sha256)


def _row(found: dict[str, str]) -> tuple[list[str], ListRow]:
    wrong = []
    serial, mac, imei = (found.get(column) for column in COLUMNS)
    if serial is not None and not _SERIAL.fullmatch(serial):
        wrong.append(f"product_serial {printable(serial, 70)!r} is not 1 to 64 printable ASCII characters")
    if mac is not None:
        if not _SEPARATED.fullmatch(mac):
            wrong.append(f"mac {printable(mac, 40)!r} is not six pairs of hexadecimal digits")
        else:
            digits = re.sub(r"[:.-]", "", mac).lower()
            mac = ":".join(digits[at : at + 2] for at in range(0, 12, 2))
            if int(digits[:2], 16) & 1 or not int(digits, 16):
                wrong.append(f"mac {mac} is no address of one device")
    if imei is not None and not (len(imei) == _IMEI_DIGITS and imei.isascii() and imei.isdigit() and _luhn(imei)):
        wrong.append(f"imei {printable(imei, 40)!r} is not 15 digits with the right check digit")
    if serial is None and mac is None and imei is None:
        wrong.append("has none of the identities")
    return wrong, ListRow(serial, mac, imei)


def _luhn(digits: str) -> bool:
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value // 10 + value % 10 for value in doubled) % 10 == 0
