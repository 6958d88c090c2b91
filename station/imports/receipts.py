"""Receipts: what a cloud made of the units of an export, in the forms in which clouds say it.

==========  =======================================================================================================
form        what it is
==========  =======================================================================================================
csv         a table with a header: the unit (``name``, ``product_serial``, ``hardware_id``, ``device_id``,
            ``thing_name`` or ``registration_id``), ``result`` and, if wanted, ``reason``. Without a header: two
            columns, device id and ``OK`` or what is wrong, as nRF Cloud Utils' ``nrf_cloud_onboard`` writes it
nrfcloud    the error summary of a bulk request: ``{"errors": ["[5]: message"]}``; rows of one file, from 0
aws         reports of a bulk registration task: an object a line with ``lineNumber``, from 1; one with
            ``errorMessage`` or ``errorCode`` (or an ``error``) is a rejection
azure       answers of the bulk call: ``{"isSuccessful": …, "errors": [{"registrationId": …, "errorStatus": …}]}``
==========  =======================================================================================================

The forms of nRF Cloud and Azure name only what was rejected: ``--rest accepted`` says that the others were accepted.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from station.errors import printable
from station.imports.lists import Fault, ImportRefused, read_file
from station.manifest.handing import Outcome

_NAMES: Final = ("name", "device_id", "thing_name", "registration_id")
"""Columns that hold the name under which the unit was exported."""
_ACCEPTED: Final = frozenset({"ok", "accepted", "success", "succeeded", "created", "true", "1", "yes"})
_REJECTED: Final = frozenset({"rejected", "error", "failed", "failure", "false", "0", "no"})
_HTTP_OK: Final = 200
_INDEXED: Final = re.compile(r"\[(\d{1,9})\]:\s*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a receipt says of one unit, whoever that is."""

    line: int
    """Where it stands in the receipt."""
    field: str
    """``number`` in the file that was sent, ``name``, ``product_serial`` or ``hardware_id``."""
    value: str
    outcome: Outcome
    reason: str

    def __str__(self) -> str:
        """Name the unit as the receipt does."""
        return f"row {self.value}" if self.field == "number" else printable(self.value, 70)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt that was read."""

    form: str
    claims: tuple[Claim, ...]
    faults: tuple[Fault, ...]
    sha256: bytes
    """Of the file."""


def read_receipt(path: Path) -> Receipt:
    """Read a receipt; its form is told by what stands in it.

    Raises:
        ImportRefused: it is none of the known forms.
    """
    content = read_file(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ImportRefused(f"{path}: not UTF-8 text; save it as UTF-8") from None
    form, found = _read(path, text)
    try:
        claims, faults = _sorted_out(found)
    except csv.Error as error:
        raise ImportRefused(f"{path}: not CSV ({error})") from None
    if not claims and not faults and form == "csv":
        raise ImportRefused(f"{path}: says nothing about any unit")
    return Receipt(form, claims, faults, hashlib.sha256(content).digest())


def _sorted_out(found: Iterable[Claim | Fault]) -> tuple[tuple[Claim, ...], tuple[Fault, ...]]:
    claims, faults = list[Claim](), list[Fault]()
    for one in found:
        if isinstance(one, Claim):
            claims.append(one)
        else:
            faults.append(one)
    return tuple(claims), tuple(faults)


def _read(path: Path, text: str) -> tuple[str, Iterable[Claim | Fault]]:
    if not text.lstrip().startswith("{"):
        return "csv", _table(path, text)
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    errors = whole.get("errors") if isinstance(whole, dict) else None
    if isinstance(errors, list) and all(isinstance(error, str) for error in errors) and "isSuccessful" not in whole:
        return "nrfcloud", _indexed(errors)
    if isinstance(errors, list):
        return "azure", _registrations(errors)
    return "aws", _lines(path, text)


def _table(path: Path, text: str) -> Iterator[Claim | Fault]:
    table = csv.reader(text.splitlines(keepends=True), strict=True)
    header = [cell.strip().lower().replace(" ", "_") for cell in next(table, [])]
    field = next((column for column in ("product_serial", "hardware_id", *_NAMES) if column in header), None)
    if field is None and len(header) == 2 and "result" not in header:  # noqa: PLR2004 - device id and result
        yield from _plain(text)
        return
    if field is None or "result" not in header:
        raise ImportRefused(
            f"{path}:1: a receipt has a column that names the unit ({', '.join(_NAMES)}, product_serial or "
            "hardware_id) and a column 'result'"
        )
    for cells in table:
        line = table.line_num
        if not cells:
            continue
        if len(cells) != len(header):
            yield Fault(line, f"has {len(cells)} cells, the first line has {len(header)}")
            continue
        row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        word = row["result"].lower()
        if word not in _ACCEPTED | _REJECTED:
            yield Fault(line, f"result {printable(row['result'], 40)!r} is neither accepted nor rejected")
            continue
        outcome = Outcome.ACCEPTED if word in _ACCEPTED else Outcome.REJECTED
        yield Claim(line, "name" if field in _NAMES else field, row[field], outcome, row.get("reason", ""))


def _plain(text: str) -> Iterator[Claim | Fault]:
    table = csv.reader(text.splitlines(keepends=True), strict=True)
    for cells in table:
        if len(cells) != 2:  # noqa: PLR2004
            yield Fault(table.line_num, f"has {len(cells)} cells and not two: device id and result")
            continue
        name, said = (cell.strip() for cell in cells)
        good = said.lower() in _ACCEPTED
        yield Claim(table.line_num, "name", name, Outcome.ACCEPTED if good else Outcome.REJECTED, "" if good else said)


def _indexed(errors: Iterable[str]) -> Iterator[Claim | Fault]:
    for place, error in enumerate(errors, 1):
        match = _INDEXED.fullmatch(error)
        if match is None:
            yield Fault(place, f"error {place} does not begin with the index of a row: {printable(error, 80)!r}")
        else:
            yield Claim(place, "number", str(int(match[1]) + 1), Outcome.REJECTED, match[2].strip())


def _registrations(errors: Iterable[object]) -> Iterator[Claim | Fault]:
    for place, error in enumerate(errors, 1):
        if not isinstance(error, dict) or not isinstance(error.get("registrationId"), str):
            yield Fault(place, f"error {place} names no registrationId")
            continue
        reason = " ".join(str(error[key]) for key in ("errorCode", "errorStatus") if error.get(key) is not None)
        good = error.get("errorCode") == _HTTP_OK
        outcome = Outcome.ACCEPTED if good else Outcome.REJECTED
        yield Claim(place, "name", error["registrationId"], outcome, "" if good else reason)


def _lines(path: Path, text: str) -> Iterator[Claim | Fault]:
    for place, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            raise ImportRefused(
                f"{path}:{place}: neither a report of AWS (an object a line) nor a receipt of nRF Cloud or Azure"
            ) from None
        number = said.get("lineNumber") if isinstance(said, dict) else None
        if not isinstance(number, int) or isinstance(number, bool):
            yield Fault(place, "has no lineNumber")
            continue
        reason = _reason(said)
        outcome = Outcome.ACCEPTED if reason is None else Outcome.REJECTED
        yield Claim(place, "number", str(number), outcome, reason or "")


def _reason(said: Mapping[str, Any]) -> str | None:
    """Return why a line of AWS is a rejection, or None."""
    inner = said.get("response")
    for place in (said, inner if isinstance(inner, dict) else {}):
        for key in ("errorMessage", "errorCode", "error"):
            if place.get(key):
                return str(place[key])
    return None
