"""Others read what we write: ``metamorphic-log`` (Rust) verifies C2SP checkpoints and RFC 6962 proofs."""

import contextlib
from itertools import pairwise

import pytest

from station.ledger.leaf import leaf_of
from station.ledger.store import LedgerReader
from station.ledger.tiles import Tree
from station.ledger.tree import consistency_path, leaf_hash

peer = pytest.importorskip("metamorphic_log", reason="metamorphic-log has a wheel for x86-64 only")


@pytest.fixture
def reader(sealed):
    with contextlib.closing(LedgerReader(sealed.path)) as reader:
        yield reader


@pytest.fixture
def note(reader):
    return reader.newest_checkpoint().note


def test_a_checkpoint_of_ours_is_verified(sealed, reader, note):
    head = peer.checkpoint_verify(note, [sealed.key.vkey()])
    newest = reader.newest_checkpoint()
    assert (head.origin, head.size, head.root) == (reader.origin(), newest.tree_size, newest.root)


def test_a_checkpoint_that_was_changed_is_refused(sealed, note):
    size = note.split("\n")[1]
    with pytest.raises(peer.InternalError.__mro__[1]):
        peer.checkpoint_verify(note.replace(size, str(int(size) + 1), 1), [sealed.key.vkey()])


@pytest.mark.parametrize("event", [1, 30, 256, 257, 300])
def test_an_inclusion_proof_of_ours_is_verified(sealed, reader, note, event):
    size = reader.newest_checkpoint().tree_size
    path = Tree(reader).inclusion(event - 1, size)
    leaf = leaf_hash(leaf_of(reader.event(event)))
    peer.checkpoint_verify_inclusion(note, [sealed.key.vkey()], event - 1, leaf, path)


def test_an_inclusion_proof_for_another_event_is_refused(sealed, reader, note):
    path = Tree(reader).inclusion(30, reader.newest_checkpoint().tree_size)
    leaf = leaf_hash(leaf_of(reader.event(30)))
    with pytest.raises(peer.InternalError.__mro__[1]):
        peer.checkpoint_verify_inclusion(note, [sealed.key.vkey()], 30, leaf, path)


def test_our_checkpoints_are_verified_to_be_one_log(sealed, reader):
    rows = list(reader.checkpoints())
    node = Tree(reader).node
    for older, newer in pairwise(rows):
        path = consistency_path(node, older.tree_size, newer.tree_size)
        peer.checkpoint_verify_consistency(older.note, newer.note, [sealed.key.vkey()], path)
