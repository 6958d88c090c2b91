"""The rules of the line, as functions from values to values: what a board's record and its answer allow.

Nothing here touches a port, a token or a disk, so each rule can be tested in a microsecond.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from hashlib import sha256
from typing import Final

from firmware_tools.flashers import Payload
from hsm import HsmError, Recovery
from station.config.product import ACCEPTABLE, NOTHING
from station.devices import Capability, DeviceState, Driver, Identity, Locks
from station.errors import DeviceError, LinkError, ManifestError, NoAnswer, StationError, UnitRefused, Unplugged
from station.manifest import Holder, UnitRecord, UnitState


class Party(Enum):
    """Who is waited for; a deadline that passes is told of the one who let it pass."""

    BOARD = auto()
    HSM = auto()
    MANIFEST = auto()


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
    party: Party = Party.BOARD
    """Who is waited for when it begins."""


IDENTIFY = Step("identify", "Reading the board", deadline=6.0, tries=2)
KEY = Step("key", "The board makes its key", deadline=60.0, tries=2)
ISSUE = Step("issue", "Signing the certificate", deadline=150.0, party=Party.MANIFEST)
"""The token may be reloaded once meanwhile: ``hsm.Timing``."""
INSTALL = Step("install", "Writing the certificate", deadline=60.0, tries=2)
READ_BACK = Step("read back", "Reading the certificate back", deadline=30.0, tries=2)
PROVE = Step("prove", "The board proves its key", deadline=30.0, tries=2)
LOCK = Step("lock", "Locking the board", deadline=30.0, tries=2)
PASS = Step("pass", "Writing the record", deadline=60.0, party=Party.MANIFEST)

STEPS = (IDENTIFY, KEY, ISSUE, INSTALL, READ_BACK, PROVE, LOCK, PASS)
"""The way of one unit, in order. Key generation of RSA on a small part may take most of a minute, hence ``KEY``."""

ASK = Step("look", "Looking what is on the board", deadline=6.0)
FLASH = Step("flash", "Writing the firmware", deadline=240.0, tries=2)
FUSES = Step("chip locks", "Locking the chip for good", deadline=120.0)
"""What a line does besides that flashes boards: the first two before ``IDENTIFY``, the last one after ``LOCK``."""

FIRST_WORD = 2.5
"""Seconds in which an application that boots says who it is; then its loader is asked. A blank board costs them."""

BEGIN = Step("begin", "Looking the board up", deadline=60.0, party=Party.MANIFEST)
RECORD_FAILURE = Step("failure", "Writing the failure", deadline=10.0, party=Party.MANIFEST)
"""What the manifest does outside of the way; not shown as a step."""

SWAP = 0.5
"""Seconds in which nobody can put another board into a fixture, where no unplugging tells of it."""

LOOK = 0.4
"""Seconds between two looks at the board in a fixture: less than ``SWAP``, so that a swap shows as a gap."""

PACE_WINDOW: Final = 60.0
"""Seconds over which the new boards of a slot are counted."""

TOO_MANY_NEW: Final = "slot.too_many_new_boards"
"""Code of a slot that stops since more new boards answered in it than hands can put in."""

NEEDED = Capability.MAKE_KEY | Capability.READ_BACK | Capability.PROVE
"""Without these, or what stands in their place, no unit can pass (invariant I4)."""

IN_PLACE_OF: Final = {Capability.READ_BACK: Capability.COMPARE, Capability.PROVE: Capability.ATTEST}
"""What may stand in the place of a capability, where the product accepts it."""


HSM_WAITS = 20
"""How often one unit waits for a token that falls asleep at its certificate; then it fails, and can be resumed."""


_BITS_PER_BYTE: Final = 10
_SLOWNESS: Final = 4
"""Times as long as its bytes need on the wire, in Base64 and answered one by one, may a flash take."""

_FLASH_AGAIN: Final = frozenset({"flash.tool_failed", "flash.tool_hangs", "flash.verify"})
"""What may have been a bad moment. Silence is not among them: a flasher has asked often enough before it says so."""


def flash_step(size: int, baud: int) -> Step:
    """Return the step that writes ``size`` bytes over a wire of ``baud`` bits a second."""
    return replace(FLASH, deadline=FLASH.deadline + _SLOWNESS * size * _BITS_PER_BYTE / baud)


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
    if isinstance(error, DeviceError):
        return error.code in _FLASH_AGAIN
    return isinstance(error, LinkError) and not isinstance(error, Unplugged)


def may_wait_for(error: HsmError) -> bool:
    """Tell whether the token that failed may come back without a human at the station."""
    return error.recovery in {Recovery.RELOAD, Recovery.TOKEN_GONE}


def deadline_error(step: Step, party: Party) -> StationError:
    """Say who did not answer in time. A board is never blamed for the silence of the HSM or of the disk."""
    text = f"no end of {step.name} in {step.deadline:g} s"
    match party:
        case Party.HSM:
            return StationError(f"{text}: the HSM does not answer", code="hsm.no_answer", operator=_leave_in("HSM"))
        case Party.MANIFEST:
            return ManifestError(
                f"{text}: the manifest's disk does not answer",
                code="manifest.no_answer",
                operator=_leave_in("station's disk"),
            )
        case Party.BOARD:
            return NoAnswer(text, code="step.deadline")


def _leave_in(who: str) -> str:
    return f"The {who} does not answer. Leave the boards in and call the line engineer."


def check_pace(new_boards: Sequence[float], now: float, per_minute: int | None) -> None:
    """Stop a slot in which more new boards answer than hands can put in: one board that invents numbers (I3).

    Such a board looks like a busy operator, and would turn the whole order into certificates that it holds.

    Args:
        new_boards: when the new boards before this one came (monotonic seconds), oldest first.
        now: when this one came.
        per_minute: how many may come in ``PACE_WINDOW``; None for any number.

    Raises:
        UnitRefused: this one is too many.
    """
    if per_minute is None:
        return
    recent = sum(now - came < PACE_WINDOW for came in new_boards)
    if recent >= per_minute:
        raise UnitRefused(
            f"{recent} new boards came into this slot in {PACE_WINDOW:g} s, and another one; either one board reports"
            " new hardware ids, or [station] new_units_per_minute is too low",
            code=TOO_MANY_NEW,
            operator="This slot stopped: too many new boards. Leave the board in and call the line engineer.",
            limit=per_minute,
        )


def check_driver(driver: Driver, locks: Locks, accepts: Capability = NOTHING) -> None:
    """Refuse a driver whose devices can't do what every unit needs.

    Args:
        driver: of the slot.
        locks: what the product wants closed.
        accepts: what the product takes in place of what a device can't do, from ``IN_PLACE_OF``.

    Raises:
        UnitRefused: a capability is missing, or what stands in its place is not accepted.
    """
    needed = NEEDED | (Capability.LOCK | Capability.OBSERVE_LOCK if locks else NOTHING)
    missing = needed & ~driver.capabilities
    stands_in = NOTHING
    for full, instead in IN_PLACE_OF.items():
        if full in missing and instead in driver.capabilities:
            missing &= ~full
            stands_in |= instead
    if unaccepted := stands_in & ~accepts:
        words = ", ".join(f'"{name}"' for name, flag in ACCEPTABLE.items() if flag in unaccepted)
        raise UnitRefused(
            f"this kind of device can only {unaccepted.name} where others do more; if that is enough for the product,"
            f" write accepts = [{words}] in [product]",
            code="unit.not_accepted",
            operator="This board type can't be provisioned here yet. Call the line engineer.",
        )
    if missing:
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


def is_flashed(identity: Identity, payload: Payload) -> bool:
    """Tell whether a board reports the firmware of a bundle: by the image where one is known, else by its version."""
    if payload.running is not None:
        return identity.firmware_sha256 == payload.running
    return identity.firmware_version == payload.version


def check_flashed(identity: Identity, payload: Payload) -> None:
    """Refuse a board that reports other firmware than was written.

    Raises:
        DeviceError: ``device.firmware_differs``.
    """
    if is_flashed(identity, payload):
        return
    told = payload.running is not None
    raise DeviceError(
        f"the board runs {identity.firmware_version!r} ({identity.firmware_sha256.hex()}) after firmware "
        f"{payload.version!r} ({payload.running.hex() if payload.running else 'any image'}) was written",
        code="device.firmware_differs",
        operator="The board does not run what was written. Put it in again; if it fails twice, into the red bin.",
        expected=payload.running if told else payload.version,
        got=identity.firmware_sha256 if told else identity.firmware_version,
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


def check_holder(identity: Identity, hardware_id: str, holder: Holder | None) -> None:
    """Refuse a board that holds another certificate than the one on record, and say whose it is.

    Args:
        identity: what the board said; it holds a certificate.
        hardware_id: of the unit, as the manifest has it.
        holder: which unit that certificate was issued for; None: this manifest issued none like it.

    Raises:
        UnitRefused: it is a copy of another board, it has to be erased first, or the certificate is from elsewhere. A
            board that holds one of its own that was given up, and is not locked, is fine: it gets the next one.
    """
    if holder is None:
        raise UnitRefused(
            "the board holds a certificate that this manifest did not record",
            code="unit.foreign_certificate",
            operator="This board already has an identity from elsewhere. Give it to the line engineer.",
            board=identity.leaf_sha256,
        )
    if holder.hardware_id != hardware_id:
        raise UnitRefused(
            f"the board says that it is {hardware_id}, and holds the certificate of {holder.hardware_id}"
            f" ({holder.product_serial}): one is a copy of the other",
            code="unit.cloned",
            operator="This board is a copy of another one. The line stopped. Call the line engineer.",
            expected=holder.hardware_id,
            got=hardware_id,
        )
    if not holder.is_void or identity.state is DeviceState.LOCKED:
        raise UnitRefused(
            f"board {hardware_id} still holds the certificate that was given up, and is locked; erase it first",
            code="unit.not_erased",
            operator="This board has to be erased before it gets a new identity. Give it to the line engineer.",
            state=identity.state.name,
        )


HARMED: Final = frozenset({"device.chain_differs", "device.no_certificate", "device.certificate_malformed"})
"""What a board says that stored something else than it was sent, or nothing."""


def is_half_installed(identity: Identity, unit: UnitRecord) -> bool:
    """Tell whether a certificate that nobody knows is what harm on the wire has left of this unit's own.

    It stands beside the very key that this unit's certificate was made for, and the unit did not pass yet: whoever put
    another identity into the board would have made another key.
    """
    live = unit.issuance
    return (
        unit.state is not UnitState.PASSED
        and live is not None
        and live.certificate is not None
        and identity.key_sha256 == live.spki_sha256
        and identity.state is not DeviceState.LOCKED
    )


def may_install_again(error: DeviceError, identity: Identity) -> bool:
    """Tell whether a board whose stored chain differs may get it once more: not after its credentials are locked."""
    return error.code in HARMED and identity.state is not DeviceState.LOCKED


def check_same_board(identity: Identity, *, hardware_id: str, certificate: bytes | None = None) -> None:
    """Refuse to go on with another board than the one that was begun with (invariant I4).

    Args:
        identity: what the board says now.
        hardware_id: what it said first.
        certificate: the leaf (DER) that it has to hold; None before it was installed.

    Raises:
        UnitRefused: another hardware id, or another leaf certificate.
    """
    is_leaf = certificate is None or identity.leaf_sha256 == sha256(certificate).digest()
    if identity.hardware_id != hardware_id or not is_leaf:
        raise UnitRefused(
            f"this unit was begun with board {hardware_id}; the one that answers now is {identity.hardware_id}",
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
