"""One writer a manifest, by ``flock`` on the file beside it.

SQLite lets several processes write in turn; the station does not want that: two daemons on one manifest would take
turns at the same boards. The kernel drops the lock with the process, however it ends, so there is nothing to clean up.
The file ``<manifest>.lock`` stays: to delete it would let two processes lock two files of one name.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Self

from station.manifest.errors import ManifestLocked, ManifestUnwritable


class WriterLock:
    """The right to write to one manifest; held from construction to ``release``."""

    def __init__(self, manifest: Path) -> None:
        """Take the lock.

        Args:
            manifest: the manifest's file, symlinks resolved, so that two names of one file are one lock.

        Raises:
            ManifestLocked: another process has it; the message names its PID.
            ManifestUnwritable: the lock file can't be made.
        """
        path = manifest.with_name(manifest.name + ".lock")
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise ManifestUnwritable(
                f"{path}: can't be made ({error.strerror}); check the rights of the folder", code="manifest.read_only"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise ManifestLocked(
                f"{manifest}: process {holder} writes to it; stop that station first", holder=holder
            ) from None
        # The PID is for people who read the message above; on a full disk it may be missing, and the lock holds.
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back; idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        """Hold the lock for a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self.release()
