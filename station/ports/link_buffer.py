"""What kinds of links share: a bounded buffer between a port and one reader, and the watching of a file descriptor.

``station.ports.link`` says how a link behaves. Who makes a new kind of link (a radio, a debug probe's console) begins
here.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Final

from station.errors import LinkError, Unplugged
from station.ports.transcript import NullTranscript, WireTap

READ_SIZE: Final = 65536
"""Bytes of one read."""

BUFFER_LIMIT: Final = 65536
"""Bytes that wait for a reader before the port is no longer read."""

HAND_OUT: Final = 16384
"""Bytes that a reader gets at once: what a flood of them may cost until other slots have their turn."""


HAND_OUT_AT: Final = 1024
"""Bytes that a reader gets though what it waits for is not among them: longer than any line of a protocol of ours."""


class BufferedLink:
    """What all links share: a bounded buffer between the port and one reader. A base for kinds of links."""

    def __init__(self, name: str, baud: int, transcript: WireTap | None = None) -> None:
        """Make a link that holds nothing yet."""
        self.name = name
        self.baud = baud
        self._transcript: WireTap = transcript or NullTranscript()
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._failure: Callable[[], LinkError] | None = None
        self._reader: asyncio.Future[None] | None = None
        self._until = b""
        self._writer: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> int:
        """See ``Link.waiting``."""
        return len(self._buffer)

    async def read(self, until: bytes = b"") -> bytes:
        """See ``Link.read``."""
        if self._is_too_little(self._buffer, until):
            if self._failure is not None and not self._buffer:
                raise self._failure()
            self._reader, self._until = self._loop.create_future(), until
            try:
                await self._reader
            finally:
                self._reader = None
            if not self._buffer:
                self._check()
        elif len(self._buffer) > HAND_OUT:
            await asyncio.sleep(0)
            if not self._buffer:  # closed meanwhile
                self._check()
        data = bytes(self._buffer[:HAND_OUT])
        del self._buffer[:HAND_OUT]
        self._transcript.received(data)
        if len(self._buffer) < BUFFER_LIMIT:
            self._resume()
        return data

    async def reset(self) -> None:
        """See ``Link.reset``: no lines here."""

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure()

    def _feed(self, data: bytes) -> None:
        self._buffer += data
        if self._reader is not None and not self._is_too_little(data, self._until):
            self._wake()

    def _is_too_little(self, data: bytes | bytearray, until: bytes) -> bool:
        """Tell whether a reader should wait for more than the buffer holds; ``data`` is what it did not see before."""
        if self._failure is not None or len(self._buffer) >= HAND_OUT_AT:
            return not self._buffer
        return not self._buffer or until not in data

    def _fail(self, failure: Callable[[], LinkError]) -> None:
        """Fail from now on; the first cause stays."""
        if self._failure is None:
            self._failure = failure
            self._wake()

    def _gone(self, cause: object) -> None:
        """Fail as unplugged."""
        text = f"{self.name} is gone: {cause}"
        self._fail(lambda: Unplugged(text, port=self.name))

    def _closed(self) -> None:
        self._fail(lambda: LinkError(f"{self.name} is closed", code="link.closed", port=self.name))
        if self._buffer:
            self._transcript.received(bytes(self._buffer))
            self._buffer.clear()
        self._transcript.close()

    def _wake(self) -> None:
        for waiter in (self._reader, self._writer if self._failure else None):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def _resume(self) -> None:
        """There is room in the buffer again."""


class DescriptorLink(BufferedLink):
    """A link over a file descriptor that the event loop watches."""

    def __init__(self, name: str, baud: int, descriptor: int, transcript: WireTap | None = None) -> None:
        """Take over an open, non-blocking descriptor; the subclass closes it in ``_release``."""
        super().__init__(name, baud, transcript)
        self._descriptor = descriptor
        self._paused = False
        self._open = True
        self._loop.add_reader(descriptor, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(error.strerror)
            return
        if not data:
            self._lost("end of file")
            return
        self._feed(data)
        if len(self._buffer) >= BUFFER_LIMIT:
            # The kernel's buffer fills up next, and then the sender stops: flow control reaches down to the wire.
            self._loop.remove_reader(self._descriptor)
            self._paused = True

    def _resume(self) -> None:
        if self._paused and self._failure is None:
            self._paused = False
            self._loop.add_reader(self._descriptor, self._readable)

    def _lost(self, cause: object) -> None:
        # A descriptor that is hung up stays readable for ever; leave it alone or the loop spins.
        self._loop.remove_reader(self._descriptor)
        self._gone(cause)

    async def write(self, data: bytes) -> None:
        """See ``Link.write``."""
        self._transcript.sent(data)
        rest = memoryview(data)
        while rest:
            self._check()
            try:
                taken = os.write(self._descriptor, rest)
            except (BlockingIOError, InterruptedError):
                await self._writable()
                continue
            except OSError as error:
                self._lost(error.strerror)
                continue
            rest = rest[taken:]

    async def _writable(self) -> None:
        self._writer = self._loop.create_future()
        self._loop.add_writer(self._descriptor, self._wake_writer)
        try:
            await self._writer
        finally:
            self._writer = None
            if self._open:
                self._loop.remove_writer(self._descriptor)

    def _wake_writer(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def close(self) -> None:
        """See ``Link.close``."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
            self._release()
        self._closed()

    def _release(self) -> None:
        raise NotImplementedError
