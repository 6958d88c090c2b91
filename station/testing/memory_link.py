"""A wire in memory: the link that tests use."""

from collections.abc import Callable
from typing import Self

from station.ports.link_buffer import BufferedLink
from station.ports.transcript import WireTap


class MemoryLink(BufferedLink):
    """One end of a wire in memory: what one end writes the other reads."""

    def __init__(self, name: str = "memory", *, baud: int = 1_000_000_000, transcript: WireTap | None = None) -> None:
        """Make an end that is connected to nothing; see ``pair`` and ``ScriptedBoard.plug``."""
        super().__init__(name, baud, transcript)
        self.on_write: Callable[[bytes], bytes | None] = bytes
        """May harm what is written: returns what goes onto the wire, None for nothing."""
        self._deliver: Callable[[bytes], None] = lambda _data: None

    @classmethod
    def pair(cls, name: str = "memory") -> tuple[Self, Self]:
        """Return the two ends of a wire."""
        near, far = cls(name), cls(f"{name} (far end)")
        near._deliver, far._deliver = far._feed, near._feed
        return near, far

    async def write(self, data: bytes) -> None:
        """See ``Link.write``."""
        self._check()
        self._transcript.sent(data)
        if harmed := self.on_write(data):
            self._deliver(harmed)
        self._check()

    def connect(self, deliver: Callable[[bytes], None]) -> None:
        """Give what is written to a function."""
        self._deliver = deliver

    def receive(self, data: bytes) -> None:
        """Let ``data`` come in, as if the other end had written it."""
        if self._failure is None:
            self._feed(data)

    def unplug(self) -> None:
        """Take the port away."""
        self._gone("unplugged")

    def close(self) -> None:
        """See ``Link.close``."""
        self._closed()
