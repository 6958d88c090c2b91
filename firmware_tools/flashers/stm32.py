"""ST's chips, through stm32loader as a child process (it is under the GPL and never imported).

stm32loader holds BOOT0 by RTS and resets by DTR; a board whose lines are wired otherwise has options for it, and one
without lines has its boot pin strapped and is started with ``go``. Each run of the tool ends with a reset into the
flash.

The protocol has no hash, so comparing means reading all of it back, at the pace of writing. A board is therefore
looked at twice: if the first bytes of its first image differ it is written at once; only if they are the same is
everything read, and the board skipped if it holds all. Writing begins with an erase of the whole flash (stm32loader
0.7 counts pages from address 0, so that it can't erase a part) and ends with reading back.

With read-out protection a chip refuses to read, write and erase. It is seen and told, and never taken off here: that
would erase a chip that somebody closed.

The line is 8E1. pyserial can't set that twice on a pseudo-terminal, can't open URLs through the class that stm32loader
uses, and fails where there are no modem lines: ``stm32_site/sitecustomize.py`` mends that in the child.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from firmware_tools.bundles.manifest import LockStep
from firmware_tools.errors import FlashError
from firmware_tools.flashers import FlashReport, Payload, Phase, Placed, Target, Watch
from firmware_tools.flashers.child import PATIENCE, Ended, Tool, in_memory, memory_path, run_child
from firmware_tools.flashers.tool_run import Failures, Stopwatch, checked_options, failure_code, gone, port_is_gone

__all__ = ["FLASH_START", "OPTIONS", "Stm32Flasher"]

STM32LOADER: Final = Tool("stm32loader", "stm32loader", "stm32")

OPTIONS: Final[Mapping[str, type]] = {
    "go": bool,
    "swap_rts_dtr": bool,
    "reset_active_high": bool,
    "boot0_active_low": bool,
    "parity": str,
}
"""Of a payload; ``docs/firmware.md`` tells what they do."""

FLASH_START: Final = 0x0800_0000
_GLANCE: Final = 256
"""Bytes that are read to see whether a board may hold the image already: what one command can read."""

_SITE: Final = Path(__file__).with_name("stm32_site")

_FAILURES: Final[Failures] = (
    (r"Verification FAILED", "flash.verify"),
    (r"readout protection|NACK Command", "flash.refused"),
    (r"NACK 0x31", "flash.too_large"),
    (r"Can't init into|Can't read port|could not open|Could not open|No such file|SerialException", "flash.no_answer"),
    (r"IndexError|Unknown response|Input/output error|Errno 5|Bad reply", "flash.no_answer"),
)
"""What stm32loader says, and what it means; the first that fits."""

_WORKS: Final = re.compile(
    r"^(Activating|Open port|Bootloader version|Chip id|Device UID|\*\*\*|\s+(Read|Write) \d+ bytes|Verif)"
)
_CHUNK: Final = re.compile(r"^\s*(Read|Write) (\d+) bytes at 0x([0-9A-Fa-f]+)")


class Stm32Flasher:
    """One board with one of ST's chips; see ``flashers.Flasher`` for ``look`` and ``flash``."""

    def __init__(  # noqa: PLR0913 - each may differ between fixtures
        self,
        port: str,
        *,
        baud: int = 115_200,
        family: str = "",
        options: Mapping[str, str | int | bool] | None = None,
        patience: float = PATIENCE,
        command: Sequence[str] | None = None,
    ) -> None:
        """Name the port; nothing is opened yet.

        Args:
            port: a path, or a URL as pyserial knows it (``rfc2217://...``).
            baud: the chip measures it; up to 115200 for most.
            family: as stm32loader names them (``F4``), for ``look`` to tell size and unique id.
            options: how the lines are wired, for ``look`` and ``lock``; those of a payload come on top.
            patience: seconds that stm32loader may take without a sign of work.
            command: what is run instead of the installed stm32loader.
        """
        self._port = port
        self._baud = baud
        self._family = family
        self._options = dict(options or {})
        self._patience = patience
        self._command = command

    async def look(self) -> Target:
        """Ask the loader; the board restarts into its flash.

        Raises:
            FlashError: see ``flashers.Flasher``.
        """
        return (await self._look(self._head(self._family, self._options), FLASH_START, 4)).target

    async def flash(self, payload: Payload, watch: Watch) -> FlashReport:
        """See ``flashers.Flasher``."""
        options = {**self._options, **checked_options(payload, OPTIONS)}
        head = self._head(payload.chip, options)
        images = sorted(payload.images, key=lambda image: image.address)
        clock = Stopwatch(watch, sum(len(image.content) for image in images))
        first = images[0]
        with clock.phase(Phase.CONNECT):
            seen = await self._look(head, first.address, min(_GLANCE, len(first.content)))
        _check(seen, payload.chip, images)
        if first.content.startswith(seen.glance):
            with clock.phase(Phase.VERIFY):
                if await self._holds(head, images, clock):
                    return FlashReport(True, seen.target, seen.target, 0, "read back", clock.seconds)
        ended = None
        with clock.phase(Phase.ERASE):
            for image in images:
                work = ["-w", "-v"] if image is not first else ["-e", "-w", "-v"]
                if image is images[-1] and options.get("go"):
                    work += ["-g", hex(first.address)]
                ended = await self._image([*head, *work], image, images, clock)
                if ended.status:
                    raise self._failure(ended)
        assert ended is not None  # noqa: S101 - for the type checker: a payload has images
        after = _target(ended, protected=False)  # it was read back a moment ago
        if after.hardware != seen.target.hardware:
            raise FlashError(
                f"the board was changed while it was flashed: unique id {seen.target.hardware or 'none'}, then "
                f"{after.hardware or 'none'}",
                code="flash.verify",
            )
        written = sum(len(image.content) for image in images)
        return FlashReport(False, seen.target, after, written, "read back", clock.seconds)

    async def read_fuses(self) -> Mapping[str, str]:
        """Return the state of the read-out protection, ``{"RDP": "on"}`` or ``"off"``.

        Raises:
            FlashError: see ``flashers.Flasher``.
        """
        return (await self.look()).fuses

    async def lock(self, step: LockStep) -> Mapping[str, str]:
        """Protect the flash against reading out (``step.arguments`` is ``("readout",)``), and return what is seen then.

        Raises:
            FlashError: see ``flashers.Flasher``.
        """
        if step.arguments != ("readout",):
            named = " ".join(step.arguments)
            raise FlashError(f"step {step.name}: stm32 knows the argument readout, not {named!r}", code="flash.refused")
        fuses = await self.read_fuses()
        if fuses.get("RDP") != "on":
            ended = await self._run([*self._head(self._family, self._options), "-x"], _is_work)
            if ended.status:
                raise self._failure(ended)
            fuses = await self.read_fuses()
        return fuses

    async def _look(self, head: Sequence[str], address: int, count: int) -> "_Seen":
        fd = os.memfd_create("glance", os.MFD_CLOEXEC)
        try:
            work = ["-r", "-a", hex(address), "-l", str(count), memory_path(fd)]
            ended = await self._run([*head, *work], _is_work, [fd])
            glance = os.pread(fd, count, 0)
        finally:
            os.close(fd)
        protected = bool(ended.status) and ended.find(r"(CommandError: NACK Command)$") is not None
        if ended.status and not protected:
            raise self._failure(ended)
        if ended.find(r"^Chip id: (.+)$") is None or (not protected and len(glance) != count):
            raise FlashError(
                f"stm32loader names no chip, or read nothing of it: {ended.last}", code="flash.tool_failed"
            )
        size = ended.find(r"^Flash size: (\d+) KiB")
        return _Seen(_target(ended, protected=protected), glance, None if size is None else int(size) << 10)

    async def _holds(self, head: Sequence[str], images: Sequence[Placed], clock: Stopwatch) -> bool:
        for image in images:
            ended = await self._image([*head, "-v"], image, images, clock)
            if ended.status:
                failure = self._failure(ended)
                if failure.code == "flash.verify":
                    return False
                raise failure
        return True

    async def _image(self, work: Sequence[str], image: Placed, images: Sequence[Placed], clock: Stopwatch) -> Ended:
        before = sum(len(other.content) for other in images[: images.index(image)])

        def on_line(line: str) -> bool:
            if match := _CHUNK.match(line):
                phase = Phase.WRITE if match[1] == "Write" else Phase.VERIFY
                place = int(match[3], 16) + int(match[2]) - image.address
                if 0 <= place <= len(image.content):  # size and unique id are read elsewhere
                    clock.tell(phase, before + place)
            return _is_work(line)

        with in_memory([image.content]) as fds:
            arguments = [*work, "-a", hex(image.address), memory_path(fds[0])]
            ended = await self._run(arguments, on_line, fds)
        if not ended.status and not any(line.startswith("Verification OK") for line in ended.lines):
            raise FlashError(f"stm32loader verified nothing of {image.name}: {ended.last}", code="flash.verify")
        return ended

    def _head(self, family: str, options: Mapping[str, str | int | bool]) -> list[str]:
        head = ["-p", self._port, "-b", str(self._baud), "-P", str(options.get("parity", "even")), "-V"]
        head += ["-f", family] if family else []
        return head + [option for name, option in _WIRING.items() if options.get(name)]

    async def _run(self, arguments: Sequence[str], on_line: Callable[[str], bool], fds: Sequence[int] = ()) -> Ended:
        command = [*(self._command or STM32LOADER.command()), *arguments]
        path = os.pathsep.join([str(_SITE), *filter(None, [os.environ.get("PYTHONPATH")])])
        try:
            return await run_child(
                "stm32loader", command, on_line, patience=self._patience, fds=fds, environment={"PYTHONPATH": path}
            )
        except FlashError as error:
            if error.code == "flash.tool_hangs" and port_is_gone(self._port):
                raise gone(self._port) from error
            raise

    def _failure(self, ended: Ended) -> FlashError:
        if port_is_gone(self._port):
            return gone(self._port)
        code = failure_code(ended, _FAILURES)
        last = ended.find(r"^(Verification FAILED.*|Erase failed.*|Can't init.*|\S*Error: .*)") or ended.last
        return FlashError(f"stm32loader: {last}", code=code, status=ended.status, port=self._port)


_WIRING: Final = {"swap_rts_dtr": "-s", "reset_active_high": "-R", "boot0_active_low": "-B"}


class _Seen:
    """What a first look at a board gave."""

    def __init__(self, target: Target, glance: bytes, size: int | None) -> None:
        self.target: Final = target
        self.glance: Final = glance
        """The first bytes where the first image goes; empty where they can't be read."""
        self.size: Final = size
        """Of the flash, in bytes, where the chip tells it."""


def _check(seen: _Seen, family: str, images: Sequence[Placed]) -> None:
    if family and not _is_of(family, seen.target.chip):
        raise FlashError(
            f"the chip is {seen.target.chip}, the firmware is for the family {family}",
            code="flash.wrong_chip",
            expected=family,
            got=seen.target.chip,
        )
    if seen.target.fuses["RDP"] == "on":
        raise FlashError("the chip is protected against reading out, and refuses to be written", code="flash.refused")
    for image in images:
        end = image.address + len(image.content) - FLASH_START
        if image.address < FLASH_START or (seen.size is not None and end > seen.size):
            room = "flash" if seen.size is None else f"{seen.size} bytes of flash"
            what = f"{image.name} ({len(image.content)} bytes at {image.address:#010x})"
            raise FlashError(f"{what} does not fit into the chip's {room}", code="flash.too_large")


def _is_of(family: str, chip: str) -> bool:
    """Whether a chip may be of a family; chips that stm32loader does not know by name may be anything."""
    name = chip.partition("(")[2].rstrip(")")
    if name.startswith("STM3210"):
        return family == "F1"
    if name.startswith("STM32"):
        return name.removeprefix("STM32").startswith(family)
    return True if name == "Unknown" else (family == "NRG") == name.startswith("BlueNRG")


def _target(ended: Ended, *, protected: bool) -> Target:
    return Target(
        chip=ended.find(r"^Chip id: (.*)$") or "",
        is_loader=True,
        bootloader=ended.find(r"^Bootloader version: 0x(\S+)"),
        hardware=ended.find(r"^Device UID: (\S+)$") or "",
        fuses={"RDP": "on" if protected else "off"},
    )


def _is_work(line: str) -> bool:
    return _WORKS.search(line) is not None
