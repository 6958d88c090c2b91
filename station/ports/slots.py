"""Which slot of the line a port belongs to. Pure: values in, values out.

A slot is named by a port (a path or URL, compared as written) or by the place where its cable is plugged in. The place
is a USB path with interface, ``1-1.2:1.0``, or one without, ``1-1.2``, which takes whatever interface of that device
becomes a port. The exact one wins.
"""

import posixpath
from collections.abc import Iterable

from station.errors import ConfigError
from station.ports.event import PortEvent
from station.ports.hotplug import Place


class SlotMap:
    """The slots of a line by their places."""

    def __init__(self, places: Iterable[Place]) -> None:
        """Take the slots.

        Raises:
            ConfigError: ``config.duplicate_slot``: two slots share a name or place; ``config.slot_without_place``.
        """
        self._by_port: dict[str, str] = {}
        self._by_usb: dict[str, str] = {}
        names: set[str] = set()
        for place in places:
            if place.name in names:
                raise _duplicate(f"there are two slots named {place.name}")
            names.add(place.name)
            if place.port is not None:
                _take(self._by_port, _normal(place.port), place.name)
            elif place.usb is not None:
                _take(self._by_usb, place.usb, place.name)
            else:
                raise ConfigError(
                    f"slot {place.name} has neither port nor usb: give it one", code="config.slot_without_place"
                )

    def slot_of(self, event: PortEvent) -> str | None:
        """Name the slot that a port event belongs to; None if it is no slot's."""
        by_port = self._by_port.get(_normal(event.device))
        if by_port is not None or event.usb is None:
            return by_port
        return self._by_usb.get(event.usb) or self._by_usb.get(event.usb.partition(":")[0])


def _normal(port: str) -> str:
    return port if "://" in port else posixpath.normpath(port)


def _take(taken: dict[str, str], key: str, name: str) -> None:
    if (other := taken.setdefault(key, name)) != name:
        raise _duplicate(f"slots {other} and {name} are both at {key}")


def _duplicate(message: str) -> ConfigError:
    return ConfigError(f"{message}: correct one of them", code="config.duplicate_slot")
