"""The tree against the vectors of others, and against the definition of RFC 6962 written down once more.

The eight leaves and the roots and paths over them are those of Certificate Transparency's own tests
(google/certificate-transparency, merkletree tests), which most implementations of RFC 6962 share.
"""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.ledger.tiles import WIDTH, Edge, Tile, Tree, grow
from station.ledger.tree import (
    EMPTY,
    consistency_path,
    fold,
    inclusion_path,
    is_consistent,
    leaf_hash,
    range_root,
    root_of_path,
)

LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = {  # (index, size): path
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCY = {  # (first, second): path
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def mth(leaves):
    """RFC 6962 2.1, word by word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def node_of(leaves):
    """Return nodes of a tree in memory."""
    return lambda level, number: mth(leaves[number << level : (number + 1) << level])


class MemoryStore:
    """Tiles in memory, behind the face of those in a manifest."""

    def __init__(self, leaves):
        self.hashes = leaves
        self.tiles: dict[tuple[int, int], Tile] = {}

    def keep(self, tiles):
        for tile in tiles:
            self.tiles[tile.level, tile.number] = tile

    def tile(self, level, number):
        return self.tiles.get((level, number))

    def roots(self, level, first, count):
        found = []
        for number in range(first, first + count):
            if (level, number) not in self.tiles:
                break
            found.append(self.tiles[level, number].root)
        return found

    def leaves(self, first, count):
        return self.hashes[first : first + count]


def test_the_root_of_an_empty_tree_is_the_hash_of_nothing():
    assert EMPTY.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_certificate_transparency(size):
    assert range_root(node_of(LEAVES), 0, size).hex() == ROOTS[size - 1]


@pytest.mark.parametrize(("place", "path"), PATHS.items(), ids=str)
def test_audit_paths_are_those_of_certificate_transparency(place, path):
    assert [one.hex() for one in inclusion_path(node_of(LEAVES), *place)] == path


@pytest.mark.parametrize(("place", "path"), CONSISTENCY.items(), ids=str)
def test_consistency_proofs_are_those_of_certificate_transparency(place, path):
    assert [one.hex() for one in consistency_path(node_of(LEAVES), *place)] == path


@given(st.integers(1, 70).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))))
def test_every_audit_path_leads_to_the_root_and_no_other_leaf_does(place):
    size, index = place
    leaves = [bytes([one]) for one in range(size)]
    path = inclusion_path(node_of(leaves), index, size)
    assert root_of_path(leaf_hash(leaves[index]), index, size, path) == mth(leaves)
    assert root_of_path(leaf_hash(b"another"), index, size, path) != mth(leaves)
    assert root_of_path(leaf_hash(leaves[index]), index, size, [*path, EMPTY]) is None


@given(st.integers(1, 70).flatmap(lambda size: st.tuples(st.integers(1, size), st.just(size))))
def test_every_consistency_proof_holds_and_none_for_another_beginning(sizes):
    first, second = sizes
    leaves = [bytes([one]) for one in range(second)]
    path = consistency_path(node_of(leaves), first, second)
    assert is_consistent(first, mth(leaves[:first]), second, mth(leaves), path)
    assert not is_consistent(first, mth([b"another", *leaves[1:first]]), second, mth(leaves), path)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 700, 1000, 65_536, 65_537, 66_000])
def test_a_tree_in_tiles_is_the_tree_of_the_rfc(size):
    hashes = [sha256(b"%d" % number).digest() for number in range(size)]
    edge, store = Edge(), MemoryStore(hashes)
    grow(edge, iter(hashes), store.keep, batch=3)
    tree = Tree(store)
    assert edge.root() == tree.root(size) == fold(hashes)
    assert tree.edge(size).levels == edge.levels
    for index in {0, size // 2, size - 1} if size else ():
        assert root_of_path(hashes[index], index, size, tree.inclusion(index, size)) == edge.root()


def test_a_tree_goes_on_from_its_tiles_as_if_it_had_never_stopped():
    hashes = [sha256(b"%d" % number).digest() for number in range(3 * WIDTH + 9)]
    store = MemoryStore(hashes)
    grow(Edge(), iter(hashes[: 2 * WIDTH + 5]), store.keep, batch=1)
    edge = Tree(store).edge(2 * WIDTH)
    grow(edge, iter(hashes[2 * WIDTH :]), store.keep, batch=1)
    assert edge.root() == fold(hashes)


def test_what_is_missing_among_the_tiles_is_made_of_what_is_below():
    hashes = [sha256(b"%d" % number).digest() for number in range(2 * WIDTH)]
    assert Tree(MemoryStore(hashes)).root(2 * WIDTH) == fold(hashes)
