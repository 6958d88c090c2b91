"""The ledger's rows in the manifest: reading them, and the operations that write them (``manifest.perform``)."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hsm.durable import Reader
from station.ledger.checkpoint import ORIGIN
from station.ledger.errors import LedgerError
from station.ledger.leaf import COLUMNS, EventRow, is_well_formed, leaf_of
from station.ledger.tiles import Tile
from station.ledger.tree import leaf_hash
from station.manifest.schema import MANIFEST


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A row of ``checkpoint``."""

    id: int
    tree_size: int
    root: bytes
    reason: str
    signing_tries: int
    note: str | None
    """None: it was asked for, and no signature was seen."""
    changed_at: str


_CHECKPOINTS = "SELECT id, tree_size, root, reason, signing_tries, note, changed_at FROM checkpoint"


class LedgerReader(Reader):
    """The events of a manifest as leaves, and its ledger; also of a copy, without a station and without an HSM."""

    def __init__(self, path: Path) -> None:
        """Open the manifest.

        Raises:
            ManifestError: no such file, newer, older, foreign, or damaged.
        """
        super().__init__(MANIFEST, path)
        # The very bytes of a text are what is hashed, whether they are UTF-8 or not.
        self._db.conn.text_factory = bytes

    def identity(self) -> str:
        """Return the random id of the manifest."""
        ((uuid,),) = self.rows("SELECT coalesce((SELECT uuid FROM manifest_identity WHERE id = 1), '')")
        return uuid.decode("utf-8", "replace") if isinstance(uuid, bytes) else ""

    def origin(self) -> str:
        """Return the name of this log."""
        return ORIGIN + self.identity()

    def size(self) -> int:
        """Return how many events there are: the id of the last one."""
        ((last,),) = self.rows("SELECT coalesce(max(id), 0) FROM event")
        return int(last)

    def events(self, after: int, until: int) -> Iterator[EventRow]:
        """Iterate over events, ``after`` excluded, ``until`` included."""
        return self.rows(f"SELECT {COLUMNS} FROM event WHERE id > ? AND id <= ? ORDER BY id", after, until)  # noqa: S608

    def event(self, event_id: int) -> EventRow | None:
        """Return an event."""
        return next(self.events(event_id - 1, event_id), None)

    def leaf_hashes(self, after: int, until: int) -> Iterator[bytes]:
        """Iterate over the hashes of events.

        Raises:
            LedgerError: one is missing, or can't be a leaf.
        """
        expected = after
        for row in self.events(after, until):
            expected += 1
            leaf = leaf_of(row)
            if row[0] != expected or not is_well_formed(leaf):
                raise LedgerError(
                    f"{self.path}: event {expected} is missing or malformed; 'station manifest verify' says more",
                    code="ledger.events_damaged",
                )
            yield leaf_hash(leaf)

    def pass_event(self, unit_id: int) -> int | None:
        """Return the id of the event with which a unit passed last."""
        sql = "SELECT id FROM event WHERE unit_id = ? AND kind = 'journal' AND step = 'pass' ORDER BY id DESC LIMIT 1"
        row = next(self.rows(sql, unit_id), None)
        return None if row is None else int(row[0])

    # What a tree is read from (``tiles.TileStore``).

    def tile(self, level: int, number: int) -> Tile | None:
        """Return a full tile, or None if it is not stored."""
        row = next(
            self.rows("SELECT root, hashes FROM ledger_tile WHERE level = ? AND number = ?", level, number), None
        )
        return None if row is None else Tile(level, number, *row)

    def roots(self, level: int, first: int, count: int) -> list[bytes]:
        """Return roots of stored tiles."""
        sql = "SELECT root FROM ledger_tile WHERE level = ? AND number >= ? AND number < ? ORDER BY number"
        return [root for (root,) in self.rows(sql, level, first, first + count)]

    def leaves(self, first: int, count: int) -> list[bytes]:
        """Return hashes of leaves, made of the events."""
        return list(self.leaf_hashes(first, first + count))

    def full_tiles(self) -> int:
        """Return how many tiles of the lowest level are stored."""
        ((last,),) = self.rows("SELECT coalesce(max(number), -1) FROM ledger_tile WHERE level = 0")
        return int(last) + 1

    def sealed_size(self) -> int:
        """Return how many leaves a checkpoint covers, if it is more than before them."""
        ((size,),) = self.rows("SELECT coalesce(max(tree_size), 0) FROM checkpoint WHERE note IS NOT NULL")
        return int(size)

    def first_sealed_size(self) -> int:
        """Return how many leaves the first signed checkpoint covers."""
        ((size,),) = self.rows("SELECT coalesce(min(tree_size), 0) FROM checkpoint WHERE note IS NOT NULL")
        return int(size)

    def has_news(self, after: int) -> bool:
        """Whether there are events beside those that checkpoints themselves wrote."""
        sql = "SELECT 1 FROM event WHERE id > ? AND NOT (step = 'checkpoint' AND kind = 'journal') LIMIT 1"
        return next(self.rows(sql, after), None) is not None

    def checkpoints(self) -> Iterator[StoredCheckpoint]:
        """Iterate over the checkpoints, oldest first."""
        return map(_checkpoint, self.rows(f"{_CHECKPOINTS} ORDER BY id"))

    def has_note(self, note: bytes) -> bool:
        """Whether a note is that of a checkpoint in this manifest."""
        sql = "SELECT 1 FROM checkpoint WHERE CAST(note AS BLOB) = ? LIMIT 1"
        return next(self.rows(sql, note), None) is not None

    def newest_checkpoint(self, covering: int = 0) -> StoredCheckpoint | None:
        """Return the newest checkpoint that is signed, if it covers an event."""
        sql = f"{_CHECKPOINTS} WHERE note IS NOT NULL AND tree_size >= ? ORDER BY id DESC LIMIT 1"
        row = next(self.rows(sql, covering), None)
        return None if row is None else _checkpoint(row)


def _checkpoint(row: tuple[object, ...]) -> StoredCheckpoint:
    identity, size, root, reason, tries, note, at = row
    texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else None for value in (reason, note, at)]
    return StoredCheckpoint(identity, size, root, texts[0] or "", tries, texts[1], texts[2] or "")  # type: ignore[arg-type]  # STRICT


def store_tiles(connection: sqlite3.Connection, _at: str, *, tiles: Sequence[Tile]) -> None:
    """Store full tiles, the lower ones first."""
    connection.executemany(
        "INSERT INTO ledger_tile (level, number, root, hashes) VALUES (?, ?, ?, ?)",
        [(tile.level, tile.number, tile.root, tile.hashes) for tile in tiles],
    )


def ask(connection: sqlite3.Connection, at: str, *, size: int, root: bytes, reason: str) -> int:
    """Write that a checkpoint is going to be signed; returns its row."""
    (checkpoint_id,) = connection.execute(
        "INSERT INTO checkpoint (id, tree_size, root, reason, signing_tries, changed_at) "
        "SELECT coalesce(max(id), 0) + 1, ?, ?, ?, 1, ? FROM checkpoint RETURNING id",
        (size, root, reason, at),
    ).fetchone()
    return int(checkpoint_id)


def ask_again(connection: sqlite3.Connection, at: str, *, checkpoint_id: int) -> None:
    """Count one more try, before the token is asked."""
    connection.execute(
        "UPDATE checkpoint SET signing_tries = signing_tries + 1, changed_at = ? WHERE id = ?", (at, checkpoint_id)
    )


def seal(
    connection: sqlite3.Connection, _at: str, *, checkpoint_id: int, note: str, size: int, edge: Sequence[bytes]
) -> None:
    """Store the signed checkpoint, and the leaves after the last full tile."""
    connection.execute("UPDATE checkpoint SET note = ? WHERE id = ?", (note, checkpoint_id))
    values = (size, b"".join(edge))
    if connection.execute("UPDATE ledger_edge SET size = ?, hashes = ? WHERE id = 1", values).rowcount == 0:
        connection.execute("INSERT INTO ledger_edge (id, size, hashes) VALUES (1, ?, ?)", values)
