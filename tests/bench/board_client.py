"""A client of one board that does nothing but SMP: what judges the line must not be the line."""

import os
import select
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from smp import packet
from smpclient.requests.os_management import EchoWrite

from bench.figures import BenchError
from firmware_tools.provisioning_group import ChainRead, CsrWrite, IdentRead, IdentResponse

PATIENCE: Final = 5.0
"""Seconds that an answer may take."""


class Exchange(NamedTuple):
    """One request and its answer."""

    message: bytes
    seconds: float
    """From the first byte sent to the last byte read."""
    wire: int
    """Bytes on the wire, both directions."""


class BoardClient:
    """One board, one request after the other; blocks."""

    def __init__(self, descriptor: int) -> None:
        """Talk through an open tty in raw mode."""
        self._descriptor = descriptor
        self._sequence = 0

    def exchange(self, message: bytes) -> Exchange:
        """Send a message, return the next one."""
        frame = b"".join(packet.encode(message, 128))
        decoder = packet.decode()
        next(decoder)
        rest, heard = b"", 0
        began = time.monotonic()
        os.write(self._descriptor, frame)
        while select.select([self._descriptor], [], [], PATIENCE)[0]:
            data = os.read(self._descriptor, 4096)
            heard += len(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                try:
                    decoder.send(line + b"\n")
                except StopIteration as end:
                    return Exchange(end.value, time.monotonic() - began, len(frame) + heard)
        raise BenchError("a board does not answer its judge")

    def identify(self) -> IdentResponse:
        """Ask who it is."""
        return IdentResponse.loads(self.exchange(IdentRead(sequence=self._next()).BYTES).message)

    def chain(self) -> bytes:
        """Read the whole chain out of its storage; empty if it holds none."""
        content, total = b"", 1
        while len(content) < total:
            request = ChainRead(off=len(content), sequence=self._next())
            message = self.exchange(request.BYTES).message
            try:
                answer = request._Response.loads(message)
            except ValueError:  # an error: it holds no chain
                return b""
            total = answer.len
            content += answer.data
        return content

    def key(self) -> float:
        """Identify it and let it make its key; return the seconds that both took."""
        identity = self.exchange(IdentRead(sequence=self._next()).BYTES)
        return identity.seconds + self.exchange(CsrWrite(off=0, sequence=self._next()).BYTES).seconds

    def echo(self, size: int) -> Exchange:
        """Let it repeat a text such that each direction carries about ``size`` bytes on the wire."""
        text = "x" * max(1, size * 3 // 4 - ECHO_OVERHEAD)
        return self.exchange(EchoWrite(d=text, sequence=self._next()).BYTES)

    def _next(self) -> int:
        self._sequence = (self._sequence + 1) & 0xFF
        return self._sequence


ECHO_OVERHEAD: Final = 20
"""Bytes of an echo beside its text: header, map, key, length and CRC, and the delimiters of a line or two."""


@contextmanager
def client_of(port: Path) -> Iterator[BoardClient]:
    """Open a board's port for as long as the block lasts."""
    descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        tty.setraw(descriptor)
        termios.tcflush(descriptor, termios.TCIOFLUSH)
        yield BoardClient(descriptor)
    finally:
        os.close(descriptor)
