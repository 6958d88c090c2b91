"""Reading a file beside the program that writes it, or a copy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from hsm.durable.kind import FileKind
from hsm.durable.opening import check_unchanged, open_for_reading, translated

Row = tuple[Any, ...]


class Reader:
    """A file, to be read. Iterators read as they go, so that memory stays flat; finish or drop them soon."""

    def __init__(self, kind: FileKind, path: Path) -> None:
        """Open the file.

        Args:
            kind: of the file.
            path: the file, in use or not; a copy in a read-only folder will do.

        Raises:
            ErrorKinds: no such file, newer, older, foreign, or damaged.
        """
        self.path = path
        self._kind = kind
        self._db, self._as_it_lies = open_for_reading(kind, path)

    def close(self) -> None:
        """Close the file; idempotent."""
        self._db.close()

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def rows(self, sql: str, *parameters: object) -> Iterator[Row]:
        """Iterate over what a query finds.

        Raises:
            ErrorKinds: the file can't be read, or changed while it was read as it lay.
        """
        with translated(self._kind, self.path):
            for row in self._db.execute(sql, parameters):  # noqa: UP028  # 'yield from' would close a closed file's cursor
                yield row
        if self._as_it_lies is not None:
            check_unchanged(self._kind, self.path, self._as_it_lies)
