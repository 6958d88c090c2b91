"""Why the manifest can't be used, or refuses a row.

::

    ManifestError                     manifest.error (from station.errors)
    ├── ManifestLocked                manifest.locked             another process writes to it
    ├── NewerManifest                 manifest.newer              a newer version of the station wrote it
    ├── NotAManifest                  manifest.foreign            the file is something else, or damaged
    ├── ManifestUnwritable            manifest.read_only, .disk_full, .io, .busy, .closed, .overloaded
    ├── ClockWentBack                 manifest.clock_went_back    the clock is behind what is written
    ├── ClockJumped                   manifest.clock_jumped       the clock was set ahead while the manifest was open
    ├── OrderDiffers                  manifest.order_differs      the order is stored with other terms
    ├── OrderExhausted                manifest.order_exhausted    the order's quantity is reached
    ├── DuplicateHardware             manifest.duplicate_hardware the hardware id has a live certificate for another key
    ├── DuplicateKey                  manifest.duplicate_key      another unit holds this public key
    ├── SerialCollision               manifest.serial_collision   this certificate serial was given before: draft again
    └── RowRefused                    the other rules of the schema, each with its own code

A trigger of the schema refuses with the text ``code: sentence``; ``ERRORS`` names the class of that code.
"""

from typing import Final

from hsm.durable import ErrorKinds
from station.errors import ManifestError

__all__ = [
    "ERRORS",
    "ClockJumped",
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


class ClockJumped(ManifestError):
    """The clock was set ahead while the manifest was open; nothing is written with such a time."""

    code = "manifest.clock_jumped"
    operator = "The clock of the station was changed. Call the line engineer to set it right."


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


ERRORS: Final = ErrorKinds(
    error=ManifestError,
    locked=ManifestLocked,
    newer=NewerManifest,
    foreign=NotAManifest,
    unwritable=ManifestUnwritable,
    clock_went_back=ClockWentBack,
    clock_jumped=ClockJumped,
    refused=RowRefused,
    by_code={
        kind.code: kind for kind in (OrderDiffers, OrderExhausted, DuplicateHardware, DuplicateKey, SerialCollision)
    },
    by_constraint={
        "budget": OrderExhausted,
        "unit.hardware_id": DuplicateHardware,
        "public_key.spki_sha256": DuplicateKey,
        "issuance.certificate_serial": SerialCollision,
    },
)
"""What is raised for what SQLite and the schema say; see ``hsm.durable``."""
