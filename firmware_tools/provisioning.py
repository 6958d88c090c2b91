"""What a device and its station agree on, whatever they speak: states, locks, sizes.

The messages of the language that is ours stand in ``provisioning_group.py``; they are heavy to import, and most of the
station's commands need none.
"""

from enum import IntEnum, IntFlag, unique
from typing import Final

PROOF_DOMAIN: Final = b"provisioning-station proof v1\x00"
"""Goes before what a device signs in ``prove``, so that no other protocol can make use of the signature."""

NONCE_SIZE: Final = 32
"""Bytes in a challenge."""

MAX_HARDWARE_ID: Final = 64
"""Characters in a hardware id, from ``[0-9A-Za-z._:-]``."""

MAX_CHAIN: Final = 4096
"""Bytes in a chain that a device has to be able to take."""

MAX_CSR: Final = 2048
"""Bytes in a CSR that a station has to be able to take."""


@unique
class DeviceState(IntEnum):
    """How far a device has come; the states follow each other and never go back, short of an erase."""

    BLANK = 0
    KEYED = 1
    PROVISIONED = 2
    LOCKED = 3


class Locks(IntFlag):
    """What ``lock`` closes for good. A device answers with what it *observes* to be closed."""

    NONE = 0
    DEBUG = 1
    """The debug port."""
    CREDENTIALS = 2
    """The credential slot: key and chain can't be replaced any more."""
