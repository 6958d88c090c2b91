"""The flash step: from whatever runs on a board, or nothing, to the firmware that the order wants.

::

    look ─ an application answers ─ the unit passed before ──────────────────────────► left as it is
      │        │                  └ it may be locked by us, and says that it runs the image ─► nothing is written
      └────────┴─► flash: the loader looks again, writes what differs, verifies, restarts ─► identify ─ the same image?

The board is asked first and its loader only then: a loader in ROM costs seconds and a reset, and one that was locked on
another day answers nobody. Whatever was written or skipped, the board has to report the bundle's image afterwards
(``policy.check_flashed``). That tells which firmware an honest board runs. A loader in ROM, asked for what the flash
holds, is evidence against a dishonest one too; an SMP server is part of the firmware that it speaks for.

It may be cut off at any moment. Nothing of it stands in here: at the next visit the board is looked at anew.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Final

from firmware_tools.errors import FirmwareToolsError
from firmware_tools.flashers import FlasherKind, FlashReport, Payload, Phase, Progress, Target
from station.devices import Identity
from station.errors import DeviceError, StationError, Unplugged
from station.line import policy
from station.line.seat import Seat
from station.manifest import UnitRecord
from station.product_firmware import ProductFirmware

TELL_EVERY: Final = 0.2
"""Seconds between two words about progress."""

_WHOLE: Final = 100

_WAITS: Final = ("erase_seconds", "boot_seconds")
"""Options of a bundle that are seconds."""


class Flashing:
    """Brings one board to run the firmware of a product."""

    def __init__(self, firmware: ProductFirmware, seat: Seat, watch: Callable[[int], None]) -> None:
        """Prepare.

        Args:
            firmware: what the board is to run.
            seat: the board.
            watch: told of progress, in whole percent of all that is written and verified.
        """
        self.payload: Payload = firmware.bundle.payload
        self.seat = seat
        self._firmware = firmware
        self._watch = watch
        self._told = (-1, 0.0)
        step = policy.flash_step(sum(len(image.content) for image in self.payload.images), seat.link.baud)
        # What the bundle says that its boards take longer, the step takes longer: or it would cut off what is well.
        waits = (self.payload.options.get(name, 0) for name in _WAITS)
        self.step = replace(step, deadline=step.deadline + sum(wait for wait in waits if isinstance(wait, int)))

    async def look(self) -> Identity | None:
        """Ask the board who it is; None where no application answers that knows.

        Raises:
            Unplugged: the port is gone.
        """
        try:
            async with asyncio.timeout(policy.FIRST_WORD):
                return await self.seat.driver.identify()
        except Unplugged:
            raise
        except (StationError, TimeoutError):  # silence, a loader, other firmware: all of them get flashed
            return None

    def is_right(self, identity: Identity, known: UnitRecord | None) -> bool:
        """Whether what runs is what the bundle has, as the board says, where its loader may not answer any more.

        Args:
            identity: what the board said.
            known: what is on record of it.
        """
        if self.payload.kind is FlasherKind.SMP:
            return False  # its loader is asked over the same wire, in a few milliseconds, and knows more
        if not self._firmware.plan.chip or known is None or known.issuance is None:
            return False  # we did not lock it: its loader answers, and is the better witness
        return policy.is_flashed(identity, self.payload)

    async def flash(self) -> FlashReport:
        """Let the board's loader bring it to the bundle's firmware.

        Raises:
            DeviceError: with the codes of ``Flasher.flash``.
            LinkError: the wire.
        """
        self._told = (-1, 0.0)
        try:
            async with self.seat.flasher(self.payload) as flasher:
                return await flasher.flash(self.payload, self._progress)
        except FirmwareToolsError as error:
            raise DeviceError.of(error) from error
        finally:
            self.seat.on_upload(False)

    def _progress(self, progress: Progress) -> None:
        """Pass progress on, not more often than anybody can read it."""
        self.seat.on_upload(progress.phase is Phase.WRITE)
        if progress.phase not in {Phase.WRITE, Phase.VERIFY} or not progress.total:
            return
        # Verifying is the smaller part; a bar that ran twice from one end to the other would tell less.
        half = progress.done * _WHOLE // progress.total
        percent = min(half * 9 // 10 if progress.phase is Phase.WRITE else 90 + half // 10, _WHOLE)
        last, at = self._told
        now = monotonic()
        if percent > last and (now - at >= TELL_EVERY or percent == _WHOLE):
            self._told = (percent, now)
            self._watch(percent)

    def facts(self, report: FlashReport | None, identity: Identity | None = None) -> dict[str, object]:
        """Return what goes on record of a board that was flashed, or left as it was.

        Args:
            report: of the flasher; None where the board's word was enough.
            identity: what the board said before, if it said anything.
        """
        bundle = self._firmware.bundle
        facts: dict[str, object] = {"bundle": bundle.digest, "version": bundle.version}
        if identity is not None:
            facts |= {"ran": identity.firmware_version, "ran_sha256": identity.firmware_sha256}
            facts["hardware_id_before"] = identity.hardware_id
        if report is None:
            return facts | {"skipped": True, "verified": "the board's word"}
        seconds = {phase.value: round(took, 3) for phase, took in report.seconds.items()}
        return (
            facts
            | {"skipped": report.skipped, "written": report.written, "verified": report.verified}
            | _of("before", report.before)
            | _of("after", report.after)
            | {f"seconds_{phase}": took for phase, took in seconds.items()}
        )


def _of(when: str, target: Target) -> dict[str, object]:
    """Return what a loader said of the board, as facts."""
    said = {
        "chip": target.chip,
        "version": target.version,
        "image": target.running,
        "bootloader": target.bootloader,
        "hardware": target.hardware,
        "fuses": ", ".join(f"{name}={value}" for name, value in sorted(target.fuses.items())),
    }
    facts: dict[str, object] = {f"{name}_{when}": value for name, value in said.items() if value}
    if target.is_loader:
        facts[f"loader_{when}"] = True
    return facts
