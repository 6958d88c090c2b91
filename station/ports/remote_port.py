"""pyserial's RFC 2217 port, made fit for servers that are broken or hostile.

pyserial reads the connection in a thread that dies of the first byte it does not expect, with a traceback on stderr,
and that keeps a suboption without end in memory without end. The thread here reads Telnet (RFC 854, RFC 855) by itself,
bounded; whatever ends it ends the port, and ``fault`` says what it was.
"""

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Final

import serial.rfc2217

SUBOPTION_LIMIT: Final = 1024
"""Bytes of one command that the server has begun; the longest that RFC 2217 knows is a signature, some text."""

_RECEIVE_SIZE: Final = 16384

_TOKEN: Final = re.compile(
    rb"(?P<data>[^\xff]+)"
    rb"|\xff(?P<escaped>\xff)"
    rb"|\xff(?P<verb>[\xfb-\xfe])(?P<option>.)"  # WILL, WONT, DO, DONT
    rb"|\xff\xfa(?P<suboption>(?:[^\xff]|\xff\xff)*+)\xff\xf0"  # SB ... SE
    rb"|\xff[^\xfa-\xff]",  # another command, without consequence here
    re.DOTALL,
)
"""One piece of Telnet, beginning with IAC (0xff) where it is not data."""


class TelnetError(Exception):
    """The server does not speak Telnet."""


class TelnetReader:
    """Cuts what a server sends into tokens; what is incomplete waits for the next bytes."""

    def __init__(self) -> None:
        """Begin."""
        self._rest = b""

    def feed(self, received: bytes) -> Iterator[re.Match[bytes]]:
        """Yield the tokens that are complete.

        Raises:
            TelnetError: a command goes on and on.
        """
        text, at = self._rest + received, 0
        while token := _TOKEN.match(text, at):
            yield token
            at = token.end()
        self._rest = text[at:]
        if len(self._rest) > SUBOPTION_LIMIT:
            raise TelnetError(f"a command of more than {SUBOPTION_LIMIT} bytes")


class RemotePort(serial.rfc2217.Serial):
    """A port of an RFC 2217 server."""

    fault: str = "end of file"
    """Why the connection ended."""

    # pyserial's own, which its type stubs leave out
    _socket: socket.socket
    _read_buffer: SimpleQueue[bytes | None]
    _telnet_negotiate_option: Callable[[bytes, bytes], None]
    _telnet_process_subnegotiation: Callable[[bytes], None]

    def _telnet_read_loop(self) -> None:
        """Take the place of pyserial's reader, which its ``open`` starts as a thread."""
        reader = TelnetReader()
        try:
            while self.is_open:
                with suppress(socket.timeout):  # pyserial's way to look whether the port is still open
                    received = self._socket.recv(_RECEIVE_SIZE)
                    if not received:
                        break
                    for token in reader.feed(received):
                        self._take(token)
        except Exception as error:  # noqa: BLE001  pyserial raises what it likes at an answer it did not expect
            self.fault = f"{type(error).__name__}: {error}"
        finally:
            self._read_buffer.put(None)  # the end, for pyserial's ``read``

    def _take(self, token: re.Match[bytes]) -> None:
        if (data := token["data"] or token["escaped"]) is not None:
            self._read_buffer.put(data)
        elif token["verb"] is not None:
            self._telnet_negotiate_option(token["verb"], token["option"])
        elif token["suboption"] is not None:
            self._telnet_process_subnegotiation(token["suboption"].replace(b"\xff\xff", b"\xff"))
