"""Files that a ceremony leaves: new, whole and durable, or not there at all."""

import os
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
        sync_folder(path.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
