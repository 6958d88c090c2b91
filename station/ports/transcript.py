r"""The wire of one unit as a text file, for the engineer who asks what a board really said.

One line a read or write: seconds since the unit began, direction, bytes. Bytes outside of printable ASCII are escaped
(``\x06``, ``\n``), so that the file is safe to ``cat``::

    # slot 3, 2025-11-24T09:12:33Z
    0.000213 > "\x06\tABEIAAAB..."
    0.004120 < "\x06\tAJ8LAACT..."

Files are private (0600), never overwritten, and bounded: a board that talks without end costs one megabyte, not a disk.
``transcript_folder`` bounds all of them together.
A transcript that can't be written never stops a unit: it ends, and ``failure`` says why.
"""

import errno
import os
import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from station.errors import ConfigError

SIZE_LIMIT: Final = 1 << 20
"""Bytes of one file; what comes after is left out, and the file says so."""

FLUSH_SIZE: Final = 16384
"""Bytes kept back before they are written."""

FLUSH_SECONDS: Final = 1.0
"""Seconds after which bytes kept back are written with the next line; a crash loses no more."""

NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}")
"""What a file name may be; whoever builds one from a device's text has to escape it first (invariant I8)."""

SUFFIX: Final = ".wire"
"""Of each transcript's file."""

RUNS_LIMIT: Final = 1000
"""Transcripts of one name."""


class WireTap(Protocol):
    """Takes what goes over the wire."""

    def sent(self, data: bytes) -> None:
        """Station to board."""

    def received(self, data: bytes) -> None:
        """Board to station."""

    def close(self) -> None:
        """End. May be called twice."""


class NullTranscript:
    """Keeps nothing."""

    def sent(self, data: bytes) -> None:
        """Forget ``data``."""

    def received(self, data: bytes) -> None:
        """Forget ``data``."""

    def close(self) -> None:
        """Do nothing."""


class Transcript:
    """One file for one unit run; the format stands in the module docstring."""

    def __init__(  # noqa: PLR0913  # each with its default
        self,
        folder: Path,
        name: str,
        *,
        title: str = "",
        limit: int = SIZE_LIMIT,
        clock: Callable[[], float] = time.monotonic,
        count: Callable[[int], None] = lambda _size: None,
    ) -> None:
        """Prepare a transcript; its file is created with the first byte, so that a port that never opens leaves none.

        Args:
            folder: where; made if missing.
            name: file name without ending; see ``NAME``. A second run under the same name gets ``-2``, and so on.
            title: first line, after ``#``.
            limit: bytes of the file.
            clock: seconds, growing.
            count: told of the bytes that went into the file.

        Raises:
            ConfigError: ``transcript.name``: not a name as ``NAME`` says.
        """
        if not NAME.fullmatch(name):
            raise ConfigError(f"{name!r} can't be a transcript's name", code="transcript.name", name=name)
        self.path: Path | None = None
        """The file, once there is one."""
        self.failure: str | None = None
        """Why the transcript ended early."""
        self._folder = folder
        self._name = name
        self._title = title
        self._descriptor = -1
        self._clock = clock
        self._count = count
        self._begin = self._flushed = clock()
        self._room = limit
        self._pending: list[bytes] = []
        self._pending_size = 0

    @classmethod
    def begin(
        cls, folder: Path, slot: str, at: datetime, *, count: Callable[[int], None] = lambda _size: None
    ) -> "Transcript":
        """Prepare the transcript of a unit run in a slot, named by time and slot."""
        safe = re.sub(r"[^0-9A-Za-z_-]", "_", slot)[:40]
        title = f"slot {slot}, {at.isoformat(timespec='seconds')}"
        return cls(folder, f"{at:%Y%m%dT%H%M%S}-{safe}", title=title, count=count)

    def sent(self, data: bytes) -> None:
        """Station to board."""
        self._record(">", data)

    def received(self, data: bytes) -> None:
        """Board to station."""
        self._record("<", data)

    def close(self) -> None:
        """Write what is kept back. May be called twice."""
        self._flush()
        self._room = 0
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.close(descriptor)
            except OSError as error:  # a network folder reports a full disk here
                self.failure = self.failure or str(error)

    def _record(self, direction: str, data: bytes) -> None:
        if self._room <= 0:
            return
        now = self._clock()
        # Cut before escaping: an escaped byte takes four, and a flood should cost nothing.
        text = _escape(data[: self._room])
        self._add(f'{now - self._begin:.6f} {direction} "{text}"\n'.encode())
        if self._pending_size >= FLUSH_SIZE or now - self._flushed >= FLUSH_SECONDS:
            self._flush()
            self._flushed = now

    def _add(self, line: bytes) -> None:
        self._room -= len(line)
        if self._room <= 0:
            line = b"# cut: the wire was longer than a transcript may be\n"
        self._pending.append(line)
        self._pending_size += len(line)

    def _flush(self) -> None:
        pending, self._pending, self._pending_size = b"".join(self._pending), [], 0
        try:
            if pending and self._descriptor < 0:
                self.path, self._descriptor = _create(self._folder, self._name)
                if self._title:
                    pending = f"# {_escape(self._title.encode())}\n".encode() + pending
            self._count(len(pending))
            while pending:
                pending = pending[os.write(self._descriptor, pending) :]
        except OSError as error:
            self.failure = str(error)
            self._room = 0


def _escape(data: bytes) -> str:
    """Return the inside of a Python bytes literal in double quotes; ``repr`` does it at the speed of C."""
    return repr(data)[2:-1].replace('"', '\\"')


def _create(folder: Path, name: str) -> tuple[Path, int]:
    """Create a private file that was not there before."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(1, RUNS_LIMIT):
        path = folder / (f"{name}{SUFFIX}" if number == 1 else f"{name}-{number}{SUFFIX}")
        try:
            return path, os.open(path, flags, 0o600)
        except FileExistsError:
            continue
    raise FileExistsError(errno.EEXIST, f"{folder} holds {RUNS_LIMIT} transcripts of this name", name)
