"""How the file is opened, and what is refused before anything in it is touched."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final

from sqlite_utils import Database

from hsm.durable.kind import FileKind
from hsm.durable.refusal import refusal
from hsm.files import sync

BUSY_SECONDS: Final = 5.0
"""How long a foreign transaction (somebody's sqlite3 shell) is waited for before ``busy``."""

CACHE_KIB: Final = 16 * 1024
"""Page cache of the writer. The unique indexes are hit at random; this keeps their upper pages in memory."""

WAL_BYTES_KEPT: Final = 64 << 20
"""What the WAL is cut back to after a checkpoint, once a long reader made it grow."""

_LAST_VERSION: Final = "SELECT version, schema FROM {table} ORDER BY id DESC LIMIT 1"
_MAGIC: Final = b"SQLite format 3\x00"
_HEADER: Final = 100
_APPLICATION_ID_AT: Final = slice(68, 72)  # https://www.sqlite.org/fileformat2.html, 1.3


def program_version() -> str:
    """Return the version of the program that runs."""
    return version("provisioning-station")


def bring_up_to_date(kind: FileKind, db: Database, now: str) -> None:
    """Apply what is missing, and note which version of the program did so, in one transaction.

    Args:
        kind: of the file.
        db: an open file of this kind, or an empty database; outside a transaction.
        now: UTC, as ``time_text`` writes it.
    """
    with db.atomic():
        kind.migrate(db)
        table, version = kind.version_table, program_version()
        if db.execute(_LAST_VERSION.format(table=table)).fetchone() != (version, kind.schema):
            db.execute(
                f"INSERT INTO {table} (version, schema, since) VALUES (?, ?, ?)",  # noqa: S608 - our own table's name
                (version, kind.schema, now),
            )
            db.execute(f"PRAGMA application_id = {kind.application_id}")
            db.execute(f"PRAGMA user_version = {kind.schema}")


@contextmanager
def translated(kind: FileKind, path: Path) -> Iterator[None]:
    """Turn errors of SQLite in the block into errors of the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise refusal(kind, error, path) from error


def connect(path: Path, **parameters: str | int) -> sqlite3.Connection:
    """Open the file with SQLite; transactions are only those that are written out."""
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{query}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_SECONDS,
    )


def is_new(kind: FileKind, path: Path) -> bool:
    """Tell whether there is no such file yet, looking at the file's first bytes only.

    Raises:
        ErrorKinds.foreign: there is something else.
        ErrorKinds.unwritable: it can't be read.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise kind.errors.unwritable(
            f"{path}: can't be read ({error.strerror})", code=f"{kind.name}.read_only"
        ) from error
    if not header:
        return True
    if not header.startswith(_MAGIC):
        raise kind.errors.foreign(
            f"{path}: not a SQLite file; give the path of a {kind.name}, or of a file that is new"
        )
    if int.from_bytes(header[_APPLICATION_ID_AT], "big") != kind.application_id:
        raise kind.errors.foreign(f"{path}: a SQLite file, but not a {kind.name} of ours; give another path")
    return False


def check_schema(kind: FileKind, connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema that the file has.

    Raises:
        ErrorKinds.newer: this version of the program does not know it.
    """
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if schema > kind.schema:
        (writer,) = connection.execute(_LAST_VERSION.format(table=kind.version_table)).fetchone()[:1]
        raise kind.errors.newer(
            f"{path}: written by {kind.program} {writer}; install that or newer, this is {kind.program} "
            f"{program_version()}. Nothing was changed",
            written_by=writer,
            schema=schema,
            known=kind.schema,
        )
    return int(schema)


def check_writable(kind: FileKind, path: Path) -> None:
    """Refuse a file or folder that can't be written, or not by us alone, before anything is made in it.

    Raises:
        ErrorKinds.unwritable: says which.
    """
    folder = path.parent
    if not folder.is_dir():
        raise kind.errors.unwritable(f"{folder}: no such folder; make it first", code=f"{kind.name}.read_only")
    for place in (folder, path) if path.exists() else (folder,):
        # SQLite opens what it can't write as read-only, and says so only at the first row.
        if not os.access(place, os.W_OK, effective_ids=True):
            raise kind.errors.unwritable(
                f"{place}: is read-only; give write access to it", code=f"{kind.name}.read_only"
            )
    if path.is_file() and path.stat().st_nlink > 1:  # each name would have its own lock, and its own -wal
        raise kind.errors.unwritable(
            f"{path}: has a second name (hard link), under which another {kind.program} could write to it; delete that "
            f"name ('find -samefile {path.name}' shows it), or give this one a copy of its own",
            code=f"{kind.name}.linked",
        )


def create(kind: FileKind, path: Path, now: str) -> None:
    """Make an empty file of this kind: whole or not at all, by renaming a finished file. The writer's lock is held.

    Raises:
        ErrorKinds.unwritable: the disk is full, or refuses.
    """
    unfinished = path.with_name(path.name + ".new")
    _remove(unfinished)
    try:
        with translated(kind, path):
            connection = connect(unfinished, mode="rwc")
            try:
                db = Database(connection, execute_plugins=False)
                bring_up_to_date(kind, db, now)
                db.enable_wal()
            finally:
                connection.close()
        sync(unfinished)
        unfinished.replace(path)
        sync(path.parent)
    except OSError as error:
        raise kind.errors.unwritable(f"{path}: can't be made ({error.strerror})") from error
    finally:
        _remove(unfinished)


def _remove(path: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()


def open_for_writing(kind: FileKind, path: Path, now: str) -> Database:
    """Open a file that exists, durable at every commit. The writer's lock is held.

    Args:
        kind: of the file.
        path: the file.
        now: UTC, as ``time_text`` writes it.

    Raises:
        ErrorKinds: newer, foreign, damaged, or not writable.
    """
    with translated(kind, path):
        # Look first: opening a newer file for writing could already fold its WAL into it.
        connection, _ = _connect_to_look(path)
        try:
            check_schema(kind, connection, path)
        finally:
            connection.close()
        connection = connect(path, mode="rw")
        try:
            db = Database(connection, execute_plugins=False)
            db.enable_wal()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA temp_store = MEMORY")  # savepoints must not need room in /tmp
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
            bring_up_to_date(kind, db, now)
        except BaseException:
            connection.close()
            raise
    return db


def _connect_to_look(path: Path) -> tuple[sqlite3.Connection, os.stat_result | None]:
    """Connect without making a file.

    SQLite reads a file in WAL mode with the help of two files, ``-wal`` and ``-shm``, and makes them if they are not
    there. A reader must not: made by another user, they would keep the daemon from starting. So where there is no
    ``-wal`` (nobody has it open, nothing is pending) the file is read as it lies, without locks.

    Returns:
        The connection; and, where the file is read as it lies, what ``stat`` said of it before.
    """
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and (wal.stat().st_size > 0 or os.access(path.parent, os.W_OK, effective_ids=True)):
        return connect(path, mode="ro"), None
    before = path.stat()
    return connect(path, mode="ro", immutable=1), before


def open_for_reading(kind: FileKind, path: Path) -> tuple[Database, os.stat_result | None]:
    """Open a file to read it, without making one: beside the program that writes it, or a copy of it.

    Returns:
        The database; and, where it is read as it lies, what ``stat`` said: once that changes, what was read is worth
        nothing (see ``check_unchanged``).

    Raises:
        ErrorKinds: no such file, newer, older, foreign, damaged, or a copy with pending rows in a read-only folder.
    """
    if is_new(kind, path):
        raise kind.errors.foreign(f"{path}: no {kind.name} there; check the path", code=f"{kind.name}.missing")
    with translated(kind, path):
        connection, before = _connect_to_look(path.resolve())
        try:
            if check_schema(kind, connection, path) == kind.schema:
                return Database(connection, execute_plugins=False), before
        except BaseException:
            connection.close()
            raise
        connection.close()
    raise kind.errors.foreign(
        f"{path}: written by an older {kind.program}; start this {kind.program} on it once, it brings it up to date",
        code=f"{kind.name}.older",
    )


def check_unchanged(kind: FileKind, path: Path, before: os.stat_result) -> None:
    """Refuse what was read as it lay, if the file changed meanwhile.

    Raises:
        ErrorKinds.unwritable: it did; read again.
    """
    now = path.stat()
    if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
        raise kind.errors.unwritable(
            f"{path}: a {kind.program} started to write while it was read; read it again", code=f"{kind.name}.busy"
        )
