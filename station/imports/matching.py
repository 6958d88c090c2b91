"""Whom a receipt is about: from what a cloud says to units of an export."""

from collections.abc import Iterator
from dataclasses import dataclass

from hsm.durable import Reader
from station.errors import StationError
from station.exports.naming import Naming
from station.exports.nrfcloud import ROWS
from station.imports.lists import Fault
from station.imports.receipts import Claim, Receipt
from station.manifest.handing import ExportRecord, Member, Outcome, Verdict, member_named, members


@dataclass(frozen=True, slots=True)
class Matched:
    """A receipt, as far as its units are known."""

    verdicts: tuple[Verdict, ...]
    faults: tuple[Fault, ...]
    """Units that the export does not hold, or that the receipt names twice."""


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of an export a receipt is about."""

    file: int | None = None
    """Number of the file, from 1, where a receipt counts the rows of one; None: of the only one."""
    rest: Outcome | None = None
    """What became of units that the receipt does not name; None: it does not say."""


def match(reader: Reader, export: ExportRecord, receipt: Receipt, part: Part) -> Matched:
    """Find the units of a receipt; nothing is written.

    Args:
        reader: of the manifest.
        export: that the receipt is about.
        receipt: that was read.
        part: of the export.

    Raises:
        StationError: the receipt counts rows of a file, and the export has several (``import.which_file``).
    """
    first, last = _span(export, receipt, part)
    naming = Naming.parse(export.naming)
    verdicts: dict[int, Verdict] = {}
    faults = list(receipt.faults)
    for claim in receipt.claims:
        member = _found(reader, export, naming, claim, first, last)
        if member is None:
            faults.append(Fault(claim.line, f"{claim} is no unit of export {export.id}"))
        elif member.number in verdicts:
            faults.append(Fault(claim.line, f"{claim} stands in the receipt already"))
        else:
            verdicts[member.number] = Verdict(member, claim.outcome, claim.reason)
    found = tuple(verdicts.values())
    if part.rest is not None:
        found += tuple(_others(reader, export, part.rest, verdicts, first, last))
    return Matched(found, tuple(sorted(faults, key=lambda fault: fault.line)))


def _span(export: ExportRecord, receipt: Receipt, part: Part) -> tuple[int, int]:
    """Return the numbers of the first and the last unit that a receipt may be about."""
    files = -(-export.units // ROWS) if export.target == "nrfcloud" else 1
    if part.file is None:
        if files > 1 and any(claim.field == "number" for claim in receipt.claims):
            raise StationError(
                f"export {export.id} has {files} files, and the receipt counts the rows of one; say which with --file",
                code="import.which_file",
            )
        return 1, export.units
    if not 1 <= part.file <= files:
        raise StationError(f"export {export.id} has {files} files, no file {part.file}", code="import.which_file")
    first = 1 + (part.file - 1) * ROWS if files > 1 else 1
    return first, min(first + ROWS - 1, export.units) if files > 1 else export.units


def _found(  # noqa: PLR0913, PLR0917  # where and what to look for
    reader: Reader, export: ExportRecord, naming: Naming, claim: Claim, first: int, last: int
) -> Member | None:
    if claim.field == "number":
        number = first + int(claim.value) - 1
        return next(members(reader, export.id, first=number, last=number), None) if first <= number <= last else None
    field, value = claim.field, claim.value
    if field == "name":
        field = naming.field
        named = naming.value_in(value)
        if named is None:
            return None
        value = named
    member = member_named(reader, export.id, field, value)
    return member if member is not None and first <= member.number <= last else None


def _others(  # noqa: PLR0913, PLR0917
    reader: Reader, export: ExportRecord, rest: Outcome, verdicts: dict[int, Verdict], first: int, last: int
) -> Iterator[Verdict]:
    for member in members(reader, export.id, first=first, last=last):
        if member.number not in verdicts:
            yield Verdict(member, rest, "")
