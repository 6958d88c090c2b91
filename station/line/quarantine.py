"""Who is to blame for boards that don't pass: the unit, its slot or the station; and when a slot or the line stops.

Values in, values out: ``judge`` takes what is known and how one more board ended, and returns what is known then and
what follows. ``docs/engineer.md`` tells the rules to the engineer; the retry rules of single steps stand in
``policy.py``.

==========  ==========================================================================================================
blame       what it means
==========  ==========================================================================================================
nobody      it passed, or it was none of the line's faults (the order is complete, the station was told to stop)
unit        this board does not belong here, whatever slot it is in: wrong model, an identity from elsewhere
contact     board, cable, fixture or firmware: one board says nothing; other boards in the same slot, with the same
            cause and none that passed between them, say that it is the slot; several such slots, that it is neither
station     the HSM, the manifest, a bug: no board and no slot is counted for it
alarm       each further board would do harm: two boards with one key, a signature that is wrong
==========  ==========================================================================================================

A board that passes clears its slot, and the station. The same board again and again is one board: its slot is not
suspected for it. One that never said who it is counts as another one each time, since a dead slot looks just like that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto
from types import MappingProxyType
from typing import Final, TypeVar, assert_never

from station.config import QuarantineSection

V = TypeVar("V")


class Blame(StrEnum):
    """Who is to blame for one end; see the module docstring."""

    NOBODY = "nobody"
    UNIT = "unit"
    CONTACT = "contact"
    STATION = "station"
    ALARM = "alarm"


class Scope(Enum):
    """What stops."""

    NOTHING = auto()
    SLOT = auto()
    LINE = auto()


SLOT_SUSPECTED: Final = "slot.suspected"
"""Code of a slot that stopped since board after board ended with the same cause in it."""

LINE_SUSPECTED: Final = "line.suspected"
"""Code of a line that stopped since several slots were suspected of the same cause."""

LINE_STATION: Final = "line.station_fault"
"""Code of a line that stopped since board after board ended with a fault of the station."""

LINE_ALARM: Final = "line.alarm"
"""Code of a line that stopped at once, at the first board that showed something dangerous."""

WIRE: Final = "wire"
"""One cause of many codes: a bad contact is silence once, noise then, and a cable that seems to be pulled."""

_ALARMS: Final = frozenset(
    {
        "manifest.duplicate_key",
        "manifest.product_serial_taken",
        "unit.cloned",
        "unit.twice_on_the_line",
        "warrant.forked",
        "warrant.rolled_back",
        "issuance.signature_invalid",
        "issuance.tbs_changed",
    }
)
_UNITS: Final = frozenset(
    {
        *(
            "manifest.duplicate_hardware",
            "manifest.issuances_limit",
            "manifest.unit_scrapped",
            "manifest.unit_returned",
        ),
        *("flash.wrong_chip", "flash.downgrade", "flash.bootloader_too_old"),
    }
)
_NOBODYS: Final = ("unit.stopped", "unit.dry_run", "slot.", "order.", "manifest.order_")
_STATIONS: Final = (
    *("hsm.", "pin.", "token.", "module.", "key.", "signer.", "issuer.", "issuance.", "profile.", "lint.", "field."),
    *("audit.", "journal.", "manifest.", "ledger.", "station.", "uri.", "flash.tool_missing", "flash.no_probe"),
)
_WIRE: Final = ("link.", "step.", "flash.no_answer")
_GONE: Final = "link.unplugged"


@dataclass(frozen=True, slots=True)
class End:
    """How one board ended."""

    slot: str
    hardware_id: str
    """Empty where the board never said who it is."""
    code: str
    """Dotted error code; empty for a board that passed, or that was done before."""


@dataclass(frozen=True, slots=True)
class Row:
    """Boards in a row in one slot that ended with the same cause."""

    cause: str
    boards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of the line."""

    rows: Mapping[str, Row] = field(default_factory=lambda: MappingProxyType({}))
    """By slot."""
    suspected: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Slots that stopped, and of which cause they are suspected."""
    station: int = 0
    """Boards in a row that the station stopped."""

    def released(self, slot: str | None = None) -> "Health":
        """Return what is known after a human put a slot right (or all of them, with None)."""
        if slot is None:
            return Health()
        return replace(self, rows=_without(self.rows, slot), suspected=_without(self.suspected, slot))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an end."""

    blame: Blame
    scope: Scope = Scope.NOTHING
    code: str = ""
    sentence: str = ""
    """For the operator."""
    reason: str = ""
    """For the engineer."""


def blame(code: str) -> Blame:
    """Tell who is to blame for one board that ended with a code, with nothing else known."""
    if not code or code.startswith(_NOBODYS):
        return Blame.NOBODY
    if code in _ALARMS:
        return Blame.ALARM
    if code in _UNITS or code.startswith("unit."):
        return Blame.UNIT
    return Blame.STATION if code.startswith(_STATIONS) else Blame.CONTACT


def cause(code: str) -> str:
    """Return what codes of one cause have in common."""
    return WIRE if code.startswith(_WIRE) else code


def judge(health: Health, end: End, rules: QuarantineSection) -> tuple[Health, Verdict]:
    """Take one more end.

    Args:
        health: what was known before.
        end: how the board ended.
        rules: after how many boards and slots what stops; 0 is never.

    Returns:
        What is known now, and what follows.
    """
    # a terminal server hangs up where no board is: an empty slot
    blamed = Blame.NOBODY if end.code == _GONE and not end.hardware_id else blame(end.code)
    match blamed:
        case Blame.NOBODY | Blame.UNIT:
            if not end.code:
                health = replace(health, rows=_without(health.rows, end.slot), station=0)
            return health, Verdict(blamed)
        case Blame.CONTACT:
            return _count(health, end, rules)
        case Blame.ALARM:
            return health, _stop_line(blamed, LINE_ALARM, f"slot {end.slot} ended with {end.code}")
        case Blame.STATION:
            health = replace(health, station=health.station + 1)
            if not rules.station or health.station < rules.station:
                return health, Verdict(blamed)
            reason = f"{health.station} boards in a row were stopped by the station itself, the last one by {end.code}"
            return health, _stop_line(blamed, LINE_STATION, reason)
    assert_never(blamed)


def _count(health: Health, end: End, rules: QuarantineSection) -> tuple[Health, Verdict]:
    """Take an end that may be the board's or the slot's."""
    why, before = cause(end.code), health.rows.get(end.slot)
    boards = before.boards if before is not None and before.cause == why else ()
    if not end.hardware_id or end.hardware_id not in boards:
        boards = (*boards, end.hardware_id)
    health = replace(health, rows=_with(health.rows, end.slot, Row(why, boards)))
    if not rules.boards or len(boards) < rules.boards:
        return health, Verdict(Blame.CONTACT)
    health = replace(health, suspected=_with(health.suspected, end.slot, why))
    slots = sorted(slot for slot, suspicion in health.suspected.items() if suspicion == why)
    reason = f"{len(boards)} boards in a row ended with {end.code} in slot {end.slot}, and none passed"
    if rules.slots and len(slots) >= rules.slots:
        return health, _stop_line(Blame.CONTACT, LINE_SUSPECTED, f"{reason}; so it is in slots {', '.join(slots)}")
    return health, Verdict(
        Blame.CONTACT,
        Scope.SLOT,
        SLOT_SUSPECTED,
        f"This slot stopped: {len(boards)} boards in a row failed in it. Call the line engineer.",
        reason,
    )


def _stop_line(blamed: Blame, code: str, reason: str) -> Verdict:
    sentence = "The line stopped. Leave the boards in and call the line engineer."
    return Verdict(blamed, Scope.LINE, code, sentence, reason)


def _with(values: Mapping[str, V], name: str, value: V) -> Mapping[str, V]:
    return MappingProxyType({**values, name: value})


def _without(values: Mapping[str, V], name: str) -> Mapping[str, V]:
    return MappingProxyType({key: value for key, value in values.items() if key != name})
