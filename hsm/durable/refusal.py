"""What an error of SQLite means here.

A trigger of a schema refuses with the text ``code: sentence``; it becomes the class of that code.
"""

import shutil
import sqlite3
from pathlib import Path
from typing import Final

from hsm.durable.kind import FileKind, Refusal

_UNWRITABLE: Final[dict[int, tuple[str, str]]] = {
    sqlite3.SQLITE_FULL: ("disk_full", "the disk is full; make space, nothing that was reported is lost"),
    sqlite3.SQLITE_IOERR: ("io", "the disk refuses to read or write; check it, its space and its quota"),
    sqlite3.SQLITE_READONLY: ("read_only", "can't be written; check the rights of file and folder"),
    sqlite3.SQLITE_CANTOPEN: ("read_only", "can't be opened here; check the rights of file and folder"),
    sqlite3.SQLITE_BUSY: ("busy", "another program keeps a transaction open in it; end that program"),
}
"""Primary result code of SQLite to code, and sentence with the next move."""

_PERHAPS_FULL: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
"""What SQLite says where it can't make a file beside its own, whatever the reason."""

_NO_ROOM: Final = 128 << 10
"""Bytes that have to be free for SQLite to open a file that others read too: ``-shm`` and the start of a ``-wal``."""

_FOREIGN: Final[dict[int, tuple[str, str]]] = {
    sqlite3.SQLITE_NOTADB: ("foreign", "not a SQLite file; give the path of a {name}, or of a file that is new"),
    sqlite3.SQLITE_CORRUPT: ("damaged", "the file is damaged; stop, keep it as it is, and restore the backup"),
}


def refusal(kind: FileKind, error: sqlite3.Error, path: object) -> Exception:
    """Say what an error of SQLite means.

    Args:
        kind: of the file.
        error: as ``sqlite3`` raised it.
        path: the file, for the message.
    """
    # Extended codes have the primary one in their lowest byte (https://www.sqlite.org/rescode.html).
    primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if primary in _PERHAPS_FULL and _is_full(path):
        primary = sqlite3.SQLITE_FULL
    if primary == sqlite3.SQLITE_CONSTRAINT:
        return _constraint(kind, str(error))
    made: tuple[Refusal, tuple[str, str]] | None = None
    if primary in _UNWRITABLE:
        made = kind.errors.unwritable, _UNWRITABLE[primary]
    elif primary in _FOREIGN:
        made = kind.errors.foreign, _FOREIGN[primary]
    if made is None:
        return kind.errors.error(f"{path}: {error}")
    raised, (word, sentence) = made
    return raised(f"{path}: {sentence.format(name=kind.name)} ({error})", code=f"{kind.name}.{word}")


def _is_full(path: object) -> bool:
    try:
        return shutil.disk_usage(Path(str(path)).parent).free < _NO_ROOM
    except OSError:
        return False


def _constraint(kind: FileKind, message: str) -> Exception:
    errors = kind.errors
    code, separator, sentence = message.partition(": ")
    if separator and code.startswith(f"{kind.name}."):
        return errors.by_code.get(code, errors.refused)(sentence, code=code)
    return errors.by_constraint.get(sentence, errors.refused)(f"the schema refuses the row: {message}")
