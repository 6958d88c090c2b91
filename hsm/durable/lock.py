"""One writer a file, by ``flock`` on another file beside it.

SQLite lets several processes write in turn; we don't want that: two daemons on one manifest would take turns at the
same boards, two batches on one journal at the same requests. The kernel drops the lock with the process, however it
ends, so there is nothing to clean up. The file ``<path>.lock`` stays: to delete it would let two processes lock two
files of one name. Whoever deletes it all the same stops the writer that is at work: it looks before each commit.

A second name of the file itself (a hard link) would have a lock of its own, so such a file is not opened.
"""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Self

from hsm.durable.kind import FileKind


class WriterLock:
    """The right to write to one file; held from construction to ``release``."""

    def __init__(self, file: Path, kind: FileKind) -> None:
        """Take the lock.

        Args:
            file: symlinks resolved, so that two names of one file are one lock.
            kind: of the file.

        Raises:
            ErrorKinds.locked: another process has it; the message names its PID.
            ErrorKinds.unwritable: the lock file can't be made.
        """
        self.path = path = file.with_name(file.name + ".lock")
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            raise kind.errors.unwritable(
                f"{path}: can't be made ({error.strerror}); "
                + ("make space" if full else "check the rights of the folder"),
                code=f"{kind.name}.{'disk_full' if full else 'read_only'}",
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise kind.errors.locked(
                f"{file}: process {holder} writes to it; stop that {kind.program} first", holder=holder
            ) from None
        # The PID is for people who read the message above; on a full disk it may be missing, and the lock holds.
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def is_in_place(self) -> bool:
        """Whether others still meet this lock: whether the locked file is the one under its name."""
        try:
            found, held = self.path.lstat(), os.fstat(self._fd)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)

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
