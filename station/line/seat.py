"""Where one board sits: the open port of its slot, the driver that speaks over it, and the flasher of its loader.

A loader that speaks over the console UART (``smp``) shares the open port. The tools of loaders in ROM open the port by
themselves, as child processes, so the port is given up while one works and opened again afterwards. Some boards take
their port away when they restart, since their USB is their own; it is waited for.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, TypeAlias

from firmware_tools.flashers import Flasher, FlasherKind, Payload
from station.config import SlotConfig
from station.devices import Driver
from station.devices.smp_wire import SmpTransport
from station.errors import DeviceError, LinkError, Unplugged
from station.ports.link import Link

Reopen: TypeAlias = Callable[[], Awaitable[Link]]
"""Waits until the port of the slot is there, and opens it."""

COME_BACK: Final = 15.0
"""Seconds in which a port has to come back that a flasher had, or that went away when its board restarted."""

COME_BACK_AFTER_FAILURE: Final = 3.0
"""The same where the flasher failed: most likely the cable was pulled."""


class Seat:
    """One board, for as long as it is in its slot."""

    def __init__(
        self,
        slot: SlotConfig,
        link: Link,
        make_driver: Callable[[Link], Driver],
        reopen: Reopen,
        on_upload: Callable[[bool], None] = lambda _begins: None,
    ) -> None:
        """Take over an open link.

        Args:
            slot: where it is.
            link: the open port.
            make_driver: makes the driver of a link.
            reopen: opens the port again, after it was given up or went away.
            on_upload: told when an upload over the link begins, and ends; for whoever records the link.
        """
        self.on_upload = on_upload
        self.link = link
        self.driver = make_driver(link)
        self._slot = slot
        self._make_driver = make_driver
        self._reopen = reopen
        self.is_open = True
        """False while a child has the port, and after one that was stopped."""

    def close(self) -> None:
        """Close the port."""
        self.link.close()

    async def hangs_up(self) -> None:
        """Read and forget what the board says, and return when the port is gone; while nobody has it open, wait."""
        if not self.is_open:
            await asyncio.Event().wait()
        with suppress(LinkError):
            while True:
                await self.link.read()

    @asynccontextmanager
    async def flasher(self, payload: Payload) -> AsyncIterator[Flasher]:
        """Return the flasher of the board's loader; while it is used nobody else speaks to the board.

        Afterwards there is a new driver.

        Raises:
            Unplugged: the port does not come back.
            DeviceError: ``flash.no_probe``: the slot names no debug probe.
        """
        if payload.kind is FlasherKind.SMP:
            from firmware_tools.flashers.smp import SmpFlasher  # noqa: PLC0415  # only lines that flash need it

            try:
                yield SmpFlasher(SmpTransport(self.link, framing=self._slot.framing), reopen=self._wire_again)
            finally:
                self.driver = self._make_driver(self.link)
            return
        flasher = self._child(payload)
        self.link.close()
        self.is_open = False
        try:
            yield flasher
        except Exception as failure:  # opened all the same, so that it is heard when the board leaves
            try:
                async with asyncio.timeout(COME_BACK_AFTER_FAILURE):
                    await self.open_again()
            except (TimeoutError, LinkError):
                raise Unplugged(f"the port of slot {self._slot.name} is gone: {failure}") from failure
            raise
        await self.open_again()

    async def open_again(self) -> None:
        """Take the port back, unless it is open; there is a new driver then.

        Raises:
            LinkError: it does not come back, or can't be opened.
        """
        if not self.is_open:
            self.link = await self._reopen()
            self.is_open = True
            self.driver = self._make_driver(self.link)

    def _child(self, payload: Payload) -> Flasher:
        """Make a flasher that works as a child process."""
        port = self.link.name
        baud = self._slot.flash_baud
        match payload.kind:
            case FlasherKind.ESP:
                from firmware_tools.flashers.esp import EspFlasher  # noqa: PLC0415

                return EspFlasher(port) if baud is None else EspFlasher(port, baud=baud)
            case FlasherKind.STM32:
                from firmware_tools.flashers.stm32 import Stm32Flasher  # noqa: PLC0415

                make = partial(Stm32Flasher, port, family=payload.chip, options=payload.options)
                return make() if baud is None else make(baud=baud)
            case _:
                from firmware_tools.flashers.probe import ProbeFlasher  # noqa: PLC0415

                if self._slot.probe is None:
                    raise DeviceError(
                        f'slot {self._slot.name} has no debug probe; add probe = "<serial number>" to its [[slot]]',
                        code="flash.no_probe",
                        operator="This slot can't flash boards. Call the line engineer.",
                    )
                return ProbeFlasher(self._slot.probe)

    async def _wire_again(self) -> SmpTransport:
        self.link.close()
        self.link = await self._reopen()
        return SmpTransport(self.link, framing=self._slot.framing)
