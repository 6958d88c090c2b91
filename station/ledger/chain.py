"""Events against the tree: are these the events that were signed? The first half of an offline check.

One pass over the events makes the tree anew. At each checkpoint its root is compared with the signed one; on the way
each full tile is compared with the one that is stored. Where all roots are right, the events are those that were
signed, whatever the tiles say. Where one is not, the tiles (which hold a hash an event) show which event it is:
``differences.py``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from station.ledger.damage import Damage, Damages, Kind, naming
from station.ledger.differences import explain
from station.ledger.leaf import LINES
from station.ledger.replay_station import StationFacts, StationJournal
from station.ledger.store import LedgerReader
from station.ledger.tiles import WIDTH, Edge, Tile

BLOCK: Final = 16 * WIDTH
"""Events that are looked at together."""

# Each column is of one type, so that a row is a leaf without being looked at.
_ROWS: Final = (
    "SELECT id, at, CAST(coalesce(unit_id, '') AS TEXT), slot, step, kind, facts FROM event WHERE id > ? ORDER BY id "
    "LIMIT ?"
)
_LEAF: Final = b"\x00event/1\n%d\n%s\n%s\n%s\n%s\n%s\n%s"
_LEVELS: Final = 8
"""Levels of tiles that 2**63 events have."""

_JOURNAL: Final = b"journal"

Progress = Callable[[int], None]
"""Told how many more are done."""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head whose signature was verified: what the events are held against."""

    name: str
    size: int
    root: bytes


@dataclass(slots=True)
class ChainResult:
    """What the pass over the events came to."""

    damages: Damages = field(default_factory=Damages)
    events: int = 0
    unit_events: int = 0
    """Journal events of units; the replay has to see as many."""
    unit_events_sum: int = 0
    """The sum of their ids, likewise."""
    heads_right: int = 0
    station: StationFacts = field(default_factory=StationFacts)


def check_chain(path: Path, heads: Sequence[SignedHead], progress: Progress) -> ChainResult:
    """Hold the events against the signed heads and the tiles.

    Args:
        path: the manifest.
        heads: in the order of their size.
        progress: told now and then.
    """
    with LedgerReader(path) as reader:
        return _Chain(reader, heads, progress).run()


class _Chain:
    """One pass."""

    def __init__(self, reader: LedgerReader, heads: Sequence[SignedHead], progress: Progress) -> None:
        self._reader = reader
        self._heads = list(heads)
        self._progress = progress
        self._result = ChainResult()
        self._report = self._result.damages
        self._station = StationJournal(reader, self._report, self._result.station)
        self._edge = Edge()
        self._wrong: list[Tile] = []
        """Tiles that are not as they are stored."""
        self._missing: list[Tile] = []
        self._right_size = 0
        """Events under the largest head that is right."""
        self._wrong_heads: list[SignedHead] = []
        self._last_id = 0

    def run(self) -> ChainResult:
        for (early,) in self._reader.rows("SELECT id FROM event WHERE id < 1 ORDER BY id LIMIT ?", BLOCK):
            self._report(Damage(Kind.INSERTED, "event", str(early), "ids begin with 1"))
        # By the last id that was seen, not by number: one event with an id of 2**63 - 1 would take for ever.
        while rows := list(self._reader.rows(_ROWS, self._last_id, BLOCK)):
            self._block(rows)
            self._progress(len(rows))
        self._result.events = self._edge.size
        self._station.finish()
        with naming(self._report, "ledger_edge", "1"):
            self._check_edge()
        with naming(self._report, "ledger_tile"):
            self._check_tile_count()
        self._judge()
        return self._result

    def _block(self, rows: Sequence[Row]) -> None:
        try:
            leaves = [_LEAF % row for row in rows]
        except TypeError:  # NULL, or a number where a text was
            rows, leaves = self._careful(rows)
        if rows and (rows[0][0], rows[-1][0]) != (self._last_id + 1, self._last_id + len(rows)):
            self._name_gaps(rows)
        if sum(leaf.count(b"\n") for leaf in leaves) != len(leaves) * (LINES - 1):
            self._name_malformed(rows, leaves)
        if rows:
            self._last_id = rows[-1][0]
        self._note(rows)
        self._grow([sha256(leaf).digest() for leaf in leaves])

    def _careful(self, rows: Sequence[Row]) -> tuple[list[Row], list[bytes]]:
        sound = [
            (row[0], *(part if isinstance(part, bytes) else repr(part).encode() for part in row[1:])) for row in rows
        ]
        for row, clean in zip(rows, sound, strict=True):
            if row != clean:
                self._report(Damage(Kind.CHANGED, "event", str(row[0]), "a column is not text"))
        return sound, [_LEAF % row for row in sound]

    def _name_gaps(self, rows: Sequence[Row]) -> None:
        expected = self._last_id + 1
        for row in rows:
            if row[0] > expected:
                which = str(expected) if row[0] == expected + 1 else f"{expected} to {row[0] - 1}"
                self._report(Damage(Kind.REMOVED, "event", which, "the ids have no gap, and here is one"))
            expected = row[0] + 1

    def _name_malformed(self, rows: Sequence[Row], leaves: Sequence[bytes]) -> None:
        for row, leaf in zip(rows, leaves, strict=True):
            if leaf.count(b"\n") != LINES - 1:
                self._report(Damage(Kind.CHANGED, "event", str(row[0]), "it holds a line feed, which no event may"))

    def _note(self, rows: Sequence[Row]) -> None:
        """Count journal events of units, and hand those of the station on."""
        journal = [row for row in rows if row[5] == _JOURNAL]
        of_units = [row[0] for row in journal if row[2]]
        self._result.unit_events += len(of_units)
        self._result.unit_events_sum += sum(of_units)
        if len(of_units) < len(journal):
            for row in journal:
                if not row[2]:
                    self._station.event(row[0], row[1], row[3], row[4], row[6])

    def _grow(self, hashes: Sequence[bytes]) -> None:
        at = 0
        while self._heads and self._heads[0].size <= self._edge.size + len(hashes) - at:
            head = self._heads.pop(0)
            step = head.size - self._edge.size
            self._add(hashes[at : at + step])
            at += step
            if self._edge.root() == head.root:
                self._result.heads_right += 1
                self._right_size = head.size
            else:
                self._wrong_heads.append(head)
        self._add(hashes[at:])

    def _add(self, hashes: Sequence[bytes]) -> None:
        for tile in self._edge.extend(hashes):
            stored = self._reader.tile(tile.level, tile.number)
            if stored is not None and stored != tile:
                self._wrong.append(tile)
            elif stored is None:
                self._missing.append(tile)

    def _check_edge(self) -> None:
        """Hold the stored edge against the events, where the tree it is of can still be seen."""
        row = next(self._reader.rows("SELECT size, hashes FROM ledger_edge WHERE id = 1"), None)
        if row is None:
            if self._reader.sealed_size():
                self._report(Damage(Kind.REMOVED, "ledger_edge", "1", "there are checkpoints, so there was one"))
            return
        size, hashes = row
        if size != self._reader.sealed_size():
            self._report(
                Damage(Kind.CHANGED, "ledger_edge", "1", f"it is of {size} events, and the last checkpoint not")
            )
        elif size <= self._right_size and b"".join(self._reader.leaves(size - size % WIDTH, size % WIDTH)) != hashes:
            self._report(Damage(Kind.CHANGED, "ledger_edge", "1", "it is not the tree of the events"))

    def _check_tile_count(self) -> None:
        """Find tiles that no events are for."""
        for level, highest in self._reader.rows("SELECT level, max(number) FROM ledger_tile GROUP BY level"):
            if not 0 <= level < _LEVELS:
                self._report(Damage(Kind.INSERTED, "ledger_tile", f"{level}/{highest}", "no tree is so high"))
                continue
            full = self._edge.size // WIDTH ** (level + 1)
            if highest >= full and not self._wrong_heads:
                self._report(Damage(Kind.INSERTED, "ledger_tile", f"{level}/{highest}", "there are not so many events"))

    def _judge(self) -> None:
        """Say which rows are guilty: events where a signed root is wrong, else the tiles."""
        for head in self._heads:
            self._report(
                Damage(
                    Kind.REMOVED,
                    "event",
                    f"{self._edge.size + 1} to {head.size}",
                    f"{head.name} was signed over {head.size} events",
                )
            )
        if self._wrong_heads:
            head = self._wrong_heads[0]
            self._report(
                Damage(
                    Kind.UNPROVEN,
                    "checkpoint",
                    head.name,
                    f"the first {head.size} events don't lead to its root; those up to {self._right_size} do",
                )
            )
            with naming(self._report, "ledger_edge", "1"):
                explain(self._reader, self._right_size, self._report)
            return
        for tile in self._missing:
            if tile.end <= self._right_size:
                name = f"{tile.level}/{tile.number}"
                self._report(Damage(Kind.REMOVED, "ledger_tile", name, "a checkpoint covers it"))
        for tile in self._wrong:
            sure = "the events lead to the signed root" if tile.end <= self._right_size else "or an event under it was"
            name = f"{tile.level}/{tile.number}"
            self._report(Damage(Kind.CHANGED, "ledger_tile", name, f"it is not the tree of the events; {sure}"))
