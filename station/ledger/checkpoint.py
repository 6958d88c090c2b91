"""Checkpoints (C2SP tlog-checkpoint): the signed head of a tree.

::

    provisioning-station/6f1c…            the log: one a manifest
    1042                                  leaves
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2…     root, base64

    — provisioning-station/6f1c… Az3grl…  the ledger key's signature

The key signs under the log's own name, so whoever reads other logs reads this one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from station.ledger.errors import NoteInvalid
from station.ledger.note import LedgerPublicKey, Note, NoteSignature, VerifierKey, check_name, decode64, encode64
from station.ledger.tree import HASH_SIZE

ORIGIN: Final = "provisioning-station/"
"""What the names of our logs begin with; the manifest's identity follows."""

_LINES: Final = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a tree."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return what is signed."""
        return f"{self.origin}\n{self.size}\n{encode64(self.root)}\n"

    def signed(self, public: LedgerPublicKey, signature: bytes) -> str:
        """Return the note, with a signature over ``text()``."""
        key = VerifierKey(self.origin, public)
        return Note(self.text(), (NoteSignature(self.origin, key.key_id, signature),)).serialize()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a checkpoint; lines after the third say nothing here.

        Raises:
            NoteInvalid: it is none.
        """
        try:
            origin, size, root, *more = text.removesuffix("\n").split("\n")
            checkpoint = cls(origin, int(size), decode64(root))
            check_name(origin)
        except ValueError as error:
            raise NoteInvalid("not a checkpoint: name of the log, number of leaves, root") from error
        sound = checkpoint.size >= 0 and len(checkpoint.root) == HASH_SIZE and all(more)
        if not sound or not text.startswith(checkpoint.text()):
            raise NoteInvalid("not a checkpoint: name of the log, number of leaves, root")
        return checkpoint


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint whose signature was verified; made by ``open_checkpoint``."""

    checkpoint: Checkpoint
    key: VerifierKey
    note: str


def open_checkpoint(note: str, keys: Sequence[VerifierKey | LedgerPublicKey]) -> SignedCheckpoint:
    """Read a checkpoint and verify who signed it.

    Args:
        note: the signed note.
        keys: who may have; a bare public key signs under the name of the log.

    Raises:
        NoteInvalid: it is no checkpoint, or none of the keys signed it.
    """
    parsed = Note.parse(note)
    checkpoint = Checkpoint.parse(parsed.text)
    named = [key if isinstance(key, VerifierKey) else VerifierKey(checkpoint.origin, key) for key in keys]
    key = parsed.signed_by(named)
    if key.name != checkpoint.origin:
        raise NoteInvalid(f"the checkpoint of log {checkpoint.origin} is signed under the name {key.name}")
    if parsed.serialize() != note:
        raise NoteInvalid("the checkpoint is not written as it should be")
    return SignedCheckpoint(checkpoint, key, note)
