"""Chips with SWD or JTAG, through pyOCD and a debug probe that is named by its serial number.

pyOCD could be imported (Apache-2.0); it is run as a child process all the same, because USB can hang, and only a
process can be killed. Per board these run: ``pyocd json --probes`` (is the probe there), ``pyocd commander`` with one
``compare`` an image (does the chip hold it already), ``pyocd load`` (sectors that differ are erased and written), and
``compare`` again, with a reset at the end.

``pyocd load`` looks for the real name of its files, and what is only in memory has none; so for that one run the images
stand in a folder on a tmpfs (``/dev/shm``), which is memory too, and no disk.

A chip whose debug port is closed is refused. pyOCD would erase it to open it; here it only does with ``unlock``.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from firmware_tools.bundles.manifest import LockStep
from firmware_tools.errors import FlashError
from firmware_tools.flashers import FlashReport, Payload, Phase, Placed, Target, Watch
from firmware_tools.flashers.child import BAR_ENDS, PATIENCE, Ended, Tool, in_memory, memory_path, run_child
from firmware_tools.flashers.tool_run import Failures, Stopwatch, checked_options, failure_code

__all__ = ["OPTIONS", "ProbeFlasher"]

PYOCD: Final = Tool("pyocd", "pyocd", "probe")

OPTIONS: Final[Mapping[str, type]] = {"frequency": int, "connect": str, "chip_erase": bool, "unlock": bool}
"""Of a payload; ``docs/firmware.md`` tells what they do."""

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - on purpose: a tmpfs, and a private folder in it
_PREFIX: Final = "station-flash-"
"""Of the folder's name; the process behind it."""
_BAR: Final = 40
"""Signs in pyOCD's progress bar where its output is no terminal."""

_FAILURES: Final[Failures] = (
    (r"[Tt]arget type \S+ not recognized|Unknown target|unknown target", "flash.wrong_chip"),
    (r"No connected debug probe|No available debug probe|No target device available|not found", "flash.no_answer"),
    (r"locked|APPROTECT|access is disabled|protected", "flash.refused"),
    (r"no (flash )?memory (region|map)|outside|does not (fit|contain)|No flash memory", "flash.too_large"),
    (r"No ACK|No cores|transfer|timed? ?out|Memory transfer fault|USB|Unexpected ACK", "flash.no_answer"),
)
"""What pyOCD says, and what it means; the first that fits."""

_WORKS: Final = re.compile(r"Comparing|match|Mismatch|Load|Eras|Program|Reset|\"")


class ProbeFlasher:
    """One board at one probe; see ``flashers.Flasher`` for ``look`` and ``flash``."""

    def __init__(self, probe: str, *, patience: float = PATIENCE, command: Sequence[str] | None = None) -> None:
        """Name the probe; nothing is opened yet.

        Args:
            probe: its serial number, whole or as far as it is unique.
            patience: seconds that pyOCD may take without a sign of work.
            command: what is run instead of the installed pyocd.
        """
        self._probe = probe
        self._patience = patience
        self._command = command

    async def look(self) -> Target:
        """Ask whether the probe is there; the chip is not touched.

        Raises:
            FlashError: see ``flashers.Flasher``.
        """
        ended = await self._run(["json", "--probes"], _is_work)
        if ended.status:
            raise self._failure(ended)
        text = "\n".join(ended.lines)
        try:
            listed = json.loads(text[text.index("{") :])["boards"]
            boards = {str(board["unique_id"]): str(board.get("target", "")) for board in listed}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FlashError(f"pyocd lists no probes: {ended.last}", code="flash.tool_failed", tool="pyocd") from error
        found = [probe for probe in boards if self._probe in probe]
        if len(found) != 1:
            there = ", ".join(boards) or "none"
            count = "no" if not found else "more than one"
            raise FlashError(
                f"{count} debug probe is {self._probe}; connected: {there}", code="flash.no_answer", probe=self._probe
            )
        return Target(chip=boards[found[0]], is_loader=True, hardware=found[0])

    async def flash(self, payload: Payload, watch: Watch) -> FlashReport:
        """See ``flashers.Flasher``."""
        options = checked_options(payload, OPTIONS)
        head = [
            "-W",
            "-u",
            self._probe,
            "-t",
            payload.chip,
            "-O",
            f"auto_unlock={str(bool(options.get('unlock'))).lower()}",
        ]
        head += ["-f", str(options["frequency"])] if "frequency" in options else []
        head += ["-M", str(options["connect"])] if "connect" in options else []
        total = sum(len(image.content) for image in payload.images)
        clock = Stopwatch(watch, total)
        with clock.phase(Phase.CONNECT):
            before = await self.look()
            holds = await self._compare(head, payload.images, [])
        if holds:
            return FlashReport(True, before, before, 0, "read back", clock.seconds)
        with clock.phase(Phase.WRITE):
            await self._load(head, payload.images, clock, chip_erase=bool(options.get("chip_erase")))
        with clock.phase(Phase.VERIFY):
            if not await self._compare(head, payload.images, ["-c", "reset"]):
                raise FlashError("the chip does not hold what was written", code="flash.verify", probe=self._probe)
        return FlashReport(False, before, before, total, "read back", clock.seconds)

    async def lock(self, step: LockStep) -> Mapping[str, str]:
        """Refuse: how a debug port is closed differs from chip to chip, and pyOCD has no command for it.

        Raises:
            FlashError: ``flash.refused``, always.
        """
        raise FlashError(f"step {step.name}: a probe can't lock a chip; let the firmware do it", code="flash.refused")

    async def _compare(self, head: Sequence[str], images: Sequence[Placed], more: Sequence[str]) -> bool:
        with in_memory([image.content for image in images]) as fds:
            commands = [
                part
                for image, fd in zip(images, fds, strict=True)
                for part in ("-c", f"compare {image.address:#x} {memory_path(fd)}")
            ]
            ended = await self._run(["commander", *head, *commands, *more], _is_work, fds=fds)
        if ended.status:
            raise self._failure(ended)
        same = [line for line in ended.lines if re.search(r"All \d+ bytes match", line)]
        if len(same) < len(images) and not any("Mismatched byte" in line for line in ended.lines):
            raise self._failure(ended)  # it did not compare at all
        return len(same) == len(images)

    async def _load(self, head: Sequence[str], images: Sequence[Placed], clock: Stopwatch, *, chip_erase: bool) -> None:
        signs = 0

        def on_line(line: str) -> bool:
            nonlocal signs
            if line.startswith("[-"):
                signs = 0
            is_sign = line in ("", "[") and signs < _BAR
            signs += is_sign
            clock.tell(Phase.WRITE, clock.total * signs // _BAR)
            return is_sign or _is_work(line)

        with _in_tmpfs(images) as paths:
            places = [f"{path}@{image.address:#x}" for path, image in zip(paths, images, strict=True)]
            erase = ["-e", "chip" if chip_erase else "sector"]
            ended = await self._run(
                ["load", *head, *erase, "--format", "bin", "--no-reset", *places], on_line, BAR_ENDS
            )
        if ended.status:
            raise self._failure(ended)

    async def _run(
        self,
        arguments: Sequence[str],
        on_line: Callable[[str], bool],
        ends: re.Pattern[bytes] | None = None,
        fds: Sequence[int] = (),
    ) -> Ended:
        command = [*(self._command or PYOCD.command()), *arguments]
        return await run_child("pyocd", command, on_line, patience=self._patience, fds=fds, ends=ends)

    def _failure(self, ended: Ended) -> FlashError:
        code = failure_code(ended, _FAILURES)
        reasons = [line for line in ended.lines if re.search(r"^\d+ [CE] |^Error|^No |Exception", line)]
        reason = re.sub(r"^\d+ [CE] | \[\w+\]$", "", reasons[0]) if reasons else ended.last
        return FlashError(f"pyocd: {reason}", code=code, status=ended.status, probe=self._probe)


@contextlib.contextmanager
def _in_tmpfs(images: Sequence[Placed]) -> Iterator[list[Path]]:
    """Put images into a private folder in memory.

    Raises:
        FlashError: ``flash.refused``: there is no such memory, or not enough.
    """
    if not os.path.ismount(_MEMORY):
        raise FlashError(f"{_MEMORY} is no tmpfs: images may not be written to a disk", code="flash.refused")
    _sweep()
    try:
        with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", dir=_MEMORY) as folder:
            paths = [Path(folder) / f"{number}.bin" for number in range(len(images))]
            for path, image in zip(paths, images, strict=True):
                path.write_bytes(image.content)
            yield paths
    except OSError as error:
        raise FlashError(f"no room for the images in {_MEMORY}: {error.strerror}", code="flash.refused") from error


def _sweep() -> None:
    """Remove what stations left that were killed while a board was written: it may hold secrets of its unit."""
    for folder in _MEMORY.glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        is_ours = folder.lstat().st_uid == os.geteuid()
        if is_ours and owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _is_work(line: str) -> bool:
    return _WORKS.search(line) is not None
