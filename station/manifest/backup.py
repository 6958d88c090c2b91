"""A copy of the manifest, made while the station works, and only under its name when it was checked.

SQLite's online backup reads one moment of the file: the writer goes on meanwhile, and the copy has all that was durable
when it began and nothing of what came later. The copy is checked page by page, flushed to the disk, and then renamed:
a backup that stands under its name is whole.
"""

import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from hsm.durable.opening import connect, open_for_reading, translated
from hsm.files import sync
from station.errors import ManifestError
from station.manifest.schema import MANIFEST

PAGES: Final = 4096
"""Copied from one look at the progress to the next."""

Told = Callable[[int, int], None]
"""Told how many pages are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What was made."""

    path: Path
    size: int
    """Bytes."""
    events: int
    """The last event in it; every later one is not."""
    at: str
    """When that was; empty where there is none."""


def default_name(now: datetime) -> str:
    """Return the name of a backup in a folder: sorts as time does."""
    return f"manifest-{now:%Y%m%dT%H%M%SZ}.db"


def back_up(source: Path, destination: Path, told: Told = lambda _done, _all: None) -> Backup:
    """Copy a manifest. Blocks; the station may work meanwhile.

    Args:
        source: the manifest, in use or not.
        destination: a file that is not there yet.
        told: told of the progress.

    Raises:
        ManifestError: the source can't be read, the copy can't be written (``manifest.backup_unwritable``), there is a
            file already (``manifest.backup_exists``), or the copy is damaged because the source is.
    """
    if destination.exists():
        raise ManifestError(
            f"{destination}: is there already; a backup is never overwritten, give another name",
            code="manifest.backup_exists",
        )
    unfinished = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}")
    database, _ = open_for_reading(MANIFEST, source)
    try:
        with closing(database), translated(MANIFEST, source):
            last = _copy(database.conn, unfinished, told)
        sync(unfinished)
        unfinished.rename(destination)
        sync(destination.parent)
    except OSError as error:
        raise ManifestError(
            f"{destination}: can't be written ({error.strerror}); check space, owner and mode of the folder",
            code="manifest.backup_unwritable",
        ) from error
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                unfinished.with_name(unfinished.name + suffix).unlink()
    return Backup(destination, destination.stat().st_size, *last)


def _copy(source: sqlite3.Connection, path: Path, told: Told) -> tuple[int, str]:
    """Copy one moment, check it, and return its last event."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
    with closing(connect(path, mode="rw")) as copy:
        # What is read stays as it is until the end: without this a busy writer would make SQLite begin anew each time.
        source.execute("BEGIN")
        try:
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            source.backup(copy, pages=PAGES, sleep=0, progress=lambda _status, left, pages: told(pages - left, pages))
        finally:
            source.execute("ROLLBACK")
        faults = [row[0] for row in copy.execute("PRAGMA integrity_check(3)")]
        if faults != ["ok"]:
            raise ManifestError(
                f"the copy is damaged, and so is the manifest ({'; '.join(faults)}); stop the line, keep the file, and "
                "see 'station manifest doctor'",
                code="manifest.damaged",
            )
        row = copy.execute("SELECT id, at FROM event ORDER BY id DESC LIMIT 1").fetchone()
        copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return (0, "") if row is None else (int(row[0]), str(row[1]))
