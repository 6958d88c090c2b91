"""Keeping the ledger of a manifest: the tree grows, its head is signed, and the newest head is kept outside.

All of this is off the way of the boards. Events are written by the line as ever; now and then
(``line.ledger_schedule``) ``seal`` reads those that are new over a connection of its own, stores the tiles that are
full, and asks the token for one signature. Order of a checkpoint, so that a crash leaves nothing that contradicts:

1. full tiles, in the manifest;
2. the try to sign, counted in the manifest (and, by a trigger, an event) before the token is asked;
3. the signature, made in the token's thread, and verified here;
4. the signed note, in the manifest;
5. the same note outside (``anchor``). What is kept outside was durable inside before.
"""

import threading
from functools import partial
from pathlib import Path
from typing import Final

from hsm.keys import AnyTokenKey
from station.errors import printable
from station.ledger import store
from station.ledger.anchor import Anchored, Anchors
from station.ledger.checkpoint import Checkpoint, open_checkpoint
from station.ledger.counted import EVERY, KIND, STEP, facts_of, newest_count
from station.ledger.errors import LedgerError, NoteInvalid, RolledBack
from station.ledger.note import LedgerPublicKey, VerifierKey, checked_public
from station.ledger.store import LedgerReader, StoredCheckpoint
from station.ledger.tiles import WIDTH, Edge, Tile, Tree, grow
from station.manifest import Manifest, ManifestReader, OrderCount
from station.manifest.order_operations import suspend_orders

TILES_AT_ONCE: Final = 64
"""Tiles in one transaction: half a megabyte, a few milliseconds in which no board's rows are written."""

ACCEPTED: Final = "accepted"
"""The kind of the event with which somebody answers for a manifest that is not the newest."""


class Ledger:
    """The ledger of an open manifest. Its methods block, and may be called from any thread."""

    def __init__(self, manifest: Manifest, key: AnyTokenKey, anchors: Anchors) -> None:
        """Take charge of a manifest; call ``check`` before anything is written to it.

        Args:
            manifest: open for writing.
            key: the ledger key, in its token.
            anchors: where the newest checkpoint is kept outside.
        """
        self._manifest = manifest
        self._key = key
        self._public: LedgerPublicKey = checked_public(key.public_key())
        self._edge: Edge | None = None
        self._counted: OrderCount | None = None
        self._turn = threading.Lock()
        self.anchors = anchors

    @property
    def path(self) -> Path:
        """The manifest."""
        return self._manifest.path

    def key(self) -> VerifierKey:
        """Return the public key, with the name of this log."""
        with LedgerReader(self.path) as reader:
            return VerifierKey(reader.origin(), self._public)

    def check(self) -> None:
        """See that the manifest holds every checkpoint that is kept outside of it.

        Costs at most 256 events and 255 hashes a level of the tree, however many events there are.

        Raises:
            RolledBack: it does not: an older copy, another manifest, or events that were changed.
        """
        with LedgerReader(self.path) as reader:
            found = list(self.anchors.read())
            newest = reader.newest_checkpoint()
            if not found and newest is not None:
                if newest.tree_size > reader.first_sealed_size():
                    raise RolledBack(
                        f"{self.path} has checkpoints, and neither {self.anchors.file} nor the token has one: they "
                        "were deleted, or the token is another one. If that is in order: 'station manifest accept'",
                        code="ledger.anchor_missing",
                    )
                # The very first one: a crash came between its row and its copies outside. Who could delete these could
                # as well put back a manifest from before it.
                self.anchors.write(newest.note or "", reader.has_note)
            for anchored in found:
                _check_anchor(reader, anchored, self._public)

    def seal(self, reason: str) -> StoredCheckpoint | None:
        """Make a checkpoint of all events that are durable now.

        Args:
            reason: a few words, for the journal.

        Returns:
            The checkpoint; None where nothing happened since the last one.

        Raises:
            LedgerForked: another copy of the manifest is at work with the same token; nothing was signed.
            LedgerError: the events are damaged, or the signature does not verify.
            ManifestError, HsmError: it can't be written, or not signed; the next call tries again.
        """
        self._manifest.perform_blocking(lambda _connection, _at: None)  # what was said before is durable now
        with self._turn, LedgerReader(self.path) as reader:
            if not reader.has_news(reader.sealed_size()):
                return None
            self.anchors.check_own(reader.has_note)
            self._count_orders(reader.size())
            edge = self._edge or Tree(reader).edge(reader.full_tiles() * WIDTH)
            self._edge = None  # what fails half-way begins anew, from what is stored
            grow(edge, reader.leaf_hashes(edge.size, reader.size()), self._store, batch=TILES_AT_ONCE)
            checkpoint = Checkpoint(reader.origin(), edge.size, edge.root())
            made = self._sign(checkpoint, edge, reason)
            self._edge = edge
            self.anchors.write(made.note or "", reader.has_note)
        return made

    def accept(self, reason: str, actor: str) -> StoredCheckpoint | None:
        """Go on with this manifest, whatever is kept outside: it is written down who answers for that, and sealed.

        Its orders are suspended: it does not know which numbers they gave since.

        Args:
            reason: why it is in order.
            actor: who says so.
        """
        outside = ", ".join(f"{one.where}: {_headline(one.note)}" for one in self.anchors.read())
        self._manifest.perform_blocking(partial(suspend_orders, reason=f"an older manifest was accepted: {reason}"))
        facts = {"actor": printable(actor), "reason": printable(reason), "outside": printable(outside, 1000)}
        self._manifest.event(None, "", "ledger", ACCEPTED, facts)
        return self.seal("accepted")

    def _count_orders(self, size: int) -> None:
        """Write how far the orders are, if the last count is long ago; it is sealed with what comes before it."""
        if self._counted is None:
            self._counted = newest_count(self.path, self._public) or OrderCount()
        if size - self._counted.through < EVERY:
            return
        with ManifestReader(self.path) as reader:
            self._counted = reader.count_orders(self._counted)
        self._manifest.event(None, "", STEP, KIND, facts_of(self._counted))
        self._manifest.perform_blocking(lambda _connection, _at: None)

    def _store(self, tiles: list[Tile]) -> None:
        self._manifest.perform_blocking(partial(store.store_tiles, tiles=tiles))

    def _sign(self, checkpoint: Checkpoint, edge: Edge, reason: str) -> StoredCheckpoint:
        perform = self._manifest.perform_blocking
        checkpoint_id = perform(partial(store.ask, size=checkpoint.size, root=checkpoint.root, reason=reason))
        tries = 1

        def again() -> None:
            nonlocal tries
            perform(partial(store.ask_again, checkpoint_id=checkpoint_id))
            tries += 1

        text = checkpoint.text()
        signature = self._key.sign_message_blocking(text.encode(), again=again)
        if not VerifierKey(checkpoint.origin, self._public).verify(text, signature):
            raise LedgerError(
                "the token returned a signature over a checkpoint that does not verify",
                code="ledger.signature_invalid",
                operator="The HSM signs wrongly. Stop the line and call the security officer.",
            )
        note = checkpoint.signed(self._public, signature)
        perform(partial(store.seal, checkpoint_id=checkpoint_id, note=note, size=checkpoint.size, edge=edge.levels[0]))
        return StoredCheckpoint(checkpoint_id, checkpoint.size, checkpoint.root, reason, tries, note, "")


def _check_anchor(reader: LedgerReader, anchored: Anchored, public: LedgerPublicKey) -> None:
    try:
        outside = open_checkpoint(anchored.note, [public]).checkpoint
    except NoteInvalid as error:
        raise RolledBack(
            f"the checkpoint in {anchored.where} is not one of the ledger key: {error}. If that is in order: "
            "'station manifest accept'",
            code="ledger.anchor_invalid",
        ) from error
    if outside.origin != reader.origin():
        raise RolledBack(
            f"the checkpoint in {anchored.where} is of another manifest ({outside.origin}); {reader.path} is "
            f"{reader.origin()}. Put that manifest back; for a new one take a new name, or 'station manifest accept'",
            code="ledger.other_manifest",
        )
    if outside.size > reader.size():
        raise RolledBack(
            f"{reader.path} has {reader.size()} events, and {anchored.where} says that it had {outside.size}: it is an "
            "older copy. Put the newest one back; if it is lost: 'station manifest accept'",
            expected=outside.size,
            got=reader.size(),
        )
    root = Tree(reader).root(outside.size)
    if root != outside.root:
        raise RolledBack(
            f"the first {outside.size} events of {reader.path} are not those that {anchored.where} says: "
            "'station manifest verify' names what was changed",
            expected=outside.root,
            got=root,
        )


def _headline(note: str) -> str:
    lines = note.split("\n")
    return " ".join(lines[1:3])
