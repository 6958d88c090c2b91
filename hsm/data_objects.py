"""Small notes in a token (``CKO_DATA``): what has to survive the loss, or the exchange, of every file of the station.

A note is private (it is seen after a login only) and can't be changed, only replaced. Values with one label are written
anew and the older ones destroyed after that, so that a crash in between leaves one too many and never none: whoever
reads gets all of them, and has to know which counts.

The station's session is read-only, so a second one is opened for the moment of writing; the login is the process's.
"""

from collections.abc import Callable
from typing import Final

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
            same moment both may leave a note, and neither destroys the other's; each finds it at its next writing.

    Raises:
        TokenError: the token keeps no notes (``token.no_notes``), has one that may not be replaced
            (``token.note_foreign``: nothing was written), is asleep, or refuses.
    """

    def write(session: Session) -> TokenError | None:
        try:
            writing = session.token.open(rw=True)
        except _REFUSALS as error:
            return _keeps_none(signer, error)
        try:
            old = list(objects(writing, _named(label)))
            if not all(may_replace(bytes(found[Attribute.VALUE])) for found in old):
                return TokenError(
                    f"token {signer.name!r} has a note that was written by somebody else meanwhile",
                    code="token.note_foreign",
                    recovery=Recovery.PERMANENT,
                )
            writing.create_object({**_named(label), **_KEPT, Attribute.VALUE: value})
            for found in old:
                found.destroy()
        except _REFUSALS as error:
            return _keeps_none(signer, error)
        finally:
            writing.close()
        return None

    refusal = signer.call_blocking(write)
    if refusal is not None:
        raise refusal


def _keeps_none(signer: Signer, refusal: Exception) -> TokenError:
    return TokenError(
        f"token {signer.name!r} keeps no notes ({type(refusal).__name__})",
        code="token.no_notes",
        recovery=Recovery.PERMANENT,
    )


def _named(label: str) -> dict[Attribute, object]:
    return {Attribute.CLASS: ObjectClass.DATA, Attribute.APPLICATION: APPLICATION, Attribute.LABEL: label}


_KEPT: Final = {Attribute.TOKEN: True, Attribute.PRIVATE: True, Attribute.MODIFIABLE: False}
