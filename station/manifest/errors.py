"""Why the manifest can't be used, or refuses a row.

::

    ManifestError                     manifest.error (from station.errors)
    ├── ManifestLocked                manifest.locked             another process writes to it
    ├── NewerManifest                 manifest.newer              a newer version of the station wrote it
    ├── NotAManifest                  manifest.foreign            the file is something else, or damaged
    ├── ManifestUnwritable            manifest.read_only, .disk_full, .io, .busy, .closed, .overloaded
    ├── ClockWentBack                 manifest.clock_went_back    the clock is behind what is written
    ├── OrderDiffers                  manifest.order_differs      the order is stored with other terms
    ├── OrderExhausted                manifest.order_exhausted    the order's quantity is reached
    ├── DuplicateHardware             manifest.duplicate_hardware the hardware id has a live certificate for another key
    ├── DuplicateKey                  manifest.duplicate_key      another unit holds this public key
    ├── SerialCollision               manifest.serial_collision   this certificate serial was given before: draft again
    └── RowRefused                    the other rules of the schema, each with its own code

A trigger of the schema refuses with the text ``code: sentence``; ``refusal`` turns it into the class of that code.
"""

import sqlite3
from typing import Final

from station.errors import ManifestError

__all__ = [
    "ClockWentBack",
    "DuplicateHardware",
    "DuplicateKey",
    "ManifestError",
    "ManifestLocked",
    "ManifestUnwritable",
    "NewerManifest",
    "NotAManifest",
    "OrderDiffers",
    "OrderExhausted",
    "RowRefused",
    "SerialCollision",
]


class ManifestLocked(ManifestError):
    """Another process writes to this manifest."""

    code = "manifest.locked"
    operator = "Another station program uses this manifest. Close it, or call the line engineer."


class NewerManifest(ManifestError):
    """A newer version of the station wrote this manifest."""

    code = "manifest.newer"
    operator = "This station is older than its manifest. Call the line engineer to update the station."


class NotAManifest(ManifestError):
    """The file is something else, or damaged."""

    code = "manifest.foreign"


class ManifestUnwritable(ManifestError):
    """Nothing can be written now; what is written stays."""

    code = "manifest.io"
    operator = "The station can't write its manifest. Stop the line and call the line engineer."


class ClockWentBack(ManifestError):
    """The clock is behind what is written."""

    code = "manifest.clock_went_back"
    operator = "The clock of the station is wrong. Call the line engineer to set it."


class OrderDiffers(ManifestError):
    """The order is stored with other terms."""

    code = "manifest.order_differs"


class OrderExhausted(ManifestError):
    """The order's quantity is reached."""

    code = "manifest.order_exhausted"
    operator = "The order is complete: this board is one too many. Put it aside and call the line engineer."


class DuplicateHardware(ManifestError):
    """The hardware id has a live certificate for another public key."""

    code = "manifest.duplicate_hardware"
    operator = "A board with this hardware id was here with another key. Put this board into the red bin."


class DuplicateKey(ManifestError):
    """Another unit holds this public key: a cloned board, or a broken random number generator."""

    code = "manifest.duplicate_key"
    operator = "Another board has the same key. Stop the line and call the line engineer."


class SerialCollision(ManifestError):
    """This certificate serial was given before; nothing is written, the caller drafts again."""

    code = "manifest.serial_collision"


class RowRefused(ManifestError):
    """A rule of the schema refuses the row."""

    code = "manifest.refused"


_BY_CODE: Final[dict[str, type[ManifestError]]] = {
    kind.code: kind for kind in (OrderDiffers, OrderExhausted, DuplicateHardware, DuplicateKey, SerialCollision)
}

_BY_CONSTRAINT: Final[dict[str, type[ManifestError]]] = {
    "budget": OrderExhausted,
    "unit.hardware_id": DuplicateHardware,
    "public_key.spki_sha256": DuplicateKey,
    "issuance.certificate_serial": SerialCollision,
}
"""What stands after ``constraint failed:`` in SQLite's message."""


def _constraint(message: str) -> ManifestError:
    code, separator, sentence = message.partition(": ")
    if separator and code.startswith("manifest."):
        return _BY_CODE.get(code, RowRefused)(sentence, code=code)
    kind = _BY_CONSTRAINT.get(sentence, RowRefused)
    return kind(f"the schema refuses the row: {message}")


_BY_RESULT: Final[dict[int, tuple[type[ManifestError], str, str]]] = {
    sqlite3.SQLITE_FULL: (
        ManifestUnwritable,
        "manifest.disk_full",
        "the disk is full; make space, nothing that was reported is lost",
    ),
    sqlite3.SQLITE_IOERR: (
        ManifestUnwritable,
        "manifest.io",
        "the disk refuses to read or write; check it, its space and its quota",
    ),
    sqlite3.SQLITE_READONLY: (
        ManifestUnwritable,
        "manifest.read_only",
        "can't be written; check the rights of file and folder",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        ManifestUnwritable,
        "manifest.read_only",
        "can't be opened here; check the rights of file and folder",
    ),
    sqlite3.SQLITE_BUSY: (
        ManifestUnwritable,
        "manifest.busy",
        "another program keeps a transaction open in it; end that program",
    ),
    sqlite3.SQLITE_NOTADB: (
        NotAManifest,
        "manifest.foreign",
        "not a SQLite file; give the path of a manifest, or of a file that is new",
    ),
    sqlite3.SQLITE_CORRUPT: (
        NotAManifest,
        "manifest.damaged",
        "the file is damaged; stop, keep it as it is, and restore the backup",
    ),
}
"""Primary result code of SQLite to class, code, and sentence with the next move."""


def refusal(error: sqlite3.Error, path: object) -> ManifestError:
    """Say what an error of SQLite means here.

    Args:
        error: as ``sqlite3`` raised it.
        path: the manifest's file, for the message.
    """
    # Extended codes have the primary one in their lowest byte (https://www.sqlite.org/rescode.html).
    primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if primary == sqlite3.SQLITE_CONSTRAINT:
        return _constraint(str(error))
    if primary not in _BY_RESULT:
        return ManifestError(f"{path}: {error}")
    kind, code, sentence = _BY_RESULT[primary]
    return kind(f"{path}: {sentence} ({error})", code=code)
