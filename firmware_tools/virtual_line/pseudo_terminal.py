"""A serial port without hardware: one pseudo-terminal with a name that stays.

A pseudo-terminal differs from a UART in three ways that matter to a station, and each is mended here:

- A fresh one echoes and cooks. It is set raw before anybody talks.
- Its master reads ``EIO`` while nobody has the slave open. We hold the slave open ourselves.
- Because we hold it, the *last close* of the kernel never comes, and ``TIOCEXCL`` of a station that was killed would
  shut the port for everybody but root. ``Openers`` counts who has the slave open, and we take the lock off when the
  count falls to zero, as the kernel does for a real port.

What a board sends while nobody has the port open waits in the terminal (18 kB at most) if there is no wire in between;
pyserial, like every careful program, discards it when it opens the port. A ``Relay`` drops it, as a UART would.

The name is a symbolic link that is replaced atomically; it is gone while the port is unplugged.
"""

import contextlib
import ctypes
import fcntl
import os
import struct
import termios
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["Openers", "PseudoTerminal"]

_IN_CLOSE_WRITE: Final = 0x08
_IN_CLOSE_NOWRITE: Final = 0x10
_IN_OPEN: Final = 0x20
"""Event bits of inotify(7)."""

_EVENT: Final = struct.Struct("iIII")
"""``struct inotify_event`` up to its name: watch, mask, cookie, length. A watch on a file never carries a name."""

_EVENTS_AT_ONCE: Final = 256


class Openers:
    """Counts, through inotify(7), how many times each watched terminal is open.

    One instance serves a whole line: the kernel allows a user 128 of them. Not safe for use by several threads.
    """

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._add: Callable[[int, bytes, int], int] = libc.inotify_add_watch
        self._remove: Callable[[int, int], int] = libc.inotify_rm_watch
        self.fd: Final[int] = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        """Readable when a count has changed; then call ``update``."""
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._counts: dict[int, int] = {}
        self._last_close: dict[int, Callable[[], None]] = {}

    def watch(self, terminal: Path, last_close: Callable[[], None]) -> int:
        """Count openers of ``terminal`` from now on; those that have it open already don't count.

        Args:
            terminal: the slave, such as ``/dev/pts/3``.
            last_close: called by ``update`` when the count has fallen to zero.

        Returns:
            The watch, for ``count`` and ``forget``.
        """
        watch = self._add(self.fd, os.fsencode(terminal), _IN_OPEN | _IN_CLOSE_WRITE | _IN_CLOSE_NOWRITE)
        if watch < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", str(terminal))
        self._counts[watch] = 0
        self._last_close[watch] = last_close
        return watch

    def forget(self, watch: int) -> None:
        """Count no longer. The kernel may have dropped the watch itself, with the terminal; that is no error."""
        self._remove(self.fd, watch)
        self._counts.pop(watch, None)
        self._last_close.pop(watch, None)

    def count(self, watch: int) -> int:
        """How often the terminal is open at this moment: events that wait in the kernel are taken in first."""
        if not self._counts[watch]:
            self.update()
        return self._counts[watch]

    def update(self) -> None:
        """Take in what has happened since the last call; never blocks."""
        closed: set[int] = set()
        with contextlib.suppress(BlockingIOError):
            while events := os.read(self.fd, _EVENT.size * _EVENTS_AT_ONCE):
                for watch, mask, _, _ in _EVENT.iter_unpack(events):
                    if watch not in self._counts:
                        continue  # an event that was on its way when we forgot the watch
                    if mask & _IN_OPEN:
                        self._counts[watch] += 1
                    elif mask & (_IN_CLOSE_WRITE | _IN_CLOSE_NOWRITE):
                        self._counts[watch] -= 1
                        closed.add(watch)
        for watch in closed:
            if not self._counts[watch]:
                self._last_close[watch]()

    def close(self) -> None:
        """Free the file descriptor. Call once."""
        os.close(self.fd)


class PseudoTerminal:
    """One pseudo-terminal in raw mode, its slave held open; ``publish`` gives it its name."""

    def __init__(self, link: Path) -> None:
        """Open it.

        Args:
            link: the name it will get: a symbolic link to the slave.
        """
        self.link: Final = link
        self.master, self._slave = os.openpty()
        self.slave_path: Final = Path(os.ttyname(self._slave))
        tty.setraw(self._slave)

    def publish(self) -> None:
        """Let the name point at the slave, in one step: it never points nowhere, nor at half a name."""
        fresh = self.link.with_name(f".{self.link.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.slave_path)
        fresh.replace(self.link)

    def unlock(self) -> None:
        """Take ``TIOCEXCL`` off, as the kernel does at the last close of a real port."""
        fcntl.ioctl(self._slave, termios.TIOCNXCL)

    def discard_requests(self) -> None:
        """Drop what the station has sent and nobody has read: a board that gets power now must not see it."""
        termios.tcflush(self._slave, termios.TCOFLUSH)

    def withdraw(self) -> None:
        """Take the name away, unless another terminal has it by now."""
        with contextlib.suppress(OSError):  # never published, or the folder is gone already
            if self.link.readlink() == self.slave_path:
                self.link.unlink()

    def close(self) -> None:
        """Pull the plug: who has the slave open finds it hung up (end of file, ``EIO`` on writing). Call once.

        If a device holds a copy of the master, it has to be ended before.
        """
        self.withdraw()
        os.close(self._slave)
        os.close(self.master)
