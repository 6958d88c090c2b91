"""What the SMP flasher needs of a wire. ``station.devices.smp_wire.SmpTransport`` is one."""

from typing import Protocol


class SmpWire(Protocol):
    """Carries whole SMP messages to one board and back. One sender and one receiver at a time.

    What it raises when the port is gone is its own; the flasher lets it pass, unless it has a way to open the port
    again and has just reset the board.
    """

    @property
    def name(self) -> str:
        """The port, for messages."""

    @property
    def baud(self) -> int:
        """Bits a second, 8N1, each direction."""

    def wire_size(self, size: int) -> int:
        """Return how many bytes a message of ``size`` bytes takes on the wire."""

    async def send(self, message: bytes, *, after_silence: bool = False) -> None:
        """Send a message; returns when the port has taken it.

        Args:
            message: header and map.
            after_silence: the board did not answer the last message: it may hold half of it, and so may we.
        """

    async def receive(self) -> bytes:
        """Return the next message that came whole. May be cancelled at any point; no byte is lost by that."""
