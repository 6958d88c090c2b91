"""Where transcripts are kept: a folder that does not outgrow its limit, and the tape that a slot records on.

A line writes some kilobytes a unit, for years. When the folder has grown over its limit, the oldest files go until nine
tenths of it are left. Nobody waits for that: a thread of its own looks through the folder, once at the start and then
each time when what was written since makes it too much, which is once in many thousand units.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from station.ports.transcript import SUFFIX, NullTranscript, Transcript, WireTap

KEEP: Final = 0.9
"""Share of the limit that is left after old files went, so that they go by the thousand and not one by one."""


class TranscriptFolder:
    """A folder of transcripts with an end."""

    def __init__(self, path: Path, limit: int) -> None:
        """Make the folder if it is missing, and begin to look through it.

        Args:
            path: the folder.
            limit: bytes of all transcripts in it. It may be passed by those that are written right now.

        Raises:
            OSError: it can't be made.
        """
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._limit = limit
        self._found = 0
        """Bytes at the last look."""
        self._written = 0
        """Bytes since then."""
        self._tending: threading.Thread | None = None
        self._tend()

    def begin(self, slot: str) -> Transcript:
        """Return the transcript of the unit that begins in a slot; its file is made with its first byte."""
        if self._found + self._written > self._limit and not (self._tending and self._tending.is_alive()):
            self._tend()
        return Transcript.begin(self.path, slot, datetime.now(UTC), count=self._count)

    def _count(self, size: int) -> None:
        self._written += size

    def _tend(self) -> None:
        self._written = 0
        # a daemon thread: a station that ends does not wait for the disk of its transcripts
        self._tending = threading.Thread(target=self._look, name="transcripts", daemon=True)
        self._tending.start()

    def _look(self) -> None:
        """Count what is there, and let the oldest go if it is too much."""
        files: list[tuple[int, Path, int]] = []
        with suppress(OSError):  # a folder that can't be read can't be tended; what can't be written says so itself
            for file in self.path.glob(f"*{SUFFIX}"):
                with suppress(OSError):  # a person may tidy up at the same time
                    status = file.lstat()
                    files.append((status.st_mtime_ns, file, status.st_size))
        total = sum(size for _, _, size in files)
        if total > self._limit:
            for _, file, size in sorted(files):
                if total <= self._limit * KEEP:
                    break
                with suppress(OSError):
                    file.unlink()
                total -= size
        self._found = total


class SlotTape:
    """What a slot's link records on: a transcript for each unit, also where many units share one open port.

    Between two units, when a fixture's board is asked again and again whether it is still there, nothing is recorded.
    """

    def __init__(self, begin: Callable[[], WireTap]) -> None:
        """Make a tape that records nothing yet; ``begin`` makes the transcript of each unit."""
        self._begin = begin
        self._now: WireTap = NullTranscript()
        self.is_upload = False
        """A file goes to the board: what is sent is left out, since it would fill the transcript; answers stay."""

    def next_unit(self) -> None:
        """Begin with the next unit; its transcript takes what the board says when its port is opened, too."""
        self.rest()
        self._now = self._begin()

    def upload(self, begins: bool) -> None:  # noqa: FBT001 - what it says
        """Take note that an upload begins, or ends."""
        self.is_upload = begins

    def rest(self) -> None:
        """End the unit's transcript."""
        self.is_upload = False
        self._now.close()
        self._now = NullTranscript()

    def sent(self, data: bytes) -> None:
        """Station to board."""
        if not self.is_upload:
            self._now.sent(data)

    def received(self, data: bytes) -> None:
        """Board to station."""
        self._now.received(data)

    def close(self) -> None:
        """End. May be called twice."""
        self.rest()
