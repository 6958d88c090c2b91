"""Where an export goes: to a file, whole or not at all, or to a stream that is open already."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TextIO

from station.errors import StationError

Target = Path | TextIO
"""A file's path, or an open stream such as ``sys.stdout``."""

_MODE = 0o644


class ExportError(StationError):
    """The export can't be written."""

    code = "export.unwritable"


@contextmanager
def written_to(target: Target) -> Iterator[TextIO]:
    """Give a text stream (UTF-8, newlines as they are) for the block.

    A path gets its content when the block ends well: until then the text lies in a temporary file beside it, which is
    synced and renamed. If the block fails, what was there before stays. Pipes and devices are written to as they are.

    Raises:
        ExportError: the folder is missing or read-only, or the disk is full.
    """
    if not isinstance(target, Path):
        yield target
        target.flush()
        return
    try:
        if target.exists() and not target.is_file():  # a pipe or a device is written to, never replaced
            with target.open("w", encoding="utf-8", newline="") as stream:
                yield stream
            return
        target = target.resolve()  # a symbolic link stays, and its file is replaced
        file = NamedTemporaryFile(  # noqa: SIM115  # closed below, on every way
            "w", encoding="utf-8", newline="", dir=target.parent, prefix=f".{target.name}.", delete=False
        )
        try:
            with file:
                yield file  # type: ignore[misc]  # the wrapper of tempfile is a TextIO in all but name
                file.flush()
                os.fchmod(file.fileno(), _MODE)
                os.fsync(file.fileno())
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ExportError(
            f"{target}: can't be written ({error.strerror}); check folder, rights and space", path=target
        ) from error
