"""Flashes boards that speak SMP: Zephyr and Mynewt applications, and MCUboot's serial recovery.

::

    look      image list, params, bootloader info                             no answer to the last two is an answer
    write     upload into the slot that the server chooses                    ``smp_upload``
    verify    the image list names the hash                                   or the version, where it has no hashes
    mark      for a trial, if an application answers                          a loader wrote the slot that it boots
    restart   reset, then ask until the board answers
    confirm   once the hash runs                                              or the next reset takes the old one back

What a board holds already is not sent again: a board that runs the payload is left alone, one that has it in its other
slot is only told to try it, and one that was cut off in the middle of an upload goes on there. A board that is on trial
with another image is reset first, since its other slot holds what it would go back to.

**After a reset** a board may say three things. The hash runs: good. An image still waits for its trial: the board has
not been reset yet. Another image runs and none waits: the board took the old one back, or its bootloader refused the
new one. A loader that answers again was either held by our own questions, as MCUboot is when it waits for a download at
each start, so it is reset again and left in peace for longer each time; or it has no image that it would start.

Options of a payload: ``erase_seconds`` (40) until the first piece is answered, ``boot_seconds`` (120) from a reset to
the first answer, a swap of the slots included.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from firmware_tools.errors import FlashError
from firmware_tools.flashers import FlashReport, Payload, Phase, Placed, Progress, Target, Watch
from firmware_tools.flashers.smp_board import Patience, SmpBoard
from firmware_tools.flashers.smp_images import Images, hash_of, version_of
from firmware_tools.flashers.smp_peer import Refusal
from firmware_tools.flashers.smp_upload import Upload
from firmware_tools.flashers.smp_wire import SmpWire
from firmware_tools.version import Version

__all__ = ["Patience", "SmpFlasher", "SmpWire"]

_TRIES_OF_LOADER: Final = 3
"""Resets of a loader that answers again, before it is said to refuse the image."""


class SmpFlasher:
    """One board through SMP; a ``Flasher``."""

    def __init__(
        self,
        wire: SmpWire,
        *,
        reopen: Callable[[], Awaitable[SmpWire]] | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Flash through an open wire; the caller closes it.

        Args:
            wire: to the board.
            reopen: opens the port again, for boards whose port goes away while they boot (USB); whatever it raises
                means that the port is not there yet. It closes the wire before it, and the caller the last one.
            patience: how long to wait.
        """
        self._wire = wire
        self._reopen = reopen
        self._patience = patience or Patience()

    async def look(self) -> Target:
        """See ``Flasher.look``."""
        board = SmpBoard(self._wire, self._reopen, self._patience)
        return await board.target(await board.images(self._patience.first))

    async def flash(self, payload: Payload, watch: Watch) -> FlashReport:
        """See ``Flasher.flash``."""
        patience = _with_options(self._patience, payload)
        return await _Job(SmpBoard(self._wire, self._reopen, patience), patience, payload, watch).run()


class _Job:
    """One payload for one board; ``run`` once."""

    def __init__(self, board: SmpBoard, patience: Patience, payload: Payload, watch: Watch) -> None:
        self._board = board
        self._patience = patience
        self._payload = payload
        # What the bundle's reader found is not computed again by each slot, while the others wait.
        known = {} if payload.running is None else {0: payload.running}
        self._hashes = {image.address: known.get(image.address) or hash_of(image) for image in payload.images}
        self._total = sum(len(image.content) for image in payload.images)
        self._watch = watch
        self._stopwatch = _Stopwatch()
        self._done = 0
        """Bytes of the images before the one at hand."""

    async def run(self) -> FlashReport:
        """See ``Flasher.flash``."""
        self._check_payload()
        self._enter(Phase.CONNECT)
        images = await self._board.images(self._patience.first)
        before = await self._board.target(images)
        _check_bootloader(before, self._payload)
        on_trial = any(images.on_trial(image.address) for image in self._payload.images)
        if self._runs(images) is not True and on_trial:
            images = await self._take_back(images)
        written = 0
        if self._runs(images) is not True:
            written, images = await self._write_what_is_missing(images)
        # What has just been written can't run already: a loader says so of the slot that it will start.
        in_place = before.is_loader or (written > 0 and self._runs(images) is True)
        if written or self._runs(images) is not True:
            images = await self._mark(images)
            self._enter(Phase.RESTART)
            images = await self._restart(images)
        await self._confirm(images, was_loader=in_place)
        images = await self._board.images(self._patience.command)
        if self._runs(images) is False:
            raise self._went_back(images)
        return self._report(before, images, written)

    # What is there.

    def _check_payload(self) -> None:
        numbers = [image.address for image in self._payload.images]
        if not numbers or len(set(numbers)) != len(numbers):
            raise FlashError(f"the payload's images have the numbers {numbers}: give each image one of its own")
        for image in self._payload.images:
            if not image.content:
                raise FlashError(f"{image.name} is empty")

    def _holds(self, images: Images, image: Placed) -> bool:
        digest = self._hashes[image.address]
        return digest is not None and images.find(image.address, digest) is not None

    def _runs(self, images: Images) -> bool | None:
        """Whether the images of the payload run; None: no sign against it, and not a sign of each."""
        signs = {self._is_running(images, image) for image in self._payload.images}
        return False if False in signs else None if None in signs else True

    def _is_running(self, images: Images, image: Placed) -> bool | None:
        digest, slot = self._hashes[image.address], images.running(image.address)
        if slot is None:
            return False if not images.has_application else None
        if digest is not None and slot.hash is not None:
            return slot.hash == digest
        version = version_of(slot.version)
        return None if version is None or digest is None else False if version != self._version else None

    @property
    def _version(self) -> Version | None:
        try:
            return Version.parse(self._payload.version)
        except ValueError:
            return None

    def _missing(self, images: Images) -> FlashError | None:
        """Return the error of an image that was written and is not listed."""
        for image in self._payload.images:
            digest = self._hashes[image.address]
            if digest is None or images.find(image.address, digest) is not None:
                continue
            if images.slots and not images.has_hashes:
                continue
            return FlashError(
                f"{image.name}: the board took all of it and does not list it: it does not accept the image",
                code="flash.verify",
                expected=digest.hex(),
                got=", ".join((slot.hash or b"").hex() for slot in images.slots) or "no image",
            )
        return None

    # What is done to it.

    async def _write_what_is_missing(self, images: Images) -> tuple[int, Images]:
        """Return the bytes written, and what the board holds then."""
        written = 0
        one_by_one = False
        while True:
            self._done = 0
            for image in self._payload.images:
                if not self._holds(images, image):
                    written += await self._write(image, one_by_one=one_by_one)
                self._done += len(image.content)
            self._enter(Phase.VERIFY)
            images = await self._board.images(self._patience.command)
            if (error := self._missing(images)) is None:
                return written, images
            if one_by_one:
                raise error
            one_by_one = True  # should its buffers have run over, in a framing that has no CRC

    async def _write(self, image: Placed, *, one_by_one: bool) -> int:
        self._enter(Phase.ERASE)

        def progress(done: int) -> None:
            if self._stopwatch.phase is not Phase.WRITE:
                self._stopwatch.enter(Phase.WRITE)
            self._watch(Progress(Phase.WRITE, self._done + done, self._total))

        async def is_there() -> bool:
            try:
                return self._holds(await self._board.images(self._patience.first), image)
            except FlashError:
                return False

        upload = Upload(
            self._board.peer,
            image,
            limits=self._board.limits,
            patience=self._patience.upload,
            progress=progress,
            is_there=is_there,
            one_by_one=one_by_one,
        )
        await upload.run()
        return upload.written

    async def _mark(self, images: Images) -> Images:
        """Ask for a trial of each image that waits in a second slot; return what the board holds then."""
        if not images.has_application:
            return images
        for image in self._payload.images:
            digest = self._hashes[image.address]
            found = None if digest is None else images.find(image.address, digest)
            if found is None or found.hash is None or found.active or found.pending:
                continue
            try:
                await self._board.mark(found.hash, f"a trial of {image.name}")
            except Refusal as refusal:
                if not refusal.is_unknown_command:  # a loader, that says which image it will start
                    raise
        return await self._board.images(self._patience.command)

    async def _take_back(self, images: Images) -> Images:
        """Reset a board that is on trial with another image: it goes back to the one before."""
        tried = images.running()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._patience.boot
        await self._board.reset()
        while loop.time() < end:
            now = await self._board.images_after(self._patience.settle)
            if now is not None and now.running() != tried:
                return now
        raise FlashError("the board runs another image on trial and does not go back", code="flash.refused")

    async def _restart(self, marked: Images) -> Images:
        """Reset the board and wait until the payload runs."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._patience.boot
        told = self._waits(marked)
        loaders = stays = 0
        stays_until = loop.time() + self._patience.stay
        pause = self._patience.settle
        await self._board.reset()
        while loop.time() < end:
            images = await self._board.images_after(pause)
            pause = self._patience.settle
            if images is None:
                continue
            if not images.has_application:
                if (loaders := loaders + 1) > _TRIES_OF_LOADER:
                    raise FlashError(
                        "the board stays in its loader after a reset: it does not start this image",
                        code="flash.refused",
                        images=len(images.slots),
                    )
                await self._board.reset()
                pause = self._patience.settle * 4**loaders
            elif self._runs(images) is not False and not self._waits(images):
                return images
            elif told and not self._waits(images):
                raise self._went_back(images)
            elif loop.time() > stays_until:
                if not told and (stays := stays + 1) > 1:
                    raise self._went_back(images)
                await self._board.reset()  # the first request may be lost
                stays_until = loop.time() + self._patience.stay
        if self._board.loss is not None:
            raise self._board.loss
        raise FlashError(
            f"the board does not run the new firmware {self._patience.boot:g} s after its reset", code="flash.no_answer"
        )

    def _waits(self, images: Images) -> bool:
        """Whether an image of the payload waits for its trial."""
        return any(
            slot.pending and not slot.active and slot.hash == self._hashes.get(slot.image) for slot in images.slots
        )

    async def _confirm(self, images: Images, *, was_loader: bool) -> None:
        for image in self._payload.images:
            slot = images.running(image.address)
            if slot is None or slot.confirmed:
                continue
            try:
                await self._board.confirm(slot.hash)
            except Refusal as refusal:
                # What a loader wrote straight into the first slot stays, and such an application may lack the command.
                if not (was_loader and refusal.is_unknown_command):
                    raise
            except FlashError:
                now = await self._board.images_after(self._patience.settle)
                if now is not None and self._runs(now) is False:
                    raise self._went_back(now) from None
                raise

    def _went_back(self, images: Images) -> FlashError:
        runs = images.running()
        version = version_of(runs.version) if runs else None
        said = runs.version if runs else "nothing"
        if version is not None and self._version is not None and self._version < version:
            return FlashError(
                f"the board still runs {said}: it does not go back to {self._payload.version}", code="flash.downgrade"
            )
        return FlashError(
            f"the board runs {said} after its reset, and not {self._payload.version}: the new firmware failed, or the"
            " bootloader did not accept it",
            code="flash.reverted",
        )

    # What is told of it.

    def _enter(self, phase: Phase) -> None:
        self._stopwatch.enter(phase)
        self._watch(Progress(phase, self._done, self._total))

    def _report(self, before: Target, images: Images, written: int) -> FlashReport:
        runs = images.running()
        after = replace(
            before,
            running=runs.hash if runs else None,
            version=runs.version if runs else None,
            is_loader=not images.has_application,
        )
        return FlashReport(
            skipped=written == 0,
            before=before,
            after=after,
            written=written,
            verified="hash of the board" if self._runs(images) else "version of the board",
            seconds=self._stopwatch.stop(),
        )


class _Stopwatch:
    """Seconds of each phase."""

    def __init__(self) -> None:
        self.phase: Phase | None = None
        self._since = 0.0
        self._seconds: dict[Phase, float] = {}

    def enter(self, phase: Phase | None) -> None:
        now = time.monotonic()
        if self.phase is not None:
            self._seconds[self.phase] = self._seconds.get(self.phase, 0.0) + now - self._since
        self.phase, self._since = phase, now

    def stop(self) -> dict[Phase, float]:
        self.enter(None)
        return self._seconds


def _with_options(patience: Patience, payload: Payload) -> Patience:
    erase, boot = payload.options.get("erase_seconds"), payload.options.get("boot_seconds")
    for name, value in (("erase_seconds", erase), ("boot_seconds", boot)):
        if value is not None and (type(value) is not int or value < 1):
            raise FlashError(f"{name} is {value!r}: give whole seconds, 1 or more")
    return replace(
        patience,
        boot=patience.boot if boot is None else float(boot),
        upload=patience.upload if erase is None else replace(patience.upload, erase=float(erase)),
    )


def _check_bootloader(target: Target, payload: Payload) -> None:
    if payload.minimum_bootloader is None:
        return
    wanted = Version.parse(payload.minimum_bootloader)
    has = None if target.bootloader is None else version_of(target.bootloader)
    if has is None or has < wanted:
        raise FlashError(
            f"the board's bootloader {'does not tell its version' if has is None else f'is {has}'}; this firmware needs"
            f" {wanted} or newer",
            code="flash.bootloader_too_old",
            expected=wanted,
            got=has,
        )
