"""Units as CSV (RFC 4180; UTF-8, one header line, ``units.COLUMNS``), for spreadsheets and imports.

A spreadsheet runs a cell that starts with ``=``, ``+``, ``-`` or ``@`` as a formula, and some of these texts come from
a device. Such a cell gets an apostrophe in front, which spreadsheets show as text; so does a cell that starts with an
apostrophe, so that a reader who takes one apostrophe off has exactly what the manifest has. PEM is ours and stays.
"""

import csv
from collections.abc import Iterable
from typing import Final

from station.exports.target import ExportError, Target, written_to
from station.exports.units import COLUMNS, values
from station.manifest import PassedUnit

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
_OURS: Final = frozenset({"certificate"})


def cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula; take one leading apostrophe off to get it back."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def checked(name: str) -> str:
    """Return a name that goes as it is into a table that a cloud reads, and that people open in a spreadsheet before.

    Raises:
        ExportError: a spreadsheet would take it for a formula (``export.unit_unfit``).
    """
    if name.startswith(_FORMULA_STARTS):
        raise ExportError(
            f"{name!r} begins like a formula of a spreadsheet; put something in front of it with --name",
            code="export.unit_unfit",
        )
    return name


def export(units: Iterable[PassedUnit], target: Target) -> int:
    """Write units as CSV.

    Args:
        units: from ``ManifestReader.export``.
        target: a file, replaced as a whole, or a stream opened with ``newline=""``.

    Returns:
        How many units were written.

    Raises:
        ExportError: the file can't be written.
    """
    count = 0
    with written_to(target) as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for count, unit in enumerate(units, 1):  # noqa: B007  # the count is returned
            writer.writerow(
                text if text is None or column in _OURS else cell(text) for column, text in values(unit).items()
            )
    return count
