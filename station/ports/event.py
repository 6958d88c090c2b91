"""A port came or went: the one event that starts everything on the line."""

from dataclasses import dataclass
from enum import Enum, auto, unique
from typing import Protocol


@unique
class PortEventKind(Enum):
    """What happened."""

    ARRIVED = auto()
    LEFT = auto()


@dataclass(frozen=True, slots=True)
class PortEvent:
    """A port came or went."""

    kind: PortEventKind
    device: str
    """What ``open_link`` takes: a path or a URL."""
    usb: str | None = None
    """Where it is plugged in, as ``station.ports.uevent.usb_path`` names it; None if not into USB."""


class Hotplug(Protocol):
    """Port events as they come: first an arrival for each port that is there already, then what changes."""

    def __aiter__(self) -> "Hotplug":
        """Return itself."""

    async def __anext__(self) -> PortEvent:
        """Wait for the next event; ends after ``close``."""

    def close(self) -> None:
        """Stop. May be called twice."""
