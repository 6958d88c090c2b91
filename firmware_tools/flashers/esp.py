"""Espressif's chips, through esptool and espefuse as child processes (they are under the GPL and never imported).

A run is three children: one asks the loader in ROM what chip this is and how its security stands, one writes, one asks
again and restarts the board into its firmware. In between nothing of ours holds the port, so the caller has it closed.

Writing is one ``esptool write-flash --skip-flashed``: for each image esptool compares the MD5 that the chip has of that
region, skips what is there already, sends the rest compressed, and compares the MD5 again. A chip whose flash is
encrypted shows only ciphertext, so with ``encrypt`` nothing is skipped and nothing can be verified: the report says so.

What is known of fuses comes from ``get-security-info``, which the loader in ROM answers since the ESP32-S2; of the
ESP32 all are read with espefuse. Espressif's boards go into the loader through DTR and RTS; others with
``esptool.cfg`` (``ESPTOOL_CFGFILE``), which esptool reads itself.

What counts is what esptool says of each image (skipped, or its hash verified), not how it exits; and all three children
have to have met the same chip, with the same MAC.

A board that is cut off in the middle is in its loader again after the next reset: the loader can't be overwritten.
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from firmware_tools.bundles.manifest import LockStep
from firmware_tools.errors import FlashError
from firmware_tools.flashers import FlashReport, Payload, Phase, Placed, Target, Watch
from firmware_tools.flashers.child import PATIENCE, Ended, Tool, in_memory, memory_path, run_child
from firmware_tools.flashers.tool_run import Failures, Stopwatch, checked_options, failure_code, gone, port_is_gone

__all__ = ["OPTIONS", "EspFlasher"]

ESPTOOL: Final = Tool("esptool", "esptool", "esp")
ESPEFUSE: Final = Tool("espefuse", "espefuse", "esp")

OPTIONS: Final[Mapping[str, type]] = {"encrypt": bool, "compress": bool, "erase_all": bool, "stub": bool}
"""Of a payload; ``docs/firmware.md`` tells what they do."""

_FLAGS: Final = (
    "SECURE_BOOT_EN",
    "SECURE_BOOT_AGGRESSIVE_REVOKE",
    "SECURE_DOWNLOAD_ENABLE",
    "SECURE_BOOT_KEY_REVOKE0",
    "SECURE_BOOT_KEY_REVOKE1",
    "SECURE_BOOT_KEY_REVOKE2",
    "SOFT_DIS_JTAG",
    "HARD_DIS_JTAG",
    "DIS_USB",
    "DIS_DOWNLOAD_DCACHE",
    "DIS_DOWNLOAD_ICACHE",
)
"""Bits of the flags in ``GET_SECURITY_INFO``, from the lowest (esptool documentation, *Serial Protocol*)."""

_FAILURES: Final[Failures] = (
    (r"This chip is .* not |is not an? ESP\S* image|requires chip revision|not contain an", "flash.wrong_chip"),
    (r"will not fit in|larger than detected flash size|larger than 16MB", "flash.too_large"),
    (r"MD5 of file does not match|written flash region is empty|Verification failed", "flash.verify"),
    (
        r"brick your device|Can't perform encrypted|Secure Download Mode|encrypt functionality|disabled to pro",
        "flash.refused",
    ),
    (
        r"Failed to connect|Could not open|No serial data|No more data|serial exception|(stream|transfer) stopped",
        "flash.no_answer",
    ),
    (r"Invalid head of packet|Timed out|stopped responding|Response doesn't match", "flash.no_answer"),
)
"""What esptool says, and what it means; the first that fits."""

_WORKS: Final = re.compile(
    r"Connect|Detecting|Uploading|stub|Chang|Configuring|erase|Compress|Writing at|Wrote|Verif|Hash|already"
)
_FUSE_ROW: Final = re.compile(r"^([A-Z][A-Z0-9_]*) \(BLOCK\d+\).* = (.*?) [R-]/[W-]( |$)")
_SWITCH: Final = {"True": "1", "False": "0"}
_OnLine: TypeAlias = Callable[[str], bool]
_FUSE: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_FUSE_VALUE: Final = re.compile(r"[0-9A-Za-z]+")
_SUMMARY: Final = 1 << 20
"""Bytes of espefuse's summary that are read; it has about 60 KiB."""
_WRITING: Final = re.compile(r"^Writing at 0x([0-9a-f]+) .*%")


class EspFlasher:
    """One board with one of Espressif's chips; see ``flashers.Flasher`` for ``look`` and ``flash``."""

    def __init__(
        self,
        port: str,
        *,
        baud: int = 460_800,
        patience: float = PATIENCE,
        command: Sequence[str] | None = None,
    ) -> None:
        """Name the port; nothing is opened yet.

        Args:
            port: a path, or a URL as pyserial knows it (``rfc2217://...``).
            baud: from the moment on at which the stub runs; the ROM is asked at 115200.
            patience: seconds that esptool may take without a sign of work.
            command: what is run instead of the installed esptool.
        """
        self._port = port
        self._baud = baud
        self._patience = patience
        self._command = command

    async def look(self) -> Target:
        """Ask the loader in ROM; the board restarts into its firmware.

        Raises:
            FlashError: see ``flashers.Flasher``.
        """
        return await self._look("hard-reset")

    async def flash(self, payload: Payload, watch: Watch) -> FlashReport:
        """See ``flashers.Flasher``."""
        options = checked_options(payload, OPTIONS)
        images = sorted(payload.images, key=lambda image: image.address)
        for image in images:
            if image.content[:1] == b":":  # esptool would take it for Intel HEX, and write it to a file on the way
                raise FlashError(
                    f"{image.name} begins with ':', which esptool takes for Intel HEX", code="flash.refused"
                )
        total = sum(len(image.content) for image in images)
        clock = Stopwatch(watch, total)
        with clock.phase(Phase.CONNECT):
            before = await self._look("no-reset")
        if payload.chip and _plain(before.chip) != _plain(payload.chip):
            raise FlashError(
                f"the chip is {before.chip}, the firmware is for {payload.chip}",
                code="flash.wrong_chip",
                expected=payload.chip,
                got=before.chip,
            )
        with clock.phase(Phase.WRITE):
            writing = await self._write(images, _plain(payload.chip or before.chip), options, clock)
        with clock.phase(Phase.RESTART):
            after = await self._look("hard-reset")
        if not before.hardware == writing.hardware == after.hardware:
            met = ", then ".join((before.hardware, writing.hardware or "none", after.hardware or "none"))
            raise FlashError(f"the board was changed while it was flashed: MAC {met}", code="flash.verify")
        return FlashReport(
            skipped=writing.skipped == len(images),
            before=before,
            after=after,
            written=writing.written,
            verified="nothing: the chip hides its flash" if writing.unverified else "md5 of the loader",
            seconds=clock.seconds,
        )

    async def read_fuses(self) -> Mapping[str, str]:
        """Read all eFuses but whole blocks, by Espressif's names; the board restarts into its firmware.

        Raises:
            FlashError: see ``flashers.Flasher``.
        """
        fd = os.memfd_create("summary", os.MFD_CLOEXEC)
        try:
            await self._efuse(["summary", "--format", "json", "--file", memory_path(fd)], [fd])
            text = os.pread(fd, _SUMMARY, 0)
        finally:
            os.close(fd)
        try:
            return {
                name: _shown(fuse["value"]) for name, fuse in json.loads(text).items() if not name.startswith("BLOCK")
            }
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            raise FlashError(f"espefuse has no summary: {error}", code="flash.tool_failed", tool="espefuse") from error

    async def lock(self, step: LockStep) -> Mapping[str, str]:
        """Burn the fuses of ``step.arguments`` (name, value, name, value ...) for good, and return all as read after.

        They are read in the same run: a chip whose download mode was just closed never answers again after a reset.
        (In a chain of commands espefuse 5 takes no options, so here it is its table that is read.)

        Raises:
            FlashError: see ``flashers.Flasher``.
        """
        if (fault := burning_fault(step.arguments)) is not None:
            raise FlashError(f"step {step.name}: {fault}", code="flash.refused")
        ended = await self._efuse(["--do-not-confirm", "burn-efuse", *step.arguments, "summary"])
        rows = [match for line in ended.lines if (match := _FUSE_ROW.match(line))]
        return {row[1]: _SWITCH.get(row[2], row[2]) for row in rows if not row[1].startswith("BLOCK")}

    async def _efuse(self, arguments: Sequence[str], fds: Sequence[int] = ()) -> Ended:
        ended = await self._run(ESPEFUSE, arguments, _is_work, fds)
        if ended.status:
            raise self._failure("espefuse", ended)
        return ended

    async def _look(self, afterwards: str) -> Target:
        ended = await self._run(ESPTOOL, ["--no-stub", "--after", afterwards, "get-security-info"], _is_work)
        fuses: Mapping[str, str]
        if not ended.status:
            fuses = _security(ended)
        elif ended.find(r"(Failed to get security info|is not supported|not implemented in ROM)"):  # ESP32, ESP8266
            fuses = {} if _chip(ended) == "ESP8266" else await self.read_fuses()
        else:
            raise self._failure("esptool", ended)
        if not _chip(ended):
            raise FlashError(f"esptool names no chip: {ended.last}", code="flash.tool_failed", tool="esptool")
        return Target(chip=_chip(ended), is_loader=True, hardware=_mac(ended), fuses=fuses)

    async def _write(
        self, images: Sequence[Placed], chip: str, options: Mapping[str, object], clock: Stopwatch
    ) -> "_Writing":
        writing = _Writing(images, clock)
        more = ["--encrypt"] if options.get("encrypt") else []
        if options.get("erase_all"):
            more.append("--erase-all")
        elif not more:
            more.append("--skip-flashed")
        more.append("--compress" if options.get("compress", True) else "--no-compress")
        head = ["--chip", chip, "--baud", str(self._baud), "--after", "no-reset"]
        if not options.get("stub", True):
            head.append("--no-stub")
        with in_memory([image.content for image in images]) as fds:
            places = [
                part for image, fd in zip(images, fds, strict=True) for part in (hex(image.address), memory_path(fd))
            ]
            ended = await self._run(ESPTOOL, [*head, "write-flash", *more, *places], writing.line, fds)
        if ended.status:
            raise self._failure("esptool", ended)
        if writing.skipped + writing.verified != len(images) and not writing.unverified:
            raise FlashError(
                f"esptool verified {writing.verified} and skipped {writing.skipped} of {len(images)} images: "
                f"{ended.last}",
                code="flash.verify",
            )
        writing.hardware = _mac(ended)
        return writing

    async def _run(self, tool: Tool, arguments: Sequence[str], on_line: _OnLine, fds: Sequence[int] = ()) -> Ended:
        command = [*(self._command or tool.command()), "--port", self._port, *arguments]

        def watched(line: str) -> bool:
            if "Lost connection" in line and port_is_gone(self._port):  # esptool would look for it for seconds
                raise gone(self._port)
            return on_line(line)

        try:
            return await run_child(tool.name, command, watched, patience=self._patience, fds=fds)
        except FlashError as error:
            if error.code == "flash.tool_hangs" and port_is_gone(self._port):
                raise gone(self._port) from error
            raise

    def _failure(self, tool: str, ended: Ended) -> FlashError:
        if port_is_gone(self._port):
            return gone(self._port)
        code = failure_code(ended, _FAILURES)
        error = ended.find(r"(?:fatal error occurred|exception error occurred|Error|ERROR): (.*)")
        return FlashError(f"{tool}: {error or ended.last}", code=code, tool=tool, status=ended.status, port=self._port)


class _Writing:
    """What esptool says while it writes."""

    def __init__(self, images: Sequence[Placed], clock: Stopwatch) -> None:
        self._images = images
        self._clock = clock
        self.skipped = 0
        self.written = 0
        self.verified = 0
        self.hardware = ""
        """MAC of the chip that it met."""
        self.unverified = False
        """Encrypted, or in secure download mode, a chip tells nothing of its flash."""

    def line(self, line: str) -> bool:
        """Take a line; see ``run_child``."""
        if match := _WRITING.match(line):
            self._clock.tell(Phase.WRITE, self._place(int(match[1], 16)))
        elif "already in flash, skipping" in line:
            self.skipped += 1
        elif line.startswith("Hash of data verified"):
            self.verified += 1
        elif line.startswith("Cannot verify written data"):
            self.unverified = True
        elif match := re.match(r"Wrote (\d+) bytes", line):
            self.written += int(match[1])
        elif line.startswith("Verifying written data"):
            self._clock.tell(Phase.VERIFY, None)
        elif line.startswith("Erasing flash"):
            self._clock.tell(Phase.ERASE, None)
        return _is_work(line)

    def _place(self, address: int) -> int:
        done = 0
        for image in self._images:
            if image.address < address:
                done += min(len(image.content), address - image.address)
        return done


def _is_work(line: str) -> bool:
    return _WORKS.search(line) is not None


def _plain(chip: str) -> str:
    return chip.lower().replace("-", "")


def _chip(ended: Ended) -> str:
    return ended.find(r"^Connected to (\S+) on ") or ""


def _mac(ended: Ended) -> str:
    return ended.find(r"^BASE MAC:\s+([0-9a-f:]{17})$") or ended.find(r"^MAC:\s+([0-9a-f:]{17})$") or ""


def burning_fault(arguments: Sequence[str]) -> str | None:
    """Return what is wrong with the arguments of a step that burns fuses; None if nothing is.

    espefuse takes several commands in a row, so a word that is none of a fuse could make it do anything.
    """
    if not arguments or len(arguments) % 2:
        return "esp takes names of eFuses and values by turns"
    for name, value in zip(arguments[::2], arguments[1::2], strict=True):
        if not _FUSE.fullmatch(name) or not _FUSE_VALUE.fullmatch(value):
            return f"{name!r}, {value!r} are not the name of an eFuse and its value, like 'DIS_PAD_JTAG', '1'"
    return None


def _security(ended: Ended) -> dict[str, str]:
    flags = int(ended.find(r"^Flags: 0x([0-9a-f]+)") or "0", 16)
    fuses = {name: str(flags >> bit & 1) for bit, name in enumerate(_FLAGS)}
    fuses["SPI_BOOT_CRYPT_CNT"] = ended.find(r"Crypt Count.*: (0x[0-9a-f]+)") or ""
    for number in range(6):
        if (purpose := ended.find(rf"BLOCK_KEY{number} - (.*)$")) is not None:
            fuses[f"KEY_PURPOSE_{number}"] = purpose.strip()
    return fuses


def _shown(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
