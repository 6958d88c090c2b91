"""The one thread that writes, and commits for several callers at once.

A commit costs an fsync, and that is most of what a row costs. So operations queue up while a commit runs; the thread
then takes all that wait, runs them, commits once, and only then tells the callers. Where one of them fails, all are
rolled back and run again, each in its own savepoint; so an operation may run twice, and only what it does to the rows
may matter. One that fails again is rolled back alone and fails its own caller. A commit that fails (disk full) fails
all callers of the batch: nothing was reported that is not durable. The other way round is possible and harmless: after
a failed commit and a crash the rows may be there all the same; then the next visit of the board finds them, as after
any crash.

Events nobody waits for do not cause a commit of their own: they go with the next one, or after ``EVENT_SECONDS``.
"""

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from hsm.durable.clock import Stamps
from hsm.durable.kind import FileKind
from hsm.durable.lock import WriterLock
from hsm.durable.refusal import refusal

Result = TypeVar("Result")
Operation = Callable[[sqlite3.Connection, str], Result]
"""Gets the connection, inside a transaction, and the time at which the operation was asked for; may be run twice."""

EVENT_SECONDS: Final = 0.5
"""How long an event that nobody waits for may stay in memory only."""

EVENT_LIMIT: Final = 10_000
"""Events that may wait for a disk that is full or slow; a line whose events can't be written has to stop."""

BATCH_LIMIT: Final = 256
"""Operations in one commit at most; bounds how long the first of them waits for the last."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Queued:
    operation: Operation[Any]
    at: str
    future: "asyncio.Future[Any] | Future[Any] | None"
    """Who waits; nobody, for an event."""
    loop: asyncio.AbstractEventLoop | None = None
    result: Any = None
    error: BaseException | None = None


def _settle(entries: list[_Queued]) -> None:
    """Give results to callers of one event loop (in its thread), or to callers without one."""
    for entry in entries:
        # A caller that was cancelled meanwhile does not hear of it; what it asked for is done all the same.
        if entry.future is None or entry.future.done():
            continue
        if entry.error is not None:
            entry.future.set_exception(entry.error)
        else:
            entry.future.set_result(entry.result)


def _inode(path: Path) -> tuple[int, int] | None:
    """Return which file stands under a path; None if none does."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


class Writer:
    """Owns the connection for writing. ``commits`` counts transactions that were committed."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, kind: FileKind, stamps: Stamps, lock: WriterLock
    ) -> None:
        """Start the thread.

        Args:
            connection: used by the thread alone from now on.
            path: the file, for messages.
            kind: of the file.
            stamps: gives each operation its time, in the order of the queue.
            lock: the right to write; looked at before each commit.
        """
        self.commits = 0
        self._connection = connection
        self._path = path
        self._kind = kind
        self._inode = _inode(path)
        self._stamps = stamps
        self._lock = lock
        self._changed = threading.Condition()
        self._queue: deque[_Queued] = deque()
        self._awaited = 0
        self._events = 0
        self._event_deadline = 0.0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"{kind.name}-writer", daemon=True)
        self._thread.start()

    async def perform(self, operation: Operation[Result]) -> Result:
        """Run the operation, and return its result once it is durable.

        Raises:
            ErrorKinds: the operation or the commit failed; nothing of the operation is stored.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._put(operation, future, loop)
        return await future

    def submit(self, operation: Operation[Result]) -> "Future[Result]":
        """Do as ``perform``, for callers without an event loop."""
        future: Future[Result] = Future()
        self._put(operation, future, None)
        return future

    def append(self, operation: Operation[None]) -> None:
        """Run the operation, a single statement, with the next commit; nobody waits for it.

        Raises:
            ErrorKinds.unwritable: too many wait already.
        """
        self._put(operation, None, None)

    def _put(
        self,
        operation: Operation[Any],
        future: "asyncio.Future[Any] | Future[Any] | None",
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        with self._changed:
            if self._closing:
                raise self._kind.errors.unwritable(
                    f"{self._path}: the {self._kind.name} is closed", code=f"{self._kind.name}.closed"
                )
            if future is None and self._events >= EVENT_LIMIT:
                raise self._kind.errors.unwritable(
                    f"{self._path}: {self._events} events wait to be written; see to the disk",
                    code=f"{self._kind.name}.overloaded",
                )
            self._queue.append(_Queued(operation, self._stamps.next(), future, loop))
            if future is not None:
                self._awaited += 1
                self._changed.notify()
            else:
                self._events += 1
                if self._events == 1:
                    self._event_deadline = time.monotonic() + EVENT_SECONDS
                    self._changed.notify()

    def close(self) -> None:
        """Finish what is queued and end the thread; idempotent. The connection stays open."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _next_batch(self) -> list[_Queued]:
        """Wait for work; return it, or nothing when closing."""
        with self._changed:
            while not self._closing and not self._awaited:
                if not self._events:
                    self._changed.wait()
                elif (left := self._event_deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    break
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_LIMIT))]
            for entry in batch:
                if entry.future is None:
                    self._events -= 1
                else:
                    self._awaited -= 1
            return batch

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                self._commit(batch)
            except BaseException as error:  # noqa: BLE001  # the callers hear of it, and the thread goes on
                self._undo(batch, error)
            self._tell(batch)

    def _commit(self, batch: list[_Queued]) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        if not self._ran_together(batch):
            self._connection.rollback()
            execute("BEGIN IMMEDIATE")
            for entry in batch:
                self._run_apart(entry)
        if _inode(self._path) != self._inode:  # SQLite would go on in a file that nobody finds any more
            raise self._kind.errors.unwritable(
                f"{self._path}: was deleted, moved or replaced while it is written to; put it back, or stop and restore"
                " the backup",
                code=f"{self._kind.name}.gone",
            )
        if not self._lock.is_in_place():  # another process may have locked a new file of that name
            raise self._kind.errors.unwritable(
                f"{self._lock.path}: was deleted or replaced while {self._path} is written to, so another "
                f"{self._kind.program} may write too; stop all of them, and start one",
                code=f"{self._kind.name}.gone",
            )
        execute("COMMIT")
        self.commits += 1

    def _ran_together(self, batch: list[_Queued]) -> bool:
        """Run operations as one; tell whether all of them went well.

        With a savepoint, a statement costs a third more, and twice as much where many pages change: at its end SQLite
        goes through all that the savepoint keeps. Refusals are rare, and one operation is undone with its transaction.
        """
        try:
            for entry in batch:
                entry.result = entry.operation(self._connection, entry.at)
        except BaseException:
            if len(batch) == 1 and batch[0].future is not None:
                raise
            return False
        return True

    def _run_apart(self, entry: _Queued) -> None:
        """Run an operation so that it can be undone alone."""
        execute = self._connection.execute
        is_event = entry.future is None  # one statement, and undone as one without a savepoint
        if not is_event:
            execute("SAVEPOINT operation")
        try:
            entry.result = entry.operation(self._connection, entry.at)
        except BaseException as error:
            if not self._connection.in_transaction:  # SQLite gave up on all
                raise
            entry.result, entry.error = None, self._translated(error)
            if is_event:
                _log.error("an event was refused: %s", entry.error)
            else:
                execute("ROLLBACK TO operation")
        if not is_event:
            execute("RELEASE operation")

    def _undo(self, batch: list[_Queued], error: BaseException) -> None:
        """Roll the batch back; its events wait for better times, its callers get the error."""
        if self._connection.in_transaction:
            try:
                self._connection.rollback()
            except sqlite3.Error:  # a dead disk; the next batch fails at BEGIN, and its callers hear of it
                _log.exception("%s: the rollback failed", self._path)
        cause = self._translated(error)
        events = [entry for entry in batch if entry.future is None and entry.error is None]
        for entry in batch:
            entry.result = None
            entry.error = entry.error or self._translated(error)
        with self._changed:
            if self._closing:
                if events:
                    _log.error("%d events are lost: %s", len(events), cause)
                return
            for entry in events:
                entry.error = None
            self._queue.extendleft(reversed(events))
            self._events += len(events)
            self._event_deadline = time.monotonic() + EVENT_SECONDS

    def _translated(self, error: BaseException) -> BaseException:
        return refusal(self._kind, error, self._path) if isinstance(error, sqlite3.Error) else error

    def _tell(self, batch: list[_Queued]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop | None, list[_Queued]] = {}
        for entry in batch:
            if entry.future is not None:
                by_loop.setdefault(entry.loop, []).append(entry)
        for loop, entries in by_loop.items():
            if loop is None:
                _settle(entries)
                continue
            try:
                loop.call_soon_threadsafe(partial(_settle, entries))
            except RuntimeError:  # the loop is closed: its callers are gone
                _log.debug("nobody waits any more for %d operations", len(entries))
