"""``[quarantine]`` and ``[life]``: when a slot or the line stops by itself, and who may scrap a unit."""

from dataclasses import dataclass, field
from typing import Final

from station.config.section import Section

MOST: Final = 1000
"""Boards or slots after which nobody would call it a row any more."""


@dataclass(frozen=True, slots=True)
class QuarantineSection:
    """When a slot or the line stops by itself; 0 is never."""

    boards: int = 4
    """Boards in a row in one slot that end with the same cause: its fixture is suspected, and it stops."""
    slots: int = 3
    """Slots that are suspected of the same cause: the line stops."""
    station: int = 4
    """Boards in a row, in any slots, that the HSM, the manifest or a bug of the station stopped: the line stops."""


@dataclass(frozen=True, slots=True)
class LifeSection:
    """What may become of units after they passed."""

    actors: tuple[str, ...] = field(default=())
    """Who may act; anybody where nobody is named."""


def read_quarantine(section: Section) -> QuarantineSection:
    """Read ``[quarantine]``; what is wrong is complained about there."""
    default = QuarantineSection()
    value = QuarantineSection(
        boards=section.integer("boards", 0, MOST, default=default.boards),
        slots=section.integer("slots", 0, MOST, default=default.slots),
        station=section.integer("station", 0, MOST, default=default.station),
    )
    section.close()
    return value


def read_life(section: Section) -> LifeSection:
    """Read ``[life]``; what is wrong is complained about there."""
    value = LifeSection(tuple(section.texts("actors", example='["alice", "bob"], or leave [life] out')))
    section.close()
    return value
