"""What was handed out and what came back, written down by the station that runs (``control.py``).

Both ends stand here: ``AskedBook`` asks, ``keep`` does what it asks for. Each request is one short transaction, so the
line's own commits wait for none of them longer than for one another::

    {"do": "export-begin", "target": …, "recipient": …, "naming": …, "units": 8, "digest": "…"}     -> {"export": 3}
    {"do": "export-add", "export": 3, "first": 1, "members": [[unit, issuance], …]}                  -> {}
    {"do": "export-hand-out", "export": 3, "statement": "…"}                                         -> {}
    {"do": "receive", "export": 3, "verdicts": [[unit, issuance, outcome, reason], …], "source": …}  -> {"new": 8}
    {"do": "add-list", "name": …, "rows": [[product_serial, mac, imei], …], "source": …}             -> {"list": 1}

The one who asks read the manifest for itself, before; the schema refuses what does not fit any more.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from hsm.durable import Operation, WriterLock
from station.errors import StationError, printable
from station.line.control import Answer, Request, ask
from station.manifest import Manifest, ManifestLocked, handing
from station.manifest.book import Book, OwnBook
from station.manifest.handing import REASON_LIMIT, ListRow, Member, Outcome, Verdict
from station.manifest.schema import MANIFEST

VERDICTS: Final = 500
"""Units of a receipt in one request; each with a reason of ``REASON_LIMIT`` characters they fit into one."""

LIST_ROWS: Final = 5000
"""Rows of a list that fit into one request, and a list is stored in one transaction."""

_DIGEST: Final = 32


@contextmanager
def opened_book(path: Path) -> Iterator[Book]:
    """Open a manifest to write down in it; where a station runs on it, that one is asked.

    One command at a time: two exports at once would hand the same units to one recipient, each with a passcode of its
    own.

    Raises:
        ManifestError: it can't be opened, or another command does the same just now (``manifest.locked``).
        StationError: who has it can't be asked.
    """
    real = path.resolve()
    with WriterLock(real.with_name(f"{real.name}.handing"), replace(MANIFEST, program="command")):
        try:
            manifest = Manifest.open(path)
        except ManifestLocked as locked:
            try:
                ask(path, {"do": "answer"})
            except StationError as error:
                raise locked if error.code == "line.no_socket" else error from error
            yield AskedBook(path)
            return
        with manifest:
            yield OwnBook(manifest)


class AskedBook:
    """The manifest of a station that runs; a ``Book``."""

    def __init__(self, path: Path) -> None:
        """Ask whoever writes to the manifest at ``path``."""
        self._path = path

    def _ask(self, do: str, **content: object) -> dict[str, Any]:
        return ask(self._path, {"do": do, **content})

    def begin(self, *, target: str, recipient: str, naming: str, units: int, digest: bytes) -> int:
        """See ``Book.begin``."""
        wish = {"target": target, "recipient": recipient, "naming": naming, "units": units, "digest": digest.hex()}
        return int(self._ask("export-begin", **wish)["export"])

    def add(self, *, export_id: int, first: int, members: Sequence[tuple[int, int]]) -> None:
        """See ``Book.add``."""
        self._ask("export-add", export=export_id, first=first, members=members)

    def hand_out(self, *, export_id: int, statement: str) -> None:
        """See ``Book.hand_out``."""
        self._ask("export-hand-out", export=export_id, statement=statement)

    def receive(self, *, export_id: int, verdicts: Sequence[Verdict], source: bytes) -> int:
        """See ``Book.receive``; a receipt that was cut off in the middle is completed by importing it again."""
        new = 0
        for start in range(0, len(verdicts), VERDICTS):
            said = [
                (one.member.unit_id, one.member.issuance_id, one.outcome, printable(one.reason, REASON_LIMIT))
                for one in verdicts[start : start + VERDICTS]
            ]
            new += int(self._ask("receive", export=export_id, verdicts=said, source=source.hex())["new"])
        return new

    def add_list(self, *, name: str, rows: Sequence[ListRow], source: bytes) -> int:
        """See ``Book.add_list``.

        Raises:
            StationError: it is too long for a line at work (``import.too_long``).
        """
        if len(rows) > LIST_ROWS:
            raise StationError(
                f"the list has {len(rows)} rows, and while a station runs a list may have {LIST_ROWS}; cut it into"
                " several, or import it when the line rests",
                code="import.too_long",
            )
        told = [(row.product_serial, row.mac, row.imei) for row in rows]
        return int(self._ask("add-list", name=name, rows=told, source=source.hex())["list"])


async def keep(manifest: Manifest, request: Request) -> Answer | None:
    """Write down what an ``AskedBook`` asks for; None: it is no request of that kind.

    Raises:
        KeyError, TypeError, ValueError: something in it is missing or wrong.
        StationError: the manifest refuses it.
    """
    if request["do"] == "answer":
        return {}
    known = _KEPT.get(str(request["do"]))
    if known is None:
        return None
    told_as, operation_of = known
    result = await manifest.perform(operation_of(request))
    return {} if told_as is None else {told_as: result}


def _begin(request: Request) -> Operation[int]:
    return partial(
        handing.begin,
        target=_text(request, "target"),
        recipient=_text(request, "recipient"),
        naming=_text(request, "naming"),
        units=_number(request["units"]),
        digest=_digest(request, "digest"),
    )


def _add(request: Request) -> Operation[None]:
    members = [(_number(unit), _number(issuance)) for unit, issuance in _rows(request, "members")]
    return partial(handing.add, export_id=_export(request), first=_number(request["first"]), members=members)


def _hand_out(request: Request) -> Operation[None]:
    return partial(handing.hand_out, export_id=_export(request), statement=_text(request, "statement"))


def _receive(request: Request) -> Operation[int]:
    verdicts = [_verdict(*row) for row in _rows(request, "verdicts")]
    source = _digest(request, "source")
    return partial(handing.receive, export_id=_export(request), verdicts=verdicts, source=source)


def _add_list(request: Request) -> Operation[int]:
    rows = [ListRow(*(None if one is None else _checked(one) for one in row)) for row in _rows(request, "rows")]
    return partial(handing.add_list, name=_text(request, "name"), rows=rows, source=_digest(request, "source"))


_KEPT: Final[Mapping[str, tuple[str | None, Callable[[Request], Operation[Any]]]]] = {
    "export-begin": ("export", _begin),
    "export-add": (None, _add),
    "export-hand-out": (None, _hand_out),
    "receive": ("new", _receive),
    "add-list": ("list", _add_list),
}
"""By what is to be done: what the answer calls its result, and what makes the operation."""


def _rows(request: Request, name: str) -> list[list[Any]]:
    rows = request[name]
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise TypeError(f"'{name}' is no list of rows")
    return rows


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise TypeError(f"{value!r} is no number of a row")
    return value


def _export(request: Request) -> int:
    return _number(request["export"])


def _checked(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _text(request: Request, name: str) -> str:
    return _checked(request[name])


def _digest(request: Request, name: str) -> bytes:
    value = bytes.fromhex(_text(request, name))
    if len(value) != _DIGEST:
        raise ValueError(f"'{name}' is no SHA-256")
    return value


def _verdict(unit: object, issuance: object, outcome: object, reason: object) -> Verdict:
    return Verdict(Member(0, _number(unit), _number(issuance), "", ""), Outcome(_checked(outcome)), _checked(reason))
