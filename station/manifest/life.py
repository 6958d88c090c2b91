"""Life after the pass: what may become of a unit, as values and as the operations that write it.

An act is one row (``schema_4.sql``): writing it is doing it, and the schema refuses what does not fit. What is checked
here is checked to say which unit it is and what to do.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hsm.durable import Row
from station.errors import ManifestError, printable
from station.manifest.errors import RowRefused
from station.manifest.identities import searches


class Act(StrEnum):
    """What can be done to a unit that was begun."""

    VOID = "void"
    """An issuance that has not passed is given up: the next visit makes another certificate."""
    SCRAP = "scrap"
    """The unit is no more; its certificate is revoked."""
    REWORK = "rework"
    """The same board gets another certificate at its next visit; the old one is revoked."""
    RMA = "rma"
    """It came back from the field: its certificate is on hold until it is released, reworked or scrapped."""
    RELEASE = "release"
    """It goes back into the field as it was; the hold ends."""
    REPLACE = "replace"
    """Another unit takes its place; it is scrapped."""


@dataclass(frozen=True, slots=True)
class LifeRequest:
    """An act that somebody asks for."""

    act: Act
    unit: str
    """Any of its names."""
    reason: str
    actor: str
    """Who says that he or she does it."""
    os_user: str
    """As whom the command runs."""
    by: str | None = None
    """The unit that takes its place; any of its names. Only with ``REPLACE``."""


@dataclass(frozen=True, slots=True)
class LifeAct:
    """An act on record."""

    id: int
    unit_id: int
    act: Act
    reason: str
    actor: str
    os_user: str
    issuance_id: int | None
    """The unit's live certificate, or intent, at that time."""
    other_unit_id: int | None
    """Who takes its place."""
    returned: bool
    """Whether the order got the budget of one unit back."""
    at: str
    hardware_id: str
    """Of the unit."""
    other_hardware_id: str | None
    """Of the one that takes its place."""
    order: str
    """That the unit belongs to."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Which unit a certificate was issued for."""

    hardware_id: str
    product_serial: str | None
    is_void: bool


REASON_LIMIT: Final = 200
"""Characters."""

ACTOR_LIMIT: Final = 64
"""Characters."""

LIFE_ACTS: Final = """
SELECT life_act.id, unit_id, act, reason, actor, os_user, issuance_id, other_unit_id, life_act.returned, at,
       unit.hardware_id, other.hardware_id, production_order.name
FROM life_act JOIN unit ON unit.id = unit_id JOIN production_order ON production_order.id = unit.order_id
LEFT JOIN unit AS other ON other.id = other_unit_id
"""
"""A WHERE clause may follow."""

_UNIT: Final = """
SELECT unit.id, unit.hardware_id, unit.state, unit.life, issuance.id, unit.product_serial IS NOT NULL
       AND production_order.returned < production_order.scrap_allowance
FROM unit JOIN production_order ON production_order.id = unit.order_id
LEFT JOIN issuance ON issuance.unit_id = unit.id AND issuance.state <> 'void' WHERE unit.id = ?
"""

_HOLDER: Final = """
SELECT unit.hardware_id, unit.product_serial, issuance.state = 'void'
FROM issuance JOIN unit ON unit.id = issuance.unit_id WHERE issuance.certificate_sha256 = ?
"""

_SCRAPPED: Final = "This board was scrapped. Put it into the red bin."
_RETURNED: Final = "This board came back from the field. Give it to the line engineer."


def life_act_of(row: Row) -> LifeAct:
    """Parse a row of ``LIFE_ACTS``; the table is STRICT, so a column has the type it says."""
    return LifeAct(*(*row[:2], Act(row[2]), *row[3:8], bool(row[8]), *row[9:]))


def check_alive(hardware_id: str, life: str) -> None:
    """Refuse to begin with a board that is scrapped, or that came back from the field.

    Raises:
        RowRefused: it is; nothing was counted.
    """
    if life == "scrapped":
        raise RowRefused(
            f"unit {hardware_id} was scrapped, and that is for good; 'station unit show {hardware_id}' says why",
            code="manifest.unit_scrapped",
            operator=_SCRAPPED,
        )
    if life == "rma":
        raise RowRefused(
            f"unit {hardware_id} came back from the field and its certificate is on hold; release, rework or scrap it "
            "first ('station unit --help')",
            code="manifest.unit_returned",
            operator=_RETURNED,
        )


def check_actor(actor: str, allowed: Sequence[str]) -> None:
    """Refuse an actor whom the configuration does not name.

    Args:
        actor: who says that he or she acts.
        allowed: ``[life] actors``; anybody, where nobody is named.

    Raises:
        RowRefused: not one of them (``manifest.not_allowed``).
    """
    if allowed and actor not in allowed:
        raise RowRefused(
            f"'{printable(actor)}' may not do this here; [life] actors in station.toml names who may",
            code="manifest.not_allowed",
        )


def act(connection: sqlite3.Connection, at: str, *, request: LifeRequest) -> LifeAct:
    """Carry an act out.

    Raises:
        ManifestError: no such unit (``manifest.unit_unknown``).
        RowRefused: the unit is not in a state for it.
    """
    reason, actor = _text("reason", request.reason, REASON_LIMIT), _text("actor", request.actor, ACTOR_LIMIT)
    unit_id = _find(connection, request.unit)
    _, hardware_id, state, life, issuance_id, may_return = connection.execute(_UNIT, (unit_id,)).fetchone()
    if life == "scrapped" and request.act is not Act.REPLACE:
        raise RowRefused(f"unit {hardware_id} is scrapped already, and that is for good", code="manifest.unit_scrapped")
    _check(request.act, hardware_id, state, life, issuance_id)
    other = None
    if request.by is not None:
        other = _find(connection, request.by)
        _check_replacement(connection, hardware_id, unit_id, other)
    returned = request.act in {Act.SCRAP, Act.REPLACE} and life != "scrapped" and bool(may_return)
    (act_id,) = connection.execute(
        "INSERT INTO life_act (unit_id, act, reason, actor, os_user, issuance_id, other_unit_id, returned, at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            unit_id,
            request.act.value,
            reason,
            actor,
            _text("user", request.os_user, ACTOR_LIMIT),
            issuance_id,
            other,
            int(returned),
            at,
        ),
    ).fetchone()
    return life_act_of(connection.execute(f"{LIFE_ACTS} WHERE life_act.id = ?", (act_id,)).fetchone())


def holder(connection: sqlite3.Connection, _at: str, *, certificate_sha256: bytes) -> Holder | None:
    """Return which unit a certificate was issued for, if one of this manifest's was."""
    row = connection.execute(_HOLDER, (certificate_sha256,)).fetchone()
    return None if row is None else Holder(row[0], row[1], bool(row[2]))


def _find(connection: sqlite3.Connection, identity: str) -> int:
    for sql, parameter in searches(identity):
        row = connection.execute(sql, (parameter,)).fetchone()
        if row is not None:
            return int(row[0])
    raise ManifestError(
        f"no unit is known as '{printable(identity)}'; 'station unit list' shows those that are",
        code="manifest.unit_unknown",
    )


def _check(wanted: Act, hardware_id: str, state: str, life: str, issuance_id: int | None) -> None:
    """Say why an act does not fit; scrapped units were refused before."""
    why = None
    if wanted is Act.VOID and state == "passed":
        why = "passed with its certificate; 'station unit rework' gives that up"
    elif wanted is Act.VOID and issuance_id is None:
        why = "has no open issuance: there is nothing to give up"
    elif wanted in {Act.REWORK, Act.RMA} and state != "passed":
        why = f"is {state}: it never passed, so plug it in again, or scrap it"
    elif wanted is Act.RMA and life == "rma":
        why = "came back already; release, rework or scrap it"
    elif wanted is Act.RELEASE and life != "rma":
        why = "is not on hold: there is nothing to release"
    if why is not None:
        raise RowRefused(f"unit {hardware_id} {why}", code="manifest.life_state")


def _check_replacement(connection: sqlite3.Connection, hardware_id: str, unit_id: int, other: int) -> None:
    execute = connection.execute
    if other == unit_id:
        raise RowRefused(f"unit {hardware_id} can't take its own place", code="manifest.life_replace")
    found = execute(
        "SELECT by.hardware_id FROM life_act JOIN unit AS by ON by.id = other_unit_id "
        "WHERE unit_id = ? AND act = 'replace'",
        (unit_id,),
    ).fetchone()
    if found is not None:
        raise RowRefused(f"unit {hardware_id} was replaced by {found[0]} already", code="manifest.life_replace")
    name, state, life = execute("SELECT hardware_id, state, life FROM unit WHERE id = ?", (other,)).fetchone()
    if (state, life) != ("passed", "normal"):
        what = state if life == "normal" else life
        raise RowRefused(
            f"unit {name} is {what}; only one that passed can take another one's place", code="manifest.life_replace"
        )
    found = execute(
        "SELECT old.hardware_id FROM life_act JOIN unit AS old ON old.id = unit_id WHERE other_unit_id = ?", (other,)
    ).fetchone()
    if found is not None:
        raise RowRefused(f"unit {name} took the place of {found[0]} already", code="manifest.life_replace")


def _text(name: str, value: str, limit: int) -> str:
    """Return a text that a person gave, on one line.

    Raises:
        ManifestError: it is empty or too long.
    """
    text = printable(value.strip(), len(value))
    if not 0 < len(text) <= limit:
        raise ManifestError(f"the {name} has 1 to {limit} characters; write one", code="manifest.life_text")
    return text
