"""Ports that the configuration names: ttys, ptys, symlinks, URLs.

A URL counts as always there: whether somebody listens shows itself when it is opened. A path is there while it leads to
something. inotify on its folder, and on the folder that a symlink leads to, says when to look again; devpts reports the
end of a pty as well. A path whose folder can't be watched, mostly because it does not exist yet, is looked for every
half second while it is absent.
"""

import asyncio
import ctypes
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from station.ports.event import PortEvent, PortEventKind

POLL_SECONDS: Final = 0.5
"""How often an absent path is looked for whose folder can't be watched."""

READ_SIZE: Final = 65536
"""Bytes of inotify events read at once; what they say does not matter, only that they came."""

# sys/inotify.h; what makes a path lead somewhere else.
_IN_MOVED_FROM, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE = 0x40, 0x80, 0x100, 0x200
_MASK: Final = _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE


class _Target(NamedTuple):
    """What a path leads to; another value means that another board was plugged in."""

    real: str
    device: int
    entry: int
    """Inode of the path itself."""
    link_made: int
    """When the path was made, if it is a symlink: a pty that ends and a new one may share all the rest."""


class ConfiguredPorts:
    """Port events of the paths and URLs of a configuration; a ``Hotplug``."""

    def __init__(self, ports: Iterable[str]) -> None:
        """Look at the ports and begin to watch them."""
        self._events: asyncio.Queue[PortEvent | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._poll: asyncio.TimerHandle | None = None
        self._targets: dict[str, _Target | None] = {}
        for port in dict.fromkeys(ports):
            if "://" in port:
                self._events.put_nowait(PortEvent(PortEventKind.ARRIVED, port))
            else:
                self._targets[port] = None
        self._inotify = _Inotify()
        self._loop.add_reader(self._inotify.descriptor, self._changed)
        self._look()

    def __aiter__(self) -> "ConfiguredPorts":
        """Return itself."""
        return self

    async def __anext__(self) -> PortEvent:
        """Wait for the next event."""
        event = await self._events.get()
        if event is None:
            self._events.put_nowait(None)
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        """Stop. May be called twice."""
        if self._poll is not None:
            self._poll.cancel()
        if self._inotify.descriptor >= 0:
            self._loop.remove_reader(self._inotify.descriptor)
            self._inotify.close()
            self._events.put_nowait(None)

    def _changed(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._inotify.descriptor, READ_SIZE)
        self._look()

    def _look(self) -> None:
        """Compare each path with what it led to before; watch first, so that nothing falls between the two."""
        blind = False
        for port, before in self._targets.items():
            watched = self._inotify.watch(Path(port).parent)
            now = _target(port)
            if now is not None:
                self._inotify.watch(Path(now.real).parent)
                now = _target(port)
            if now != before:
                if before is not None:
                    self._events.put_nowait(PortEvent(PortEventKind.LEFT, port))
                if now is not None:
                    self._events.put_nowait(PortEvent(PortEventKind.ARRIVED, port))
                self._targets[port] = now
            blind |= now is None and not watched
        if self._poll is not None:
            self._poll.cancel()
        self._poll = self._loop.call_later(POLL_SECONDS, self._look) if blind else None


def _target(path: str) -> _Target | None:
    try:
        entry, target = Path(path).lstat(), Path(path).stat()
    except OSError:
        return None
    # Only a symlink's change time is its birth: udev changes the mode of a device node after it made it.
    made = entry.st_ctime_ns if stat.S_ISLNK(entry.st_mode) else 0
    return _Target(os.path.realpath(path), target.st_rdev, entry.st_ino, made)


class _Inotify:
    """The little that is needed of inotify(7); Python has no binding."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = self._library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def watch(self, folder: Path) -> bool:
        """Watch a folder; watching it again changes nothing."""
        return int(self._library.inotify_add_watch(self.descriptor, os.fsencode(folder), _MASK)) >= 0

    def close(self) -> None:
        os.close(self.descriptor)
        self.descriptor = -1
