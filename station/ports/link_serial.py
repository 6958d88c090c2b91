"""Ports that pyserial opens: ttys, which the event loop reads by itself, and RFC 2217, which needs a thread.

``station.ports.link`` says how a link behaves and why a tty is set as it is here.
"""

import asyncio
import errno
import fcntl
import grp
import os
import stat
import termios
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import serial

from station.errors import Garbled, LinkError, PortBusy, Unplugged
from station.ports.link_buffer import BUFFER_LIMIT, READ_SIZE, BufferedLink, DescriptorLink
from station.ports.remote_port import RemotePort
from station.ports.transcript import WireTap

RESET_PULSE: Final = 0.1
"""Seconds that RTS and DTR are held; what esptool holds them for."""

FACES_OF_UNPLUG: Final = (serial.SerialException, OSError, termios.error)
"""How pyserial and the kernel say that a port is gone."""

_PTY_MAJORS: Final = range(136, 144)
"""Device numbers of pseudo-terminal slaves (Linux, Documentation/admin-guide/devices.txt)."""

T = TypeVar("T")


class TtyLink(DescriptorLink):
    """A tty, opened by pyserial."""

    def __init__(self, name: str, port: serial.Serial, transcript: WireTap | None = None) -> None:
        """Take over an open port."""
        super().__init__(name, port.baudrate, port.fileno(), transcript)
        self._port = port

    async def reset(self) -> None:
        """See ``Link.reset``."""
        try:
            self._port.dtr = False
            self._port.rts = True
            await asyncio.sleep(RESET_PULSE)
            self._port.rts = False
            self._port.dtr = True
        except FACES_OF_UNPLUG as error:
            if _errno(error) not in (errno.ENOTTY, errno.EINVAL):  # those two: a tty without lines, a pty for one
                self._gone(error)
                self._check()

    def _release(self) -> None:
        # A close waits until what was written has gone out, up to 30 s on a dead wire; nobody waits for that here.
        with suppress(*FACES_OF_UNPLUG):
            termios.tcflush(self._descriptor, termios.TCIOFLUSH)
        with suppress(*FACES_OF_UNPLUG):
            fcntl.ioctl(self._descriptor, termios.TIOCNXCL)
        with suppress(*FACES_OF_UNPLUG):
            self._port.close()


class ThreadedLink(BufferedLink):
    """A port of pyserial without a file descriptor: one thread reads it. Writes go through a thread of their own."""

    def __init__(self, name: str, port: RemotePort, transcript: WireTap | None = None) -> None:
        """Take over an open port without timeout."""
        super().__init__(name, port.baudrate, transcript)
        self._port = port
        self._open = True
        self._writes = ThreadPoolExecutor(1, thread_name_prefix=f"write {name}")
        threading.Thread(target=self._pump, name=f"read {name}", daemon=True).start()

    def _pump(self) -> None:
        while True:
            try:
                data = self._port.read(1)
                if data:
                    data += self._port.read(min(self._port.in_waiting, READ_SIZE))
            except Exception as error:  # noqa: BLE001  pyserial's RFC 2217 raises what it likes when its socket closes
                cause: object = error
                break
            if not data:
                cause = self._port.fault
                break
            if not self._call(self._take, data):
                return
        self._call(self._gone, cause)

    def _call(self, function: Callable[[T], None], value: T) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, value)
        except RuntimeError:  # the loop has ended before the thread
            return False
        return True

    def _take(self, data: bytes) -> None:
        if len(self._buffer) + len(data) > BUFFER_LIMIT:
            # pyserial's own queue has no bound and knows no flow control: cut the board off.
            text = f"{self.name} sent {BUFFER_LIMIT} bytes that nobody asked for"
            self._fail(lambda: Garbled(text, port=self.name))
            self._release()
        elif self._failure is None:
            self._feed(data)

    async def write(self, data: bytes) -> None:
        """See ``Link.write``."""
        self._check()
        self._transcript.sent(data)
        try:
            await self._loop.run_in_executor(self._writes, self._port.write, data)
        except FACES_OF_UNPLUG as error:
            self._gone(error)
            self._check()

    async def reset(self) -> None:
        """See ``Link.reset``; each change of a line waits for the server's word."""
        for line, value in (("dtr", False), ("rts", True), ("rts", False), ("dtr", True)):
            self._check()
            try:
                await self._loop.run_in_executor(self._writes, setattr, self._port, line, value)
            except FACES_OF_UNPLUG as error:
                self._gone(error)
                self._check()
            if (line, value) == ("rts", True):
                await asyncio.sleep(RESET_PULSE)

    def close(self) -> None:
        """See ``Link.close``."""
        self._closed()
        self._release()

    def _release(self) -> None:
        if self._open:
            self._open = False
            self._writes.shutdown(wait=False, cancel_futures=True)
            # pyserial's close joins its thread and sleeps 0.3 s: not in the event loop.
            threading.Thread(target=self._port.close, name=f"close {self.name}").start()


def open_tty(path: str, baud: int) -> serial.Serial:
    """Open and hold a tty; blocks. Errors as ``station.ports.link.open_link``."""
    try:
        mode = Path(path).stat()
    except OSError as error:
        raise _refusal(path, error) from error
    if not stat.S_ISCHR(mode.st_mode):
        raise LinkError(f"{path} is not a serial port but a file or folder", code="link.not_a_port", port=path)
    try:
        port = serial.Serial(path, baud, timeout=0, exclusive=True)
    except ValueError as error:
        raise LinkError(f"{path} can't run at {baud} baud: {error}", code="link.setting", port=path) from error
    except FACES_OF_UNPLUG as error:
        raise _refusal(path, error) from error
    try:
        _settle(port, pty=os.major(mode.st_rdev) in _PTY_MAJORS)
    except FACES_OF_UNPLUG as error:
        port.close()
        raise _refusal(path, error) from error
    return port


def _settle(port: serial.Serial, *, pty: bool) -> None:
    """Set what pyserial does not: see the module docstring for why."""
    descriptor = port.fileno()
    if not pty:
        fcntl.ioctl(descriptor, termios.TIOCEXCL)
        with suppress(ValueError, NotImplementedError, OSError):  # drivers without the flag have no delay to take away
            port.set_low_latency_mode(True)
    attributes = termios.tcgetattr(descriptor)
    attributes[2] &= ~termios.HUPCL
    # pyserial's VMIN 0 makes "nothing yet" look like "hung up": both read as no bytes. With VMIN 1 the first is EAGAIN.
    attributes[6][termios.VMIN] = 1
    attributes[6][termios.VTIME] = 0
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)


def _refusal(port: str, error: BaseException) -> LinkError:
    """Say what an error at opening means and what to do."""
    number = _errno(error)
    if number in (errno.EBUSY, errno.EWOULDBLOCK):
        return PortBusy(f"{port} is held by another program; `fuser -v {port}` names it", port=port)
    if number in (errno.EACCES, errno.EPERM):
        return LinkError(
            f"{port} may not be opened by this user; add it to the group: sudo usermod -aG {_group(port)} $USER,"
            " then log in again",
            code="link.forbidden",
            operator="The station may not use this port. Call the line engineer.",
            port=port,
        )
    if number in (errno.ENOENT, errno.ENOTDIR):
        return Unplugged(f"{port} does not exist: plug the board in, or correct the port in station.toml", port=port)
    return Unplugged(f"{port} can't be opened: {error}", port=port)


def _group(path: str) -> str:
    """Name the group that owns a port; most distributions call it dialout. Nobody is told to join root's."""
    try:
        number = Path(path).stat().st_gid
        return grp.getgrgid(number).gr_name if number else "dialout"
    except (OSError, KeyError):
        return "dialout"


def open_remote(url: str, baud: int) -> RemotePort:
    """Connect to an RFC 2217 server; blocks for some 0.35 s. Errors as ``station.ports.link.open_link``."""
    try:
        return RemotePort(url, baud, timeout=None)
    except ValueError as error:
        raise LinkError(f"{url} can't be opened: {error}", code="link.setting", port=url) from error
    except FACES_OF_UNPLUG as error:
        raise Unplugged(f"{url} can't be opened: {error}; is its server running?", port=url) from error


def _errno(error: BaseException) -> int | None:
    """Return the errno of any face of unplug; ``termios.error`` keeps it as its first argument."""
    number = error.errno if isinstance(error, OSError) else error.args[0] if error.args else None
    return number if isinstance(number, int) else None
