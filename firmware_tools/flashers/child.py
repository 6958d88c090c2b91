"""Runs somebody else's flashing tool as a child process, and keeps it on a leash.

A tool that is under the GPL is never imported, only run; and any tool may hang, which nothing but killing it ends. So
each slot has its own child: in a process group of its own, with no standard input, with an environment that holds no
secret of ours, and with images in memory (memfd_create(2)) that it opens as ``/proc/self/fd/N``: no unit's secret is
ever in a file on a disk, and no disk can be full. ``leash.py`` stands between us and it: it kills what the child leaves
behind, and the child itself if we are killed.

The child's output is read as lines. Whoever runs it says of each line whether it means that the work goes on; without
such a line the child is killed when its patience is over, whatever else it prints. One that always shows progress and
never ends is killed too. What is kept of the output is bounded.

Knows no tool; ``esp.py``, ``stm32.py`` and ``probe.py`` do.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from firmware_tools.errors import FlashError

__all__ = ["BAR_ENDS", "PATIENCE", "Ended", "Tool", "in_memory", "memory_path", "run_child"]

PATIENCE: Final = 60.0
"""Seconds without a sign of work after which a child hangs: erasing a whole flash takes the longest, and is silent."""

LONGEST: Final = 3600.0
"""Seconds after which a child is killed though it works: a whole flash of 16 MiB at 115200 takes 25 minutes."""

_GRACE: Final = 5.0
"""Seconds that a child may take to end after it has closed its output."""

_READ: Final = 16_384
_LINE: Final = 2_000
"""Characters kept of a line."""
_KEPT: Final = 200
"""Lines kept of the start, where a tool names the chip, and of the end, where it says what is wrong."""
_RUBBISH: Final = 4 << 20
"""Bytes without a sign of work after which a child is not worth its processor."""
_TALK: Final = 64 << 20
"""Bytes that a child may print in all: stm32loader prints 10 MiB for 32 MiB of flash, the others far less."""

_ENDS: Final = re.compile(rb"[\r\n]+")
BAR_ENDS: Final = re.compile(rb"[\r\n=]")
"""For a tool that draws a bar of ``=`` without an end of line: each is a line of its own, empty."""
_ESCAPE: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(\x07|\x1b\\\\)?")
_LEASH: Final = Path(__file__).with_name("leash.py")

_PASSED_ON: Final = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "PYTHONPATH",
    "TMPDIR",
    "TZ",
    "ESPTOOL_CFGFILE",
)
"""All that a child gets of our environment; a PIN that stands in it stays with us."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that others wrote."""

    name: str
    module: str
    """By which Python runs it."""
    extra: str
    """Of our package: what ``pip`` has to be asked for."""

    def command(self) -> list[str]:
        """Return how it is run: the module in our interpreter's environment, else the program on PATH.

        Raises:
            FlashError: ``flash.tool_missing``.
        """
        if find_spec(self.module) is not None:
            return [sys.executable, "-P", "-m", self.module]  # -P: a serial.py in the working folder is none of its
        if (program := shutil.which(self.name)) is not None:
            return [program]
        raise FlashError(
            f"{self.name} is not installed: run pip install 'provisioning-station[{self.extra}]'",
            code="flash.tool_missing",
            tool=self.name,
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended."""

    status: int
    """Of its exit; negative: the signal that killed it."""
    lines: tuple[str, ...]
    """The first and the last of its output, without control characters."""

    def find(self, pattern: str) -> str | None:
        """Return the first group of the first line that holds ``pattern``."""
        return next((match[1] for line in self.lines if (match := re.search(pattern, line))), None)

    @property
    def last(self) -> str:
        """The last lines in one, for a message."""
        return " | ".join(line.strip() for line in self.lines[-4:] if line.strip())[-500:] or "it said nothing"


@contextlib.contextmanager
def in_memory(contents: Sequence[bytes]) -> Iterator[list[int]]:
    """Put images into memory, sealed; yield a file descriptor each, for ``pass_fds`` of a child."""
    fds: list[int] = []
    try:
        for content in contents:
            fd = os.memfd_create("image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            fds.append(fd)
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def memory_path(fd: int) -> str:
    """Return the name under which a child opens what it was passed."""
    return f"/proc/self/fd/{fd}"


async def run_child(  # noqa: PLR0913 - each is a fact of the child
    name: str,
    command: Sequence[str],
    on_line: Callable[[str], bool],
    *,
    patience: float = PATIENCE,
    longest: float = LONGEST,
    fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    ends: re.Pattern[bytes] | None = None,
) -> Ended:
    """Run a child to its end.

    Args:
        name: of the tool, for messages.
        command: program and arguments.
        on_line: is given each line and says whether it means that the work goes on.
        patience: seconds that it may take without such a line.
        longest: seconds that it may take with them.
        fds: file descriptors that it inherits.
        environment: more of it.
        ends: what ends a line; None: CR, LF, or several.

    Raises:
        FlashError: ``flash.tool_hangs``, ``flash.tool_failed`` (it floods us), ``flash.tool_missing``.
        asyncio.CancelledError: cancelled; the child and its children are dead.
    """
    if shutil.which(command[0]) is None:
        raise FlashError(
            f"{name} can't be started: No such file or directory: {command[0]}", code="flash.tool_missing", tool=name
        )
    output = _Output(on_line, ends or _ENDS)
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = await _started(name, command, theirs.fileno(), fds, _environment(environment or {}))
        return await _watched(name, process, ours, output, patience=patience, longest=longest)


async def _started(
    name: str, command: Sequence[str], leash: int, fds: Sequence[int], environment: Mapping[str, str]
) -> asyncio.subprocess.Process:
    """Start a tool on its leash; who is cancelled meanwhile leaves nothing behind."""
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(_LEASH), str(leash)),
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=(*fds, leash),
            start_new_session=True,
            env=environment,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await _bury(await starting)
        raise
    except OSError as error:
        raise FlashError(
            f"{name} can't be started: {error.strerror}: {error.filename}", code="flash.tool_missing", tool=name
        ) from error


async def _watched(  # noqa: PLR0913 - each is a fact of the child
    name: str,
    process: asyncio.subprocess.Process,
    leash: socket.socket,
    output: "_Output",
    *,
    patience: float,
    longest: float,
) -> Ended:
    try:
        async with asyncio.timeout(longest) as limit:
            await _watch(process, output, patience)
        status = _status(leash)
    except TimeoutError:
        if limit.expired():
            raise FlashError(
                f"{name} did not end in {longest:g} s and was killed; its last words: {output.ended(0).last}",
                code="flash.tool_hangs",
                tool=name,
            ) from None
        raise FlashError(
            f"{name} showed no progress for {patience:g} s and was killed; its last words: {output.ended(0).last}",
            code="flash.tool_hangs",
            tool=name,
        ) from None
    except _Flood as flood:
        raise FlashError(f"{name} printed {flood} and was killed", code="flash.tool_failed", tool=name) from None
    finally:
        await _bury(process)
    return output.ended(status)


class _Flood(Exception):
    """The child prints without end; the message says how much."""


class _Output:
    """Lines out of what a child prints."""

    def __init__(self, on_line: Callable[[str], bool], ends: re.Pattern[bytes]) -> None:
        self._on_line = on_line
        self._ends = ends
        self._rest = b""
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=_KEPT)
        self._idle = 0
        self._talk = 0

    def take(self, data: bytes) -> bool:
        """Take bytes in; return whether one of the lines means work."""
        *whole, rest = self._ends.split(self._rest + data)
        self._rest = rest[:_LINE]
        works = False
        for part in whole:
            works |= self._line(part)
        self._idle = 0 if works else self._idle + len(data)
        self._talk += len(data)
        if self._idle > _RUBBISH:
            raise _Flood(f"{_RUBBISH >> 20} MB that mean nothing")
        if self._talk > _TALK:
            raise _Flood(f"{_TALK >> 20} MB, more than any work takes,")
        return works

    def ended(self, status: int) -> Ended:
        """Return what there is; the last line may lack its end."""
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        return Ended(status, (*self._first, *self._last))

    def _line(self, part: bytes) -> bool:
        text = _ESCAPE.sub("", part[:_LINE].decode(errors="replace"))
        line = "".join(letter for letter in text if letter.isprintable() or letter == "\t")
        (self._first if len(self._first) < _KEPT else self._last).append(line)
        return self._on_line(line)


async def _watch(process: asyncio.subprocess.Process, output: _Output, patience: float) -> None:
    assert process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while True:
        async with asyncio.timeout_at(deadline):
            data = await process.stdout.read(_READ)
        if not data:
            break
        if output.take(data):
            deadline = loop.time() + patience
        if loop.time() > deadline:  # a flood never waits, and a wait that is no wait never times out
            raise TimeoutError
    async with asyncio.timeout(_GRACE):
        await process.wait()


def _status(leash: socket.socket) -> int:
    """Return what the leash said of the tool's end; one that was killed itself said nothing."""
    with contextlib.suppress(BlockingIOError, ValueError):
        return int(leash.recv(16, socket.MSG_DONTWAIT))
    return -signal.SIGKILL


async def _bury(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of the child and its children, and wait for it."""
    # also where the leash has gone already: while a group has members, its number is given to nobody else
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GRACE):
            while await process.stdout.read(_READ):  # until nobody holds it, so that it is closed
                pass
    await process.wait()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**passed_on, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200", **more}
