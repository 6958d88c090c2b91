"""A file that is open for writing: locked, brought up to date, its clock seen to go forward."""

from pathlib import Path
from typing import Self, TypeVar

from sqlite_utils import Database

from hsm.durable.clock import STEADY, Clock, Stamps
from hsm.durable.kind import FileKind
from hsm.durable.lock import WriterLock
from hsm.durable.opening import check_writable, create, is_new, open_for_writing, translated
from hsm.durable.writer import Operation, Writer

Result = TypeVar("Result")


class OpenFile:
    """The right to write to one file, with all that it takes; each kind of file is a class of its own."""

    path: Path
    _db: Database
    """The connection; the writer's thread alone uses it."""
    _writer: Writer

    def __init__(self, kind: FileKind, path: Path, *, clock: Clock | None) -> None:
        """Open the file; make it if there is none, bring it up to date if it is older.

        Args:
            kind: of the file.
            path: its folder exists. ``<path>.lock`` is made beside it.
            clock: the time, aware of its zone; None: this computer's (``STEADY``).

        Raises:
            ErrorKinds: what is wrong with file, folder, lock or clock; nothing was changed then.
        """
        real = path.resolve()
        check_writable(kind, real)
        is_new(kind, real)  # refuses what is not ours before the lock file is made beside it
        self._lock = WriterLock(real, kind)
        try:
            stamps = Stamps(kind, clock or STEADY)
            now = stamps.next()
            if is_new(kind, real):
                create(kind, real, now)
            self._db = open_for_writing(kind, real, now)
            try:
                with translated(kind, path):
                    last = self._db.execute(kind.last_entry).fetchone()
                if last is not None and last[0] is not None:
                    stamps.start_after(last[0])
                    stamps.next()
            except BaseException:
                self._db.close()
                raise
        except BaseException:
            self._lock.release()
            raise
        self.path = path
        self._writer = Writer(self._db.conn, path, kind, stamps, self._lock)

    def close(self) -> None:
        """Write what is queued, fold the WAL into the file, and let go of the lock; idempotent.

        While a reader has the file open, the WAL stays beside it, complete; whoever closes last folds it.
        """
        self._writer.close()
        self._db.close()
        self._lock.release()

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def commits(self) -> int:
        """Transactions that were committed since it was opened."""
        return self._writer.commits

    async def perform(self, operation: Operation[Result]) -> Result:
        """Run ``operation(connection, at)`` in a transaction of the writer's thread; return when it is durable.

        What it raises undoes it and reaches the caller unchanged, but for SQLite's errors, which become ours.
        """
        return await self._writer.perform(operation)

    def perform_blocking(self, operation: Operation[Result]) -> Result:
        """Do as ``perform``, and block this thread meanwhile."""
        return self._writer.submit(operation).result()
