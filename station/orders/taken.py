"""How many numbers of an order were taken, as the tokens remember it: an older copy of the manifest is found out.

Before a token signs for a number, it is told: a note says how many numbers the manifest has given by then, all of them
durable there. So a manifest that knows of fewer is an older copy, whatever else was put back with it,
and a station that lost power is none: what was told had been written before. Who asks at the same time is told with one
note (``hsm.data_objects.Mark``). ``every`` says how many numbers a note is for at most, for tokens that wear out by
writing: with more than one, a copy that was put back can give so many less one again.

The note is told by the signer's gate (``warrant.py``), on the thread of the token that signs, so each token knows at
least what it signed itself. Tokens that keep no notes have a file beside the counts of signatures instead, which is
worth less: a file can be put back with the manifest.

A note that nobody can believe stops the order (``order.note_damaged``) until a person says which number is the next
(``station.cli.order_resume``): ``survey`` tells what is left of the notes, and ``tell_all`` replaces the damaged ones.
"""

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Final

from hsm import HsmError, Signer, TokenError, TokenGroup, WarrantError
from hsm.data_objects import Mark, read_marks, write_mark
from hsm.files import replace_file, sync
from hsm.token import Session
from station.errors import printable
from station.manifest import OrderSeal
from station.orders.errors import OrderError

NAME: Final = "taken "
"""Of the marks, before the order's id."""

SUFFIX: Final = ".taken"
"""Of the file, after the order's id."""

_LABEL: Final = re.compile(r"[0-9a-f]{8}\.([0-9]{1,12})")
"""Whose it is, and how many numbers were taken."""

DAMAGED: Final = ".damaged"
"""Of a file that nobody could read, after its name: it is kept when a new one is written."""

_FORMAT: Final = "station-order-taken-1"
_SHOWN: Final = 24
"""Bytes of a damaged note that are put on record."""
_RED: Final = "Two copies of one manifest are at work. The line stops; call the security officer."


@dataclass(slots=True)
class _Place:
    """What one token was told; touched on its own thread only."""

    signer: Signer
    told: int | None = None
    """None: it was not read yet."""
    known: frozenset[str] = frozenset()
    """Labels of the notes that were there when it was read."""
    own: tuple[str, ...] = ()
    """Of those that were written since, the newest last."""
    damaged: tuple[str, ...] = ()
    """Notes that nobody can believe: where each is, and what stands in it."""
    refused: bool = False
    """It took no note when it was asked last."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the tokens, and the file, remember of an order."""

    taken: int
    """Numbers that were taken, by the notes that can be believed."""
    damaged: tuple[str, ...] = ()
    """The others: where each is, and what stands in it."""


class TakenNotes:
    """What the tokens know of one order."""

    def __init__(
        self, signer: Signer | TokenGroup, seal: OrderSeal, manifest: str, *, folder: Path, every: int = 1
    ) -> None:
        """Name the places; nothing is read yet.

        Args:
            signer: the issuing tokens.
            seal: of the order.
            manifest: identity of the manifest.
            folder: of the counts of signatures; gets the file where a token keeps no notes.
            every: numbers that one note is for, at most.
        """
        signers: Sequence[Signer] = signer.signers if isinstance(signer, TokenGroup) else (signer,)
        self._places = tuple(_Place(one) for one in signers)
        self._uid = seal.uid
        self._name = f"{NAME}{seal.uid}"
        self._value = json.dumps({"format": _FORMAT, "order": seal.uid, "manifest": manifest}).encode()
        self._by = secrets.token_hex(4)
        self._manifest = manifest
        self._file = folder / f"{seal.uid}{SUFFIX}"
        self._file_turn = Lock()
        self._every = every

    def read(self, most: int) -> int:
        """Return how many numbers were taken, as far as the tokens that are awake, and the file, remember. Blocks.

        Args:
            most: numbers of the share.

        Raises:
            OrderError: a note is of another manifest (``order.replayed``), or nobody can believe it
                (``order.note_damaged``).
            HsmError: a token refuses.
        """
        remembered = self.survey(most)
        _check_sound(remembered.damaged)
        return remembered.taken

    def survey(self, most: int) -> Remembered:
        """Return what is remembered, and what is damaged; for whoever decides. Otherwise as ``read``."""
        taken, damaged = self._survey_file(most)
        for place in self._places:
            if place.signer.unavailable is None:
                place.signer.call_blocking(partial(self._read_in, place=place, most=most))
                taken, damaged = max(taken, place.told or 0), damaged + place.damaged
        return Remembered(taken, damaged)

    def tell(self, index: int, taken: int) -> None:
        """See that the token that is about to sign knows of a number; on its thread, or else on the first one's.

        Args:
            index: of the number, from 0.
            taken: numbers that the manifest has given by now, durably; more than ``index``.

        Raises:
            WarrantError: another copy of the manifest told the token (``warrant.forked``), or this one is an older copy
                (``warrant.rolled_back``), or another token than the one that signs can't be told
                (``warrant.not_noted``).
            HsmError: the token refuses.
        """
        here = next((place for place in self._places if place.signer.is_here), None)
        if here is not None:
            self._tell(here, index, taken)
            return
        awake = next((place for place in self._places if place.signer.unavailable is None), self._places[0])
        try:
            awake.signer.call_blocking(lambda _: self._tell(awake, index, taken))
        except TokenError as error:  # not the one that signs, so nothing is wrong with that one
            raise WarrantError(
                f"token {awake.signer.name!r} can't be told of a number, so nothing is signed for it: {error}",
                code="warrant.not_noted",
                operator="The HSM that keeps the orders is away. Put the board aside and call the line engineer.",
            ) from error

    def tell_all(self, taken: int) -> None:
        """Let each token that is awake know that numbers are taken, by somebody's decision; after ``survey``. Blocks.

        Damaged notes are replaced by that: nobody needs them any more.

        Args:
            taken: numbers that are taken by now, durably in the manifest.

        Raises:
            HsmError: a token refuses; or as ``tell``.
            OSError: a damaged file can't be put aside.
        """
        if self._read_file() is None:
            self._file.replace(self._file.with_name(self._file.name + DAMAGED))
            sync(self._file.parent)
        for place in self._places:
            if place.signer.unavailable is None and ((place.told or 0) < taken or place.damaged):
                place.signer.call_blocking(partial(self._write_in, place=place, taken=taken))

    def _read_in(self, _session: Session, *, place: _Place, most: int) -> None:
        self._read(place, most)

    def _write_in(self, _session: Session, *, place: _Place, taken: int) -> None:
        self._write(place, taken)

    def _tell(self, place: _Place, index: int, taken: int) -> None:
        if place.told is not None and index < place.told + self._every - 1:
            return
        if place.told is None:  # it slept when the station started
            try:
                told = max(self._read(place), self._sound_file())
            except OrderError as error:
                raise WarrantError(str(error), code="warrant.rolled_back", operator=_RED) from error
            if told > taken:
                raise WarrantError(
                    f"token {place.signer.name!r} knows that {told} numbers of the order were taken, and the manifest "
                    f"says {taken}: it is an older copy. Stop the line, and put the newest one back",
                    code="warrant.rolled_back",
                    operator=_RED,
                )
            if index < told + self._every - 1:
                return
        self._write(place, taken)

    def _write(self, place: _Place, taken: int) -> None:
        label = f"{self._by}.{taken}"
        try:
            write_mark(place.signer, self._name, Mark(label, self._value), own=place.own, known=place.known)
        except HsmError as error:
            if error.code == "token.note_foreign":
                raise WarrantError(
                    f"token {place.signer.name!r} was told of numbers of this order by somebody else: another copy of "
                    "the manifest is at work with it. Stop both lines, keep both files, and find out which one goes on",
                    code="warrant.forked",
                    operator=_RED,
                ) from error
            if error.code != "token.no_notes":
                self._check_writes(place, error)
                raise
            self._write_file(taken)
        place.own, place.told, place.refused, place.damaged = (*place.own[-1:], label), taken, False, ()

    def _check_writes(self, place: _Place, error: HsmError) -> None:
        """Tell a token that is ill, which is healed and asked again, from one that can't write, as on a full disk.

        Raises:
            WarrantError: it was healed since the last refusal, reads its notes, and still takes none.
        """
        if not place.refused:
            place.refused = True
            return
        try:
            read_marks(place.signer, self._name)
        except HsmError:
            return
        raise WarrantError(
            f"token {place.signer.name!r} takes no note of the numbers that are given, so nothing is signed ({error}); "
            "see to its memory, or to the disk that it is on",
            code="warrant.not_noted",
            operator="The HSM takes no notes, so nothing is signed. Leave the boards in and call the line engineer.",
        ) from error

    def _read(self, place: _Place, most: int | None = None) -> int:
        """Read the notes of a token anew.

        Args:
            place: of the token.
            most: numbers of the share; None, where whoever asks knows how many may be taken by now: damage is refused.
        """
        marks = read_marks(place.signer, self._name)
        place.known = frozenset(mark.label for mark in marks)
        where = f"token {place.signer.name!r}"
        told = [(mark, self._taken(mark.label, mark.value, where)) for mark in marks]
        place.damaged = tuple(
            _shown(where, mark.label, mark.value)
            for mark, taken in told
            if taken is None or (most is not None and taken > most)
        )
        if most is None:
            _check_sound(place.damaged)
        sound = [taken for _, taken in told if taken is not None and (most is None or taken <= most)]
        place.told = max(sound, default=0)
        return place.told

    def _survey_file(self, most: int) -> tuple[int, tuple[str, ...]]:
        taken = self._read_file()
        if taken is None or taken > most:
            return 0, (_shown(str(self._file), "", self._file.read_bytes()),)
        return taken, ()

    def _sound_file(self) -> int:
        taken = self._read_file()
        _check_sound((str(self._file),) if taken is None else ())
        return taken or 0

    def _read_file(self) -> int | None:
        """Return how many numbers the file says were taken; None: nobody can read it.

        Raises:
            OrderError: it is there, and this user may not read it (``order.note_unreadable``); or ``order.replayed``.
        """
        try:
            label, _, value = self._file.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise OrderError(
                f"{self._file}: can't be read ({error.strerror}); check its owner and mode",
                code="order.note_unreadable",
            ) from error
        return self._taken(label.decode(errors="replace"), value, str(self._file))

    def _write_file(self, taken: int) -> None:
        with self._file_turn:
            try:
                if self._sound_file() >= taken:
                    return
                self._file.parent.mkdir(parents=True, exist_ok=True)
                replace_file(self._file, f"{self._by}.{taken}\n".encode() + self._value)
            except (OSError, OrderError) as error:
                why = str(error) if isinstance(error, OrderError) else error.strerror
                raise WarrantError(
                    f"{self._file}: can't be written ({why}), and no number is signed for that is not noted",
                    code="warrant.not_noted",
                    operator="The station can't write its notes, so it signs nothing. See to the disk.",
                ) from error

    def _taken(self, label: str, value: bytes, where: str) -> int | None:
        """Return how many numbers a note says were taken; None: nobody of us wrote it like that.

        Raises:
            OrderError: it is of another manifest (``order.replayed``).
        """
        found = _LABEL.fullmatch(label)
        try:
            said = json.loads(value)
            form, order, manifest = (said[name] for name in ("format", "order", "manifest"))
        except (ValueError, LookupError, TypeError):
            form = order = manifest = ""
        if found is None or (form, order) != (_FORMAT, self._uid):
            return None
        if manifest != self._manifest:
            raise OrderError(
                f"{where} knows numbers of this order from another manifest ({str(manifest)[:8]}…): an order is used "
                "once. Go on with that manifest or with its newest backup, or ask for a new order",
                code="order.replayed",
                operator="This order was used elsewhere. Call the security officer.",
                order=self._uid,
            )
        return int(found[1])


def _check_sound(damaged: Sequence[str]) -> None:
    """Refuse to go on by notes that nobody can believe.

    Raises:
        OrderError: there are some (``order.note_damaged``).
    """
    if damaged:
        raise OrderError(
            f"a note about the order's numbers is damaged, or tells of more than the share has: {'; '.join(damaged)}. "
            "Nobody of us wrote that. The security officer decides: 'station order resume NAME --replace-damaged-note "
            "--next SERIAL', the first serial that no board can have",
            code="order.note_damaged",
            operator="What the token remembers of this order is damaged. Call the security officer.",
        )


def _shown(where: str, label: str, value: bytes) -> str:
    """Say what stands in a note, as far as a line holds."""
    cut = "…" if len(value) > _SHOWN else ""
    return printable(f"{where}: {label[:_SHOWN]!r} {value[:_SHOWN].hex()}{cut}", 400)
