"""Small notes in a token (``CKO_DATA``): what has to survive the loss, or the exchange, of every file of the station.

A note is private (it is seen after a login only) and can't be changed, only replaced. Values with one label are written
anew and the older ones destroyed after that, so that a crash in between leaves one too many and never none: whoever
reads gets all of them, and has to know which counts.

A mark is a note that says how far something is, and is written often. How far stands in its label: that is what
PKCS#11 lets a program change, and changing it costs a token a tenth of what a new note does. A program has two marks of
its own and changes the older one, so a crash in between leaves the other.

The station's session is read-only, so a second one is opened for the moment of writing; the login is the process's.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pkcs11 import exceptions as p11
from pkcs11.constants import Attribute, ObjectClass

from hsm.errors import Recovery, TokenError
from hsm.key_rules import objects
from hsm.signer import Signer
from hsm.token import Session

APPLICATION: Final = "provisioning-station"
"""``CKA_APPLICATION`` of all notes."""

_REFUSALS: Final = (
    p11.AttributeReadOnly,
    p11.AttributeTypeInvalid,
    p11.AttributeValueInvalid,
    p11.FunctionNotSupported,
    p11.FunctionRejected,
    p11.SessionReadOnly,
    p11.SessionReadOnlyExists,
    p11.TemplateIncomplete,
    p11.TemplateInconsistent,
    p11.TokenWriteProtected,
)
"""Answers that mean: this token keeps no notes. They are no reason to reload it."""


def read_notes(signer: Signer, label: str) -> list[bytes]:
    """Return the values of all notes with a label. Blocks.

    Raises:
        TokenError: the token is asleep, or refuses.
    """

    def read(session: Session) -> list[bytes]:
        return [bytes(found[Attribute.VALUE]) for found in objects(session, _named(label))]

    return signer.call_blocking(read)


def write_note(
    signer: Signer, label: str, value: bytes, *, may_replace: Callable[[bytes], bool] = lambda _: True
) -> None:
    """Write a note, and destroy those that had its label. Blocks.

    Args:
        signer: of the token.
        label: of the note.
        value: of the note.
        may_replace: whether a value that is there may go. PKCS#11 locks nothing: of two processes that write at the
            same moment both may leave a note, and neither destroys the other's; one of them at least is told.

    Raises:
        TokenError: the token keeps no notes (``token.no_notes``), has one that may not be replaced
            (``token.note_foreign``: it stays there), is asleep, or refuses.
    """

    def write(writing: Session) -> TokenError | None:
        old = list(objects(writing, _named(label)))
        if not all(may_replace(bytes(found[Attribute.VALUE])) for found in old):
            return _foreign(signer)
        known = {value, *(bytes(found[Attribute.VALUE]) for found in old)}
        writing.create_object({**_named(label), **_KEPT, Attribute.VALUE: value})
        now = {bytes(found[Attribute.VALUE]) for found in objects(writing, _named(label))}
        if not all(may_replace(other) for other in now - known):
            return _foreign(signer)  # written at the same moment; whoever looks second sees both
        for found in old:
            found.destroy()
        return None

    _written(signer, write)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far something is."""

    label: str
    """How far, and who says so; unlike any other of the same name."""
    value: bytes
    """What it is about; the same in all of one name."""


def read_marks(signer: Signer, name: str) -> list[Mark]:
    """Return all marks of a name. Blocks.

    Raises:
        TokenError: the token is asleep, or refuses.
    """

    def read(session: Session) -> list[Mark]:
        found = objects(session, _of_name(name))
        return [Mark(_label(one), bytes(one[Attribute.VALUE])) for one in found]

    return signer.call_blocking(read)


def write_mark(signer: Signer, name: str, mark: Mark, *, own: Sequence[str], known: Collection[str]) -> None:
    """Say how far something is. Blocks.

    Args:
        signer: of the token.
        name: of the marks.
        mark: the new one.
        own: labels that this program wrote last, the older one first; at most two.
        known: labels that others wrote before this program began. They go, once it has a mark of its own. Any other
            one is of somebody who is at work now: each writes first and looks then, so of two one at least is told.

    Raises:
        TokenError: the token keeps no notes (``token.no_notes``), somebody else writes marks of this name
            (``token.note_foreign``), it is asleep, or refuses.
    """

    def write(writing: Session) -> TokenError | None:
        older = objects(writing, {**_of_name(name), Attribute.LABEL: own[0]}) if len(own) > 1 else ()
        if not any(_relabelled(one, mark.label) for one in older):
            writing.create_object(
                {**_of_name(name), **_CHANGING, Attribute.LABEL: mark.label, Attribute.VALUE: mark.value}
            )
        now = [(_label(found), found) for found in objects(writing, _of_name(name))]
        keep = {*own[-1:], mark.label}
        if {label for label, _ in now} - keep - set(own) - set(known):
            return _foreign(signer)
        for label, found in now:
            if label not in keep:
                found.destroy()
        return None

    _written(signer, write)


def _written(signer: Signer, write: Callable[[Session], TokenError | None]) -> None:
    """Let ``write`` work in a session of its own that may write, on the token's thread, and raise what it refuses."""

    def work(session: Session) -> TokenError | None:
        try:
            writing = session.token.open(rw=True)
        except _REFUSALS as error:
            return _keeps_none(signer, error)
        try:
            return write(writing)
        except _REFUSALS as error:
            return _keeps_none(signer, error)
        finally:
            writing.close()

    refusal = signer.call_blocking(work)
    if refusal is not None:
        raise refusal


def _relabelled(found: Any, label: str) -> bool:  # noqa: ANN401 - an object of python-pkcs11
    """Change a label in place, where the token does so."""
    try:
        found[Attribute.LABEL] = label
    except _REFUSALS:
        return False
    return True


def _label(found: Any) -> str:  # noqa: ANN401 - an object of python-pkcs11
    """Read a label; one that is no text, which no mark of ours has, is read as none."""
    try:
        return str(found[Attribute.LABEL])
    except UnicodeDecodeError:
        return ""


def _foreign(signer: Signer) -> TokenError:
    return TokenError(
        f"token {signer.name!r} has a note that was written by somebody else meanwhile",
        code="token.note_foreign",
        recovery=Recovery.PERMANENT,
    )


def _keeps_none(signer: Signer, refusal: Exception) -> TokenError:
    return TokenError(
        f"token {signer.name!r} keeps no notes ({type(refusal).__name__})",
        code="token.no_notes",
        recovery=Recovery.PERMANENT,
    )


def _named(label: str) -> dict[Attribute, object]:
    return {Attribute.CLASS: ObjectClass.DATA, Attribute.APPLICATION: APPLICATION, Attribute.LABEL: label}


def _of_name(name: str) -> dict[Attribute, object]:
    return {Attribute.CLASS: ObjectClass.DATA, Attribute.APPLICATION: f"{APPLICATION} {name}"}


_CHANGING: Final = {Attribute.TOKEN: True, Attribute.PRIVATE: True, Attribute.MODIFIABLE: True}
_KEPT: Final = {Attribute.TOKEN: True, Attribute.PRIVATE: True, Attribute.MODIFIABLE: False}
