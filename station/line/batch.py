"""Flashing alone: the boards of many slots at once, each with its own loader and its own end, and nothing else.

No order, no key, no row: who the boards are is nobody's business here. The bundle is verified before the first port is
opened, and is in memory once for all of them. A board that runs it already is not written.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import TypeAlias

from firmware_tools.flashers import FlashReport
from station.config import ProductSection, SlotConfig
from station.errors import LinkError, StationError, Unplugged
from station.line.drivers import driver_maker
from station.line.flashing import Flashing
from station.line.seat import COME_BACK, Seat
from station.line.stepping import in_time, tried
from station.ports.link import Link, open_link
from station.ports.slots import SlotMap
from station.ports.uevent import present_ports
from station.product_firmware import ProductFirmware

LOG = logging.getLogger(__name__)

AGAIN = 0.2
"""Seconds between two looks for a port."""


class Result(StrEnum):
    """How one board ended."""

    FLASHED = "flashed"
    SKIPPED = "skipped"
    """It ran the firmware already."""
    FAILED = "failed"
    STOPPED = "stopped"
    """We were told to stop; the board can be flashed again."""


@dataclass(frozen=True, slots=True)
class FlashBegan:
    """A slot begins."""

    slot: str


@dataclass(frozen=True, slots=True)
class FlashProgress:
    """How far a slot is."""

    slot: str
    percent: int


@dataclass(frozen=True, slots=True)
class FlashEnded:
    """A slot has come to its end."""

    slot: str
    result: Result
    seconds: float
    code: str = ""
    """Dotted error code; empty when all is well."""
    detail: str = ""
    """For the engineer."""
    operator: str = ""
    report: FlashReport | None = None


BatchEvent: TypeAlias = FlashBegan | FlashProgress | FlashEnded
BatchWatch: TypeAlias = Callable[[BatchEvent], None]


async def flash_slots(
    slots: Sequence[SlotConfig], firmware: ProductFirmware, product: ProductSection, watch: BatchWatch
) -> list[FlashEnded]:
    """Flash the boards in these slots, all at once.

    Args:
        slots: which.
        firmware: with what.
        product: as configured.
        watch: told of each begin, progress and end.

    Returns:
        How each ended, in the order of the slots.

    Raises:
        asyncio.CancelledError: told to stop; each board that was being written can be flashed again.
    """
    jobs = [_Job(slot, firmware, product, watch) for slot in slots]
    tasks = [asyncio.create_task(job.run()) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:  # who watches is gone, or we were told to stop
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Job:
    """One slot."""

    def __init__(self, slot: SlotConfig, firmware: ProductFirmware, product: ProductSection, watch: BatchWatch) -> None:
        self._slot = slot
        self._firmware = firmware
        maker = driver_maker(slot.driver, slot.framing)
        self._make_driver = lambda link: maker(link, product)
        self._watch = watch
        self._began = monotonic()

    async def run(self) -> FlashEnded:
        """Flash; whatever happens to this board, the others go on."""
        self._watch(FlashBegan(self._slot.name))
        self._began = monotonic()
        try:
            report = await self._flash()
        except asyncio.CancelledError:
            self._end(Result.STOPPED)
            raise
        except StationError as error:
            return self._end(Result.FAILED, code=error.code, detail=str(error), operator=error.operator)
        except Exception as bug:  # one slot's bug must not stop the other slots; a watcher that is gone raises again
            sentence = "The station made a mistake. Call the line engineer."
            end = self._end(Result.FAILED, code="station.bug", detail=repr(bug), operator=sentence)
            LOG.exception("slot %s: a bug in the station", self._slot.name)
            return end
        return self._end(Result.SKIPPED if report.skipped else Result.FLASHED, report=report)

    async def _flash(self) -> FlashReport:
        seat = Seat(self._slot, await self._open(0.0), self._make_driver, lambda: self._open(COME_BACK))
        try:
            flashing = Flashing(self._firmware, seat, self._progress)
            step = flashing.step
            return await tried(step, lambda: in_time(step, flashing.flash, lambda: step.party))
        finally:
            seat.close()

    def _progress(self, percent: int) -> None:
        self._watch(FlashProgress(self._slot.name, percent))

    async def _open(self, patience: float) -> Link:
        """Open the slot's port, if it is there within so many seconds."""
        give_up = monotonic() + patience
        while True:
            try:
                return await open_link(device_of(self._slot), self._slot.baud)
            except LinkError:
                if monotonic() >= give_up:
                    raise
            await asyncio.sleep(AGAIN)

    def _end(
        self, result: Result, *, code: str = "", detail: str = "", operator: str = "", report: FlashReport | None = None
    ) -> FlashEnded:
        ended = FlashEnded(self._slot.name, result, monotonic() - self._began, code, detail, operator, report)
        self._watch(ended)
        return ended


def device_of(slot: SlotConfig) -> str:
    """Return the port of a slot, as it is plugged in now.

    Raises:
        Unplugged: nothing is plugged in there.
    """
    if slot.port is not None:
        return slot.port
    places = SlotMap([slot])
    found = next((port.device for port in present_ports() if places.slot_of(port) == slot.name), None)
    if found is None:
        raise Unplugged(f"nothing is plugged in at {slot.usb}; plug the board in, or see 'station slots list'")
    return found


def chosen(slots: Sequence[SlotConfig], names: Iterable[str]) -> list[SlotConfig]:
    """Return the slots of these names.

    Raises:
        StationError: ``line.no_slot``: there is no such slot.
    """
    known = {slot.name: slot for slot in slots}
    for name in names:
        if name not in known:
            raise StationError(f"there is no slot '{name}' here; there are {', '.join(known)}", code="line.no_slot")
    return [known[name] for name in dict.fromkeys(names)]
