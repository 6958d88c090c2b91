"""The wire between station and board: open a port, read, write, reset, close.

``open_link`` takes what stands in ``station.toml`` as ``port``:

=========================  ===========================================================================================
``/dev/ttyUSB0``           any tty of Linux: USB adapters, CDC-ACM, UARTs, pseudo-terminals
``socket://host:port``     bytes over TCP, for QEMU and terminal servers; such a port has no lines and no baud
``rfc2217://host:port``    a serial server that also passes on baud and lines (RFC 2217)
=========================  ===========================================================================================

A link with a file descriptor is read by the event loop as bytes come: no polling and no thread. RFC 2217 is spoken by
pyserial, which blocks, so such a link has one reader thread. Whatever the kind:

- ``read`` may be cancelled at any point (``asyncio.timeout``): no byte is lost. One reader and one writer at a time.
- Memory is bounded: a board that floods the wire while nobody reads is stopped by flow control, or cut off where there
  is none.
- pyserial and the kernel report a missing board in three ways (``SerialException``, ``OSError`` and ``termios.error``,
  which is a child of neither): here all of them are ``Unplugged``.
- A tty is held by ``flock``, which stops programs that ask, *and* by ``TIOCEXCL``, which stops those that don't.
  Pseudo-terminals get the lock alone: their exclusive mark outlives a killed process and would keep us out as well.
- A tty loses ``HUPCL`` at its first open, so that closing it does not drop DTR and reset the board.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

import serial

from station.errors import LinkError, Unplugged
from station.ports.link_buffer import DescriptorLink
from station.ports.link_serial import ThreadedLink, TtyLink, open_remote, open_tty
from station.ports.remote_port import RemotePort
from station.ports.transcript import WireTap

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for a TCP connection."""

OPEN_DEADLINE: Final = 10.0
"""Seconds for opening a tty or a connection; a driver that hangs in the kernel takes for ever."""

REMOTE_DEADLINE: Final = 30.0
"""Seconds for opening an RFC 2217 port, which asks the server up to eight times and gives it 3 s each time."""

OPEN_HANGS: Final = "link.open_hangs"
"""Code of a port whose opening came to no end."""

T = TypeVar("T")


class Link(Protocol):
    """An open port."""

    name: str
    """The port as configured."""
    baud: int
    """Bits a second, 8N1. A driver adds the time on the wire to its deadlines."""

    @property
    def waiting(self) -> int:
        """Bytes that have come and were not read yet."""

    async def read(self, until: bytes = b"") -> bytes:
        """Return what has come, at least one byte.

        Args:
            until: wait until this byte is among them, or until there are many; at 115200 baud a line comes in a dozen
                pieces, and nobody is served by waking up for each of them.

        Raises:
            Unplugged: the port is gone; bytes that came before are returned first.
        """

    async def write(self, data: bytes) -> None:
        """Hand ``data`` to the port; returns when the port has taken all of it.

        Raises:
            Unplugged: the port is gone.
        """

    async def reset(self) -> None:
        """Pulse RTS and DTR, which resets boards that have them wired; nothing happens on a port without lines."""

    def close(self) -> None:
        """Close the port. May be called twice; a waiting reader or writer gets ``LinkError``."""


class SocketLink(DescriptorLink):
    """Bytes over TCP. Opened here and not by pyserial, which leaves Nagle's delay on and sleeps 0.3 s in close."""

    def __init__(self, name: str, baud: int, connection: socket.socket, transcript: WireTap | None = None) -> None:
        """Take over a connection."""
        super().__init__(name, baud, connection.fileno(), transcript)
        self._connection = connection

    def _release(self) -> None:
        self._connection.close()


async def open_link(port: str, baud: int, *, transcript: WireTap | None = None) -> Link:
    """Open a port.

    Args:
        port: a tty's path, ``socket://host:port`` or ``rfc2217://host:port``.
        baud: bits a second; always 8N1 and no flow control.
        transcript: gets every byte of both directions; closed with the link.

    Raises:
        Unplugged: there is no such port, or nobody listens there.
        PortBusy: somebody else holds it.
        LinkError: ``link.forbidden``, ``link.not_a_port`` or ``link.setting``: it can't be opened, and why.
            ``link.open_hangs``: the opening comes to no end; a thread waits for it as long as the process lives.
    """
    try:
        return await _open(port, baud, transcript)
    except ValueError as error:  # a NUL in a path, a bracket too few, a host name that is too long
        raise LinkError(f"{port} is no port: {error}", code="link.not_a_port", port=port) from error


async def _open(port: str, baud: int, transcript: WireTap | None) -> Link:
    scheme = urlsplit(port).scheme if "://" in port else "tty"
    match scheme:
        case "tty":
            tty = await _in_thread(port, lambda: open_tty(port, baud), serial.Serial.close, OPEN_DEADLINE)
            return TtyLink(port, tty, transcript)
        case "socket":
            connection = await _in_thread(port, lambda: _connect(port), socket.socket.close, OPEN_DEADLINE)
            return SocketLink(port, baud, connection, transcript)
        case "rfc2217":
            remote = await _in_thread(port, lambda: open_remote(port, baud), RemotePort.close, REMOTE_DEADLINE)
            return ThreadedLink(port, remote, transcript)
        case _:
            raise LinkError(
                f"{port} is no port: write a path, socket://host:port or rfc2217://host:port",
                code="link.not_a_port",
                port=port,
            )


async def _in_thread(port: str, opening: Callable[[], T], close: Callable[[T], object], deadline: float) -> T:
    """Run a blocking open in a thread of its own: neither the loop nor another slot waits for a port that hangs.

    It is a daemon thread, and no pool's: the process does not wait for it when it ends.

    Raises:
        LinkError: ``link.open_hangs``, or what ``opening`` raises.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # whoever stops waiting does not stop the opening

    def work() -> None:
        try:
            future.set_result(opening())
        except BaseException as error:  # noqa: BLE001  raised again by whoever waits
            future.set_exception(error)

    threading.Thread(target=work, name=f"open {port}", daemon=True).start()
    try:
        async with asyncio.timeout(deadline):
            return await asyncio.wrap_future(future)
    except (asyncio.CancelledError, TimeoutError) as error:
        # It may open the port all the same, and nobody would close it.
        future.add_done_callback(lambda done: None if done.exception() else close(done.result()))
        if isinstance(error, asyncio.CancelledError):
            raise
        raise LinkError(
            f"opening {port} came to no end in {deadline:g} s: its driver or adapter hangs; plug the adapter in again",
            code=OPEN_HANGS,
            operator="The port of this slot hangs. Unplug its cable and plug it in again.",
            port=port,
        ) from None


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    try:
        number = parts.port
    except ValueError:
        number = None
    if not parts.hostname or number is None:
        raise LinkError(f"{url} lacks a host or a port number", code="link.not_a_port", port=url)
    try:
        connection = socket.create_connection((parts.hostname, number), timeout=CONNECT_TIMEOUT)
    except OSError as error:
        raise Unplugged(f"{url} can't be reached: {error}; is its server running?", port=url) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return connection
