"""The tree in tiles of 256 nodes (the idea of C2SP tlog-tiles), so that neither growing nor reading it gets slower.

A tile of level L and number n holds the nodes ``256 n`` to ``256 n + 255`` of tree level ``8 L``; hash i of it is the
root of ``256**L`` leaves. Full tiles are stored, each with its own root, which is a node of level L + 1. What comes
after the last full tile of a level is the *edge*: less than 256 nodes, made again of the tiles below.

Cost of one more leaf: its own hash, 255/256 hashes for the tile, and so on upwards: 2 hashes, however large the tree.
Cost of the edge: at most 255 events, and 255 roots a level.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from station.ledger.tree import HASH_SIZE, fold, inclusion_path, range_root

WIDTH_BITS: Final = 8
WIDTH: Final = 1 << WIDTH_BITS
"""Nodes in a tile."""

TILE_BYTES: Final = WIDTH * HASH_SIZE


@dataclass(frozen=True, slots=True)
class Tile:
    """A full tile."""

    level: int
    number: int
    root: bytes
    hashes: bytes
    """256 hashes, one after the other."""

    @property
    def end(self) -> int:
        """How many leaves there are up to its last one."""
        return (self.number + 1) << (WIDTH_BITS * (self.level + 1))

    def part(self, first: int, count: int) -> list[bytes]:
        """Return some of its hashes."""
        return split(self.hashes[first * HASH_SIZE : (first + count) * HASH_SIZE])


def split(hashes: bytes) -> list[bytes]:
    """Cut hashes that stand one after the other."""
    return [hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE)]


class Edge:
    """The right edge of a tree that grows; it holds less than 256 hashes a level."""

    def __init__(self, levels: Sequence[Sequence[bytes]] = (), *, size: int = 0) -> None:
        """Go on with a tree.

        Args:
            levels: for each level the hashes after its last full tile.
            size: leaves in the tree.
        """
        self.size = size
        self.levels: list[list[bytes]] = [list(level) for level in levels] or [[]]

    def append(self, leaf: bytes) -> list[Tile]:
        """Add a leaf's hash; returns the tiles that are full by it, the lowest first."""
        self.size += 1
        lowest = self.levels[0]
        lowest.append(leaf)
        return self._filled() if len(lowest) == WIDTH else []

    def extend(self, leaves: Sequence[bytes]) -> list[Tile]:
        """Add hashes of leaves; returns the tiles that are full by them, the lower ones first."""
        tiles: list[Tile] = []
        at = 0
        while at < len(leaves):
            lowest = self.levels[0]
            part = leaves[at : at + WIDTH - len(lowest)]
            lowest.extend(part)
            self.size += len(part)
            at += len(part)
            if len(lowest) == WIDTH:
                tiles += self._filled()
        return tiles

    def _filled(self) -> list[Tile]:
        tiles = []
        level = 0
        while len(self.levels[level]) == WIDTH:
            hashes = self.levels[level]
            number = (self.size >> (WIDTH_BITS * (level + 1))) - 1
            tile = Tile(level, number, fold(hashes), b"".join(hashes))
            tiles.append(tile)
            hashes.clear()
            level += 1
            if level == len(self.levels):
                self.levels.append([])
            self.levels[level].append(tile.root)
        return tiles

    def root(self) -> bytes:
        """Return the tree's root (RFC 6962 2.1)."""
        below: list[bytes] = []
        for level in self.levels:
            nodes = [*level, *below]
            below = [fold(nodes)] if nodes else []
        return below[0] if below else fold([])


class TileStore(Protocol):
    """Where a tree is read from."""

    def tile(self, level: int, number: int) -> Tile | None:
        """Return a full tile, or None if it is not stored."""

    def roots(self, level: int, first: int, count: int) -> list[bytes]:
        """Return roots of stored tiles; fewer where fewer are stored."""

    def leaves(self, first: int, count: int) -> list[bytes]:
        """Return hashes of leaves, made of the events themselves."""


class Tree:
    """A tree as it is stored, to be read: roots, and proofs."""

    def __init__(self, store: TileStore) -> None:
        self._store = store
        self._last: Tile | None = None

    def node(self, level: int, number: int) -> bytes:
        """Return the hash of a node (``tree.Node``); all its leaves have to be there."""
        tile_level, height = divmod(level, WIDTH_BITS)
        return fold(self._hashes(tile_level, number << height, 1 << height))

    def root(self, size: int) -> bytes:
        """Return the root over the first leaves."""
        return range_root(self.node, 0, size)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Return the audit path of a leaf in the tree of some size."""
        return inclusion_path(self.node, index, size)

    def edge(self, size: int) -> Edge:
        """Return the edge of the tree of some size, to go on with."""
        levels: list[list[bytes]] = []
        nodes, level = size, 0
        while nodes or not levels:
            rest = nodes % WIDTH
            levels.append(self._hashes(level, nodes - rest, rest) if rest else [])
            nodes //= WIDTH
            level += 1
        return Edge(levels, size=size)

    def _hashes(self, level: int, first: int, count: int) -> list[bytes]:
        """Return nodes of tree level ``8 * level``, all of one tile."""
        number, at = divmod(first, WIDTH)
        tile = self._tile(level, number)
        if tile is not None:
            return tile.part(at, count)
        if level == 0:
            return self._store.leaves(first, count)
        found = self._store.roots(level - 1, first, count)
        # what is not stored, because the ledger is behind the events, or somebody took it out, is made of what is below
        return found + [
            fold(self._hashes(level - 1, (first + index) * WIDTH, WIDTH)) for index in range(len(found), count)
        ]

    def _tile(self, level: int, number: int) -> Tile | None:
        last = self._last
        if last is None or (last.level, last.number) != (level, number):
            self._last = self._store.tile(level, number)
        return self._last if self._last is not None else None


def grow(edge: Edge, leaves: Iterator[bytes], store: Callable[[list[Tile]], object], *, batch: int) -> None:
    """Add leaves to a tree.

    Args:
        edge: grows.
        leaves: hashes.
        store: gets full tiles, the lower ones first, about ``batch`` at a time.
        batch: tiles.
    """
    full: list[Tile] = []
    for leaf in leaves:
        full += edge.append(leaf)
        if len(full) >= batch:
            store(full)
            full = []
    if full:
        store(full)
