"""Which events differ from the hashes that were stored of them, once it is known that some do.

The hash of each event stands in a tile, or in the stored edge. An event that was changed differs alone. One that was
taken out or put in, with the later ones renumbered, moves all that follow: their content is then looked for a few
places away. What is left over is compared crosswise, to find events that changed places.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final

from station.ledger.damage import Damage, Kind, Report
from station.ledger.leaf import EventRow, leaf_of
from station.ledger.store import LedgerReader
from station.ledger.tiles import WIDTH, split
from station.ledger.tree import leaf_hash

REACH: Final = 16
"""How many events in a row may have been taken out, or put in, to be seen as that."""

CROSSWISE: Final = 200
"""Differing events that are compared each with each."""


class _Hashes:
    """The stored hashes of events, by index."""

    def __init__(self, reader: LedgerReader) -> None:
        self._reader = reader
        self._number = -1
        self._hashes: list[bytes] = []
        row = next(reader.rows("SELECT size, hashes FROM ledger_edge WHERE id = 1"), None)
        self.size: int = 0 if row is None else row[0]
        self._edge: list[bytes] = [] if row is None else split(row[1])
        self._edge_first = self.size - self.size % WIDTH

    def __getitem__(self, index: int) -> bytes | None:
        if index >= self._edge_first:
            at = index - self._edge_first
            return self._edge[at] if at < len(self._edge) else None
        number, at = divmod(index, WIDTH)
        if number != self._number:
            tile = self._reader.tile(0, number)
            self._number, self._hashes = number, [] if tile is None else split(tile.hashes)
        return self._hashes[at] if 0 <= at < len(self._hashes) else None


def explain(reader: LedgerReader, start: int, report: Report) -> None:
    """Name the events that are not those that were hashed.

    Args:
        reader: the manifest.
        start: events that are known to be right.
        report: gets what is found.
    """
    hashes = _Hashes(reader)
    changed: list[EventRow] = []
    shift = 0
    """How far an event stands before the place it had: more than 0 after events were taken out and renumbered."""
    rows: Iterator[EventRow] = iter(reader.events(start - start % WIDTH, hashes.size + REACH))
    ahead: deque[EventRow] = deque(islice(rows, REACH))
    while ahead:
        row = ahead.popleft()
        ahead.extend(islice(rows, 1))
        if row[0] + shift > hashes.size or _is(hashes, row, shift):
            continue
        taken = next((n for n in range(1, REACH) if _is(hashes, row, shift + n)), None)
        put = next((n for n in range(1, REACH) if n <= len(ahead) and _is(hashes, ahead[n - 1], shift - n)), None)
        if taken is not None:
            first = row[0] + shift
            which = str(first) if taken == 1 else f"{first} to {first + taken - 1}"
            report(
                Damage(
                    Kind.REMOVED, "event", which, f"later ones were renumbered: what is {row[0]} was {first + taken}"
                )
            )
            shift += taken
        elif put is not None:
            which = str(row[0]) if put == 1 else f"{row[0]} to {row[0] + put - 1}"
            report(Damage(Kind.INSERTED, "event", which, "the ones after it had these numbers when they were hashed"))
            for _ in range(put - 1):
                ahead.popleft()
            ahead.extend(islice(rows, put - 1))
            shift -= put
        else:
            changed.append((row[0] + shift, *row[1:]))
    _name_changed(hashes, changed, report)


def _is(hashes: _Hashes, row: EventRow, shift: int) -> bool:
    """Whether an event is the one that was hashed ``shift`` places after its own."""
    try:
        return hashes[row[0] + shift - 1] == leaf_hash(leaf_of((row[0] + shift, *row[1:])))
    except TypeError:  # a column is NULL
        return False


def _name_changed(hashes: _Hashes, changed: list[EventRow], report: Report) -> None:
    places = [row[0] for row in changed]
    crosswise = places if len(places) <= CROSSWISE else []
    for row in changed:
        was = next((place for place in crosswise if place != row[0] and _is(hashes, row, place - row[0])), None)
        if was is not None:
            report(Damage(Kind.REORDERED, "event", str(row[0]), f"what stands there was event {was}"))
        else:
            report(Damage(Kind.CHANGED, "event", str(row[0]), "it is not the one whose hash was signed"))
