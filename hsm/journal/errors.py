"""Why the journal can't be used, or refuses a row.

::

    JournalError                 journal.error (from hsm.errors)
    ├── JournalLocked            journal.locked            another process writes to it
    ├── NewerJournal             journal.newer             a newer version of the program wrote it
    ├── NotAJournal              journal.foreign, .damaged, .missing, .older
    ├── JournalUnwritable        journal.read_only, .disk_full, .io, .busy, .closed, .overloaded
    ├── ClockWentBack            journal.clock_went_back   the clock is behind what is written
    ├── ClockJumped              journal.clock_jumped      the clock was set ahead while the journal was open
    ├── KeyCertified             journal.key_certified     the key has a certificate
    ├── SerialCollision          journal.serial_collision  this serial number was given before: draft again
    └── RowRefused               the other rules of the schema, each with its own code
"""

from typing import Final

from hsm.durable import ErrorKinds
from hsm.errors import JournalError

__all__ = [
    "ERRORS",
    "ClockJumped",
    "ClockWentBack",
    "JournalError",
    "JournalLocked",
    "JournalUnwritable",
    "KeyCertified",
    "NewerJournal",
    "NotAJournal",
    "RowRefused",
    "SerialCollision",
]


class JournalLocked(JournalError):
    """Another process writes to this journal."""

    code = "journal.locked"
    operator = "Another program uses this CA's journal. Wait until it is done, or end it."


class NewerJournal(JournalError):
    """A newer version of the program wrote this journal."""

    code = "journal.newer"
    operator = "This program is older than its journal. Update it."


class NotAJournal(JournalError):
    """The file is something else, or damaged."""

    code = "journal.foreign"


class JournalUnwritable(JournalError):
    """Nothing can be written now; what is written stays."""

    code = "journal.io"
    operator = "The CA can't write its journal, so it signs nothing. See to the disk."


class ClockWentBack(JournalError):
    """The clock is behind what is written."""

    code = "journal.clock_went_back"
    operator = "The clock of this computer is wrong. Set it, then go on."


class ClockJumped(JournalError):
    """The clock was set ahead while the journal was open; nothing is written with such a time."""

    code = "journal.clock_jumped"
    operator = "The clock of this computer was changed. Set it right, or start the program again if it is right now."


class KeyCertified(JournalError):
    """The key has a certificate; a second one has to be asked for as its renewal."""

    code = "journal.key_certified"
    operator = "This key has a certificate already. Renew that one, or make a new key."


class SerialCollision(JournalError):
    """This serial number was given before; nothing is written, the caller drafts again."""

    code = "journal.serial_collision"


class RowRefused(JournalError):
    """A rule of the schema refuses the row."""

    code = "journal.refused"


ERRORS: Final = ErrorKinds(
    error=JournalError,
    locked=JournalLocked,
    newer=NewerJournal,
    foreign=NotAJournal,
    unwritable=JournalUnwritable,
    clock_went_back=ClockWentBack,
    clock_jumped=ClockJumped,
    refused=RowRefused,
    by_code={kind.code: kind for kind in (KeyCertified, SerialCollision)},
)
"""What is raised for what SQLite and the schema say; see ``hsm.durable``."""
