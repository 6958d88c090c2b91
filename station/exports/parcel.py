"""A folder of files for one recipient: there when it is complete, and not before.

Until then it lies beside its place under a hidden name. Each file is hashed while it is written, so that the statement
about the parcel costs no second reading, and so that memory stays flat however large it is.
"""

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TextIO, cast

from hsm.files import sync
from station.exports.target import ExportError

_BLOCK: Final = 1 << 20
_OPEN: Final = 0o644
_SECRET: Final = 0o600


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file of a parcel."""

    name: str
    size: int
    sha256: str
    """64 hex digits."""


class _Hashed(io.RawIOBase):
    """A file that is hashed as it is written."""

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # type: ignore[arg-type]  # a buffer, as io gives it
        count = self._file.write(view)
        written = view.nbytes if count is None else count
        self.digest.update(view[:written])
        self.size += written
        return written


class Parcel:
    """The files of a parcel in the making; ``packed`` gives one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.is_secret = False
        """Whether one of them is; then only its owner may look into the folder."""
        self.files: list[FileFacts] = []
        """Those that are complete, in the order in which they were."""

    @contextmanager
    def binary(self, name: str, *, secret: bool = False) -> Iterator[BinaryIO]:
        """Write a file; durable when the block ends.

        Args:
            name: of the file in the parcel.
            secret: only its owner may read it.
        """
        self.is_secret |= secret
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(self._folder / name, flags, _SECRET if secret else _OPEN)
        with io.FileIO(descriptor, "w") as file:
            hashed = _Hashed(file)
            buffered = io.BufferedWriter(hashed, _BLOCK)
            try:
                yield cast("BinaryIO", buffered)
                buffered.flush()
                os.fsync(descriptor)
            except BaseException:
                buffered.raw.close()  # what it still holds is not wanted any more
                raise
            buffered.detach()
        self.files.append(FileFacts(name, hashed.size, hashed.digest.hexdigest()))

    @contextmanager
    def text(self, name: str, *, secret: bool = False) -> Iterator[TextIO]:
        """Write a file as UTF-8, line ends as they are written."""
        with self.binary(name, secret=secret) as file:
            stream = io.TextIOWrapper(file, "utf-8", newline="", write_through=False)
            try:
                yield stream
                stream.flush()
            finally:
                stream.detach()

    def put(self, name: str, content: str) -> None:
        """Write a small file."""
        with self.text(name) as stream:
            stream.write(content)


@contextmanager
def packed(path: Path) -> Iterator[Parcel]:
    """Give a parcel for the block; it is at ``path`` when the block ends well, and nowhere if it fails.

    Raises:
        ExportError: something is there already, or the place can't be written, or the disk is full.
    """
    path = path.absolute()
    if path.exists():
        raise ExportError(f"{path} is there already; name a new folder", code="export.exists", path=path)
    hidden = None
    try:
        hidden = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        parcel = Parcel(hidden)
        yield parcel
        if not parcel.is_secret:
            hidden.chmod(0o755)
        sync(hidden)
        hidden.rename(path)
        sync(path.parent)
    except OSError as error:
        raise ExportError(
            f"{path}: can't be written ({error.strerror or error}); check folder, rights and space", path=path
        ) from error
    finally:
        if hidden is not None:
            shutil.rmtree(hidden, ignore_errors=True)
