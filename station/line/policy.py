"""The rules of the line, as functions from values to values: what a board's record and its answer allow.

Nothing here touches a port, a token or a disk, so each rule can be tested in a microsecond.
"""

from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha256

from station.devices import Capability, Driver, Identity, Locks
from station.errors import DeviceError, LinkError, UnitRefused, Unplugged


@dataclass(frozen=True, slots=True)
class Step:
    """One step in the way of a unit."""

    name: str
    saying: str
    """What the operator reads while it runs."""
    deadline: float
    """Seconds for one try."""
    tries: int = 1
    """How often it is begun at the most."""


IDENTIFY = Step("identify", "Reading the board", deadline=6.0, tries=2)
KEY = Step("key", "The board makes its key", deadline=60.0, tries=2)
ISSUE = Step("issue", "Signing the certificate", deadline=60.0)
INSTALL = Step("install", "Writing the certificate", deadline=60.0, tries=2)
READ_BACK = Step("read back", "Reading the certificate back", deadline=30.0, tries=2)
PROVE = Step("prove", "The board proves its key", deadline=30.0, tries=2)
LOCK = Step("lock", "Locking the board", deadline=30.0, tries=2)
PASS = Step("pass", "Writing the record", deadline=60.0)

STEPS = (IDENTIFY, KEY, ISSUE, INSTALL, READ_BACK, PROVE, LOCK, PASS)
"""The way of one unit, in order. Key generation of RSA on a small part may take most of a minute, hence ``KEY``."""

SWAP = 0.5
"""Seconds in which nobody can put another board into a fixture, where no unplugging tells of it."""

NEEDED = Capability.MAKE_KEY | Capability.READ_BACK | Capability.PROVE
"""Without these no unit can pass (invariant I4)."""


class Way(Enum):
    """What to do with a board that has just said who it is."""

    PROVISION = auto()
    """Begin, or go on where an earlier attempt ended."""
    DONE_BEFORE = auto()
    """It passed on another day and says that it still holds its certificate: let it prove that, and write nothing."""


def may_retry(error: Exception) -> bool:
    """Tell whether a step that failed with ``error`` may be begun again at once.

    A bad moment on the wire may pass. A board that is gone, or that answered no, will not change its mind.
    """
    return isinstance(error, LinkError) and not isinstance(error, Unplugged)


def check_driver(driver: Driver, locks: Locks) -> None:
    """Refuse a driver whose devices can't do what every unit needs.

    Raises:
        UnitRefused: a capability is missing.
    """
    needed = NEEDED | (Capability.LOCK | Capability.OBSERVE_LOCK if locks else Capability(0))
    if missing := needed & ~driver.capabilities:
        raise UnitRefused(
            f"this kind of device can't {missing.name}, which the product needs",
            code="unit.device_incapable",
            operator="This board type can't be provisioned here. Call the line engineer.",
        )


def check_product(identity: Identity, *, model: str, version: str | None, digest: bytes | None) -> None:
    """Refuse a board that is not of the product on the line, or does not run its firmware.

    Args:
        identity: what the board said.
        model: the product's model.
        version: the firmware version it must run, or None for any.
        digest: SHA-256 of the firmware image it must run (32 bytes), or None for any.

    Raises:
        UnitRefused: wrong model or wrong firmware.
    """
    if identity.model != model:
        raise UnitRefused(
            f"the board is a {identity.model!r}, this line makes {model!r}",
            code="unit.wrong_model",
            operator="Wrong board for this order. Take it out.",
            expected=model,
            got=identity.model,
        )
    if version is not None and identity.firmware_version != version:
        raise UnitRefused(
            f"the board runs firmware {identity.firmware_version!r}, the product needs {version!r}",
            code="unit.wrong_firmware",
            operator="The board has other firmware. Put it into the bin for flashing.",
            expected=version,
            got=identity.firmware_version,
        )
    if digest is not None and identity.firmware_sha256 != digest:
        raise UnitRefused(
            f"the board's firmware image is {identity.firmware_sha256.hex()}, the product's {digest.hex()} (SHA-256)",
            code="unit.wrong_firmware",
            operator="The board has other firmware. Put it into the bin for flashing.",
            expected=digest,
            got=identity.firmware_sha256,
        )


def choose_way(identity: Identity, *, passed: bool, certificate: bytes | None) -> Way:
    """Compare what a board holds with what the manifest knows of it (invariant I5).

    Args:
        identity: what the board said.
        passed: whether the manifest says that this unit passed.
        certificate: the unit's recorded certificate (DER), or None where none was recorded.

    Raises:
        UnitRefused: the board holds a certificate that is not the recorded one, or lost the one it passed with.
    """
    recorded = None if certificate is None else sha256(certificate).digest()
    if identity.leaf_sha256 is not None and identity.leaf_sha256 != recorded:
        raise UnitRefused(
            "the board holds a certificate that this manifest did not record",
            code="unit.foreign_certificate",
            operator="This board already has an identity from elsewhere. Give it to the line engineer.",
            board=identity.leaf_sha256,
            recorded=recorded or "none",
        )
    if passed and identity.leaf_sha256 is None:
        raise UnitRefused(
            "the unit passed before, and the board no longer holds its certificate",
            code="unit.lost_certificate",
            operator="This board was finished once and has been erased. Give it to the line engineer.",
            state=identity.state.name,
        )
    return Way.DONE_BEFORE if passed else Way.PROVISION


def check_same_board(identity: Identity, *, hardware_id: str, certificate: bytes) -> None:
    """Refuse to go on with another board than the one that proved its key (invariant I4).

    Raises:
        UnitRefused: another hardware id, or another leaf certificate than ``certificate`` (DER).
    """
    if (identity.hardware_id, identity.leaf_sha256) != (hardware_id, sha256(certificate).digest()):
        raise UnitRefused(
            f"the board that proved its key was {hardware_id}; the one that answers now is {identity.hardware_id}",
            code="unit.swapped",
            operator="The board was changed too early. Put both boards in again, one after the other.",
            expected=hardware_id,
            got=identity.hardware_id,
        )


def check_locks(wanted: Locks, observed: Locks) -> None:
    """Refuse a board on which a lock is seen to be open (invariant I4).

    Raises:
        DeviceError: a lock that the product wants is open.
    """
    if open_locks := wanted & ~observed:
        raise DeviceError(
            f"the board reports {open_locks.name} as still open after locking",
            code="device.lock_open",
            expected=wanted.name,
            got=observed.name or "none",
        )
