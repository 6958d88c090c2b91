"""The Merkle tree of RFC 6962 2.1 (the same as RFC 9162 2.1), as pure functions.

::

    MTH({})      = SHA-256()
    MTH({d})     = SHA-256(0x00 || d)
    MTH(D[n])    = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n]))     k: the largest power of two smaller than n

Nodes are named by level and number: node ``number`` of ``level`` is the root of the ``2**level`` leaves from
``number * 2**level`` on. Only perfect subtrees are nodes here; a ragged one is put together from nodes.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final

Node = Callable[[int, int], bytes]
"""Gives the hash of a node, by level and number."""

EMPTY: Final = sha256().digest()
"""The root of a tree without leaves."""

HASH_SIZE: Final = 32


def leaf_hash(leaf: bytes) -> bytes:
    """Hash a leaf (RFC 6962 2.1)."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two nodes into the one above them (RFC 6962 2.1)."""
    return sha256(b"\x01" + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over nodes of one level; the last one may be the root of a smaller, ragged subtree.

    Pairs are hashed level by level, and an odd one at the end moves up as it is; that is the tree of RFC 6962.
    """
    if not hashes:
        return EMPTY
    while len(hashes) > 1:
        above = [
            sha256(b"\x01" + left + right).digest() for left, right in zip(hashes[::2], hashes[1::2], strict=False)
        ]
        if len(hashes) % 2:
            above.append(hashes[-1])
        hashes = above
    return hashes[0]


def perfect_subtrees(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Split leaves into the fewest nodes, from left to right.

    Args:
        start: the first leaf; a multiple of the largest power of two that is not greater than ``end - start``.
        end: the leaf after the last one.
    """
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def range_root(node: Node, start: int, end: int) -> bytes:
    """Return MTH of some leaves that are a subtree of the tree; see ``perfect_subtrees``."""
    if start == end:
        return EMPTY
    root = None
    for level, number in reversed(list(perfect_subtrees(start, end))):
        root = node(level, number) if root is None else node_hash(node(level, number), root)
    assert root is not None  # noqa: S101 - for mypy: there is a leaf
    return root


def _split(size: int) -> int:
    """Return the largest power of two smaller than ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_path(node: Node, index: int, size: int) -> list[bytes]:
    """Return the audit path of a leaf, from its sibling upwards (RFC 6962 2.1.1).

    Args:
        node: of the tree.
        index: of the leaf, from 0; smaller than ``size``.
        size: of the tree.
    """
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_root(node, middle, end))
            end = middle
        else:
            path.append(range_root(node, start, middle))
            start = middle
    return path[::-1]


def root_of_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that an audit path leads to (RFC 9162 2.1.3.2); None if it has not the right length.

    Args:
        leaf: the leaf's hash.
        index: of the leaf.
        size: of the tree.
        path: from its sibling upwards.
    """
    if not 0 <= index < size:
        return None
    position, last, root = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if position % 2 or position == last:
            root = node_hash(sibling, root)
            while position % 2 == 0 and position:
                position, last = position >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        position, last = position >> 1, last >> 1
    return root if last == 0 else None


def consistency_path(node: Node, first: int, second: int) -> list[bytes]:
    """Return the proof that a tree of ``first`` leaves is the beginning of one of ``second`` (RFC 6962 2.1.2).

    Args:
        node: of the larger tree.
        first: 0 < first <= second.
        second: leaves of the larger tree.
    """
    path: list[bytes] = []
    start, end, is_whole = 0, second, True
    while first < end:
        middle = start + _split(end - start)
        if first <= middle:
            path.append(range_root(node, middle, end))
            end = middle
        else:
            path.append(range_root(node, start, middle))
            start, is_whole = middle, False
    if not is_whole:
        path.append(range_root(node, start, end))
    return path[::-1]


def is_consistent(first: int, first_root: bytes, second: int, second_root: bytes, path: Sequence[bytes]) -> bool:
    """Check a consistency proof (RFC 9162 2.1.4.2); 0 < first <= second."""
    if first == second:
        return not path and first_root == second_root
    if not 0 < first < second or not path:
        return False
    nodes = [first_root, *path] if first & (first - 1) == 0 else list(path)
    position, last = first - 1, second - 1
    while position % 2:
        position, last = position >> 1, last >> 1
    small = large = nodes[0]
    for sibling in nodes[1:]:
        if last == 0:
            return False
        if position % 2 or position == last:
            small, large = node_hash(sibling, small), node_hash(sibling, large)
            while position % 2 == 0 and position:
                position, last = position >> 1, last >> 1
        else:
            large = node_hash(large, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and small == first_root and large == second_root
