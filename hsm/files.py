"""Files that are whole and durable, or not there at all."""

import os
from contextlib import suppress
from pathlib import Path


def write_new(path: Path, content: bytes) -> None:
    """Write a new file (0644); what could not be written whole is removed.

    Raises:
        OSError: it is there already (``FileExistsError``), or can't be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        sync(path.parent)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            _name(error, path)
        raise


def replace_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file whole or not at all, durable, with no half file under its name at any moment.

    Raises:
        OSError: what was there before stays.
    """
    unfinished = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        _name(error, path)
        raise
    sync(path.parent)


def _name(error: OSError, path: Path) -> None:
    """Let an error say which file it is about: one of writing, as on a full disk, names none."""
    if error.filename is None:
        error.filename = str(path)


def sync(path: Path) -> None:
    """Make a file's content durable, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
