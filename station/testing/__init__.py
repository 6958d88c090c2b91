r"""A line in memory, for tests of drivers, steps and policies: no port, no process, no time.

::

    board = ScriptedBoard("BOARD-0001")
    driver = SmpDriver(board.plug())
    identity = await driver.identify()

``ScriptedBoard`` is a whole device in Python that speaks the provisioning group, with a real key, CSR, chain checks and
proofs. A test bends one answer in one line, for good or so many times:

    board.change(Verb.IDENT, hw="\x1b[2J")                the right answer, with another field
    board.drop(Verb.CHAIN_READ, "sha")                    the right answer, without a field
    board.refuse(Verb.PROVE, ProvisioningError.CRYPTO)    a return code
    board.say(Verb.CSR, b"Segmentation fault\r\n")        bytes on the wire in place of the answer
    board.hush(Verb.CSR, times=2)                         silence, twice
    board.unplug_on(Verb.CHAIN_WRITE)                     the board leaves while it is asked
    board.script(Verb.LOCK_READ, lambda request, answer: ...)    whatever else

``ScriptedModem`` is the same for the AT commands of a Nordic modem: ``twist``, ``say``, ``refuse`` and ``hush`` bend
the answer to what begins with a command. ``ScriptedShell`` is a console whose answers a test writes down itself.

``exercise`` puts any driver through all that a line asks of it, with a certificate that is worth nothing.

What the board did stands in ``board.requests`` and its attributes (``key``, ``csr``, ``chain``, ``locks``), which may
be set as well: a cloned board is one with the key of another. ``MemoryLink`` is the wire alone, ``ScriptedHotplug``
gives port events, ``FakeClock`` the time.

Against a driver of your own, let boards lie: ``hostile_board.HostileBoard`` is a ``ScriptedBoard`` that twists its
answers (``twists``), and in ``virtual_time.VirtualLoop`` the deadlines that it runs into cost no time.
"""

import asyncio
from typing import Self

from station.ports.event import PortEvent, PortEventKind
from station.testing.exercise import Reach, Step, Unfit, exercise
from station.testing.memory_link import MemoryLink
from station.testing.scripted_board import Answer, Script, ScriptedBoard, Verb, frame
from station.testing.scripted_modem import ScriptedModem
from station.testing.scripted_shell import ScriptedShell

__all__ = [
    "Answer",
    "FakeClock",
    "MemoryLink",
    "Reach",
    "Script",
    "ScriptedBoard",
    "ScriptedHotplug",
    "ScriptedModem",
    "ScriptedShell",
    "Step",
    "Unfit",
    "Verb",
    "exercise",
    "frame",
]


class ScriptedHotplug:
    """Port events as a test wants them; a ``Hotplug``."""

    def __init__(self) -> None:
        """Begin with no port."""
        self._events: asyncio.Queue[PortEvent | None] = asyncio.Queue()

    def plug(self, device: str, usb: str | None = None) -> None:
        """Let a port arrive."""
        self._events.put_nowait(PortEvent(PortEventKind.ARRIVED, device, usb))

    def unplug(self, device: str, usb: str | None = None) -> None:
        """Let a port leave."""
        self._events.put_nowait(PortEvent(PortEventKind.LEFT, device, usb))

    def __aiter__(self) -> Self:
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
        self._events.put_nowait(None)


class FakeClock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float = 0.0) -> None:
        """Begin at ``now``."""
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
