"""Where the newest checkpoint is kept outside of the manifest, so that an older copy of the manifest is found out.

Two places: a file beside the manifest (``manifest.db.checkpoint``, for people and for copies to another machine), and a
note in each token of the line (``hsm.data_objects``, which who can write to the disk can't write to). A token that
keeps no notes is passed over, and so is one that is away; the other place holds.

A note in a token is replaced only if this manifest made it, or had it read before. So of two copies that are at work
with one token at the same time, the second finds the first one's note, and stops.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hsm import HsmError, Signer, TokenGroup
from hsm.data_objects import read_notes, write_note
from hsm.files import replace_file
from station.ledger.errors import LedgerError, LedgerForked
from station.ledger.note import NOTE_LIMIT

SUFFIX: Final = ".checkpoint"
"""After the manifest's name."""

LABEL: Final = "ledger:"
"""``CKA_LABEL`` of the note, before the manifest's identity: 39 characters, which every token takes."""


@dataclass(frozen=True, slots=True)
class Anchored:
    """A checkpoint that was found outside; nobody has verified it yet."""

    where: str
    note: str


class Anchors:
    """Both places of one manifest."""

    def __init__(self, manifest: Path, identity: str, signer: Signer | TokenGroup) -> None:
        """Name the places.

        Args:
            manifest: the file.
            identity: of the manifest.
            signer: the line's token, or its tokens.
        """
        self.file = manifest.with_name(manifest.name + SUFFIX)
        self._label = LABEL + identity
        self._signers: Sequence[Signer] = signer.signers if isinstance(signer, TokenGroup) else (signer,)
        self._refusals: tuple[HsmError, ...] = ()
        self._told: set[str] = set()
        self._read: set[bytes] = set()
        """Notes that were seen in a token when they were last read: who goes on after that knows of them."""

    def read(self) -> Iterator[Anchored]:
        """Iterate over what is kept; what can't be read is no anchor.

        Raises:
            LedgerError: the file is there, and can't be read.
        """
        try:
            with self.file.open("rb") as file:
                yield Anchored(str(self.file), file.read(NOTE_LIMIT).decode("utf-8", "replace"))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise LedgerError(f"{self.file}: can't be read ({error.strerror}); check its owner and mode") from error
        for signer in self._signers:
            try:
                notes = read_notes(signer, self._label)
            except HsmError:
                continue  # asleep; the file, or another token, holds
            self._read.update(notes)
            for note in notes:
                yield Anchored(f"the token {signer.name!r}", note.decode("utf-8", "replace"))

    def check_own(self, is_ours: Callable[[bytes], bool]) -> None:
        """See, before a checkpoint is signed, that no other copy of the manifest wrote to a token meanwhile.

        Args:
            is_ours: whether a note is that of a checkpoint of the manifest.

        Raises:
            LedgerForked: one did.
        """
        for signer in self._signers:
            try:
                notes = read_notes(signer, self._label)
            except HsmError:
                continue
            if not all(self._may_replace(note, is_ours) for note in notes):
                raise self._forked(signer)

    def write(self, note: str, is_ours: Callable[[bytes], bool]) -> None:
        """Keep a checkpoint; only once it is durable in the manifest.

        Args:
            note: of the checkpoint.
            is_ours: whether a note is that of a checkpoint of the manifest.

        Raises:
            LedgerForked: another copy of the manifest wrote to a token meanwhile; its note is left there.
            LedgerError: the file can't be written.
        """
        refusals = []
        for signer in self._signers:
            try:
                write_note(signer, self._label, note.encode(), may_replace=lambda old: self._may_replace(old, is_ours))
            except HsmError as error:
                if error.code == "token.note_foreign":
                    raise self._forked(signer) from error
                refusals.append(error)
        self._refusals = tuple(refusals)
        self._write_file(note)

    def take_refusals(self) -> tuple[HsmError, ...]:
        """Return why tokens did not take the last checkpoint; each reason once."""
        new = tuple(one for one in self._refusals if str(one) not in self._told)
        self._told.update(map(str, new))
        return new

    def _may_replace(self, note: bytes, is_ours: Callable[[bytes], bool]) -> bool:
        return note in self._read or is_ours(note)

    def _forked(self, signer: Signer) -> LedgerForked:
        return LedgerForked(
            f"the token {signer.name!r} has a checkpoint of this manifest that {self.file.name} does not belong to: "
            "another copy of the manifest is at work with the token. Stop both lines, keep both files, and find out "
            "which one goes on; see docs/ledger.md"
        )

    def _write_file(self, note: str) -> None:
        try:
            replace_file(self.file, note.encode())
        except OSError as error:
            raise LedgerError(
                f"{self.file}: can't be written ({error.strerror}); the checkpoint is in the manifest all the same"
            ) from error
