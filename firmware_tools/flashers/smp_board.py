"""One board behind an SMP server: what it can be asked, and what it can be told to do."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import BootloaderInformationRead, MCUMgrParametersRead, ResetWrite

from firmware_tools.errors import FlashError
from firmware_tools.flashers import Target
from firmware_tools.flashers.smp_images import Images, version_of
from firmware_tools.flashers.smp_peer import Refusal, SmpPeer
from firmware_tools.flashers.smp_upload import Limits, UploadPatience
from firmware_tools.flashers.smp_wire import SmpWire

__all__ = ["Patience", "SmpBoard"]

SMALLEST_BUFFER: Final = 64
"""Bytes; a server that says less is not believed."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds, beside the time on the wire; where there are several, each is one try."""

    first: tuple[float, ...] = (0.5, 0.5, 1.0, 1.0, 2.0, 2.0)
    """A board may still be booting, since opening the port resets many."""
    ask: tuple[float, ...] = (0.5, 1.0)
    """For what a server need not have, and may pass over in silence."""
    command: tuple[float, ...] = (2.0, 4.0, 8.0)
    """For what writes flash."""
    boot: float = 120.0
    """From a reset until the new image answers, a swap of the slots included."""
    settle: float = 0.3
    """A board gets this before it is asked after a reset. Zephyr answers for 250 ms before it goes down."""
    stay: float = 10.0
    """How long a board may go on as before a reset until it counts as one that was reset."""
    upload: UploadPatience = field(default_factory=UploadPatience)


class SmpBoard:
    """A board and the wire to it, which may be another one after a reset."""

    def __init__(self, wire: SmpWire, reopen: Callable[[], Awaitable[SmpWire]] | None, patience: Patience) -> None:
        """See ``SmpFlasher``."""
        self.peer = SmpPeer(wire)
        self.limits = Limits()
        """Of the server's buffers, once ``target`` has asked."""
        self._reopen = reopen
        self._patience = patience
        self.loss: Exception | None = None
        """Why there is no wire at the moment."""

    async def images(self, deadlines: Sequence[float]) -> Images:
        """Ask what it holds.

        Raises:
            FlashError: ``flash.no_answer``, or it has no image group.
        """
        request = ImageStatesRead(sequence=self.peer.next_sequence())
        return Images.of(await self.peer.ask(request, deadlines, "a list of its images"))

    async def target(self, images: Images) -> Target:
        """Ask what else there is to know, and say all of it."""
        self.limits = await self._ask_limits()
        runs = images.running()
        return Target(
            chip="",
            running=runs.hash if runs else None,
            version=runs.version if runs else None,
            is_loader=not images.has_application,
            bootloader=await self._ask_bootloader(),
        )

    async def mark(self, digest: bytes, what: str) -> None:
        """Ask for a trial of an image at the next reset.

        Raises:
            FlashError: it refuses, or does not answer.
        """
        request = ImageStatesWrite(hash=digest, confirm=False, sequence=self.peer.next_sequence())
        await self.peer.ask(request, self._patience.command, what)

    async def confirm(self, digest: bytes | None) -> None:
        """Let it keep the image that runs; None: it does not tell its hash.

        Raises:
            FlashError: it refuses, or does not answer.
        """
        request = ImageStatesWrite(hash=digest, confirm=True, sequence=self.peer.next_sequence())
        await self.peer.ask(request, self._patience.command, "to keep its image")

    async def reset(self) -> None:
        """Reset it.

        Raises:
            Refusal: it does not want to.
        """
        request = ResetWrite(sequence=self.peer.next_sequence())
        try:
            await self.peer.ask(request, self._patience.command[:1], "a reset")
        except Refusal:
            raise
        except FlashError:  # many boards are gone before their answer is out
            return
        except Exception as loss:
            if self._reopen is None:
                raise
            self.loss = loss

    async def images_after(self, pause: float) -> Images | None:
        """Ask what it holds, some seconds later; None: it does not answer, or has no port at the moment."""
        await asyncio.sleep(pause)
        try:
            if self.loss is not None and self._reopen is not None:
                self.peer = SmpPeer(await self._reopen())
                self.loss = None
            return await self.images(self._patience.ask)
        except FlashError:
            return None
        except Exception as loss:
            if self._reopen is None:
                raise
            self.loss = loss
            return None

    async def _ask_limits(self) -> Limits:
        request = MCUMgrParametersRead(sequence=self.peer.next_sequence())
        try:
            answer = await self.peer.ask(request, self._patience.ask, "its parameters")
        except FlashError:
            return Limits()
        buffer, count = answer.number("buf_size"), answer.number("buf_count")
        return Limits(None if buffer is None or buffer < SMALLEST_BUFFER else buffer, count)

    async def _ask_bootloader(self) -> str | None:
        """Ask for the bootloader's version; the query is of our making, and others answer that they have no answer."""
        request = BootloaderInformationRead(query="version", sequence=self.peer.next_sequence())
        with suppress(FlashError):
            said = (await self.peer.ask(request, self._patience.ask[:1], "its bootloader")).body.get("response")
            if isinstance(said, str) and version_of(said) is not None:
                return said
        return None
