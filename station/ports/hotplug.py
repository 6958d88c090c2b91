"""Which ports are there, and which come and go: from the kernel, from the configuration, or both.

``hotplug_for`` is what the daemon uses. ``station.ports.uevent`` knows the ports that the kernel tells
about, ``station.ports.paths`` those that the configuration names.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from station.ports.event import Hotplug, PortEvent, PortEventKind
from station.ports.paths import ConfiguredPorts
from station.ports.uevent import NetlinkHotplug

__all__ = [
    "ConfiguredPorts",
    "Hotplug",
    "NetlinkHotplug",
    "PortEvent",
    "PortEventKind",
    "hotplug_for",
    "merge",
]


class Place(Protocol):
    """What of a slot's configuration says where its board is plugged in: a port or a USB path."""

    @property
    def name(self) -> str:
        """The slot."""

    @property
    def port(self) -> str | None:
        """A path or URL."""

    @property
    def usb(self) -> str | None:
        """A USB path, as ``station.ports.uevent.usb_path`` names it."""


def hotplug_for(places: Iterable[Place]) -> Hotplug:
    """Return the events that these slots need: nothing is watched that no slot asks for.

    Raises:
        LinkError: ``link.no_hotplug``: a slot needs USB events, and this system has none.
    """
    places = list(places)
    ports = {place.port for place in places if place.port is not None}
    if all(place.usb is None for place in places):
        return ConfiguredPorts(ports)
    kernel = NetlinkHotplug(ignore=ports)
    return merge(ConfiguredPorts(ports), kernel) if ports else kernel


def merge(*sources: Hotplug) -> Hotplug:
    """Return the events of several sources as one stream, each source in its own order."""
    return _Merged(sources)


class _Merged:
    def __init__(self, sources: Iterable[Hotplug]) -> None:
        self._sources = list(sources)
        self._events: asyncio.Queue[PortEvent | None] = asyncio.Queue()
        self._open = len(self._sources)
        self._followers = [asyncio.ensure_future(self._follow(source)) for source in self._sources]
        if not self._sources:
            self._events.put_nowait(None)

    def __aiter__(self) -> "_Merged":
        return self

    async def __anext__(self) -> PortEvent:
        event = await self._events.get()
        if event is None:
            self._events.put_nowait(None)
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        for source in self._sources:
            source.close()
        for follower in self._followers:
            follower.cancel()
        self._events.put_nowait(None)

    async def _follow(self, source: Hotplug) -> None:
        with suppress(asyncio.CancelledError):
            async for event in source:
                self._events.put_nowait(event)
            self._open -= 1
            if not self._open:
                self._events.put_nowait(None)
