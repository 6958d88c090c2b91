"""On which line of a TOML file a key stands; ``tomllib`` does not say.

TOML is a row of statements, and each statement (a header, or ``key = value``) is a TOML document of its own. So the
text is cut where ``tomllib`` itself says that a statement is whole: comments, dotted keys, inline tables and strings of
any kind need no second parser.
"""

import tomllib
from collections.abc import Iterator
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys from the top of the file down; a number counts the tables of an array, from 0: ``("slot", 2, "baud")``."""


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, object]]]:
    """Yield each statement with the number of its first line (from 1)."""
    pending: list[str] = []
    first = 1
    for number, line in enumerate(text.split("\n"), start=1):
        if not pending:
            first = number
        pending.append(line)
        statement = "\n".join(pending)
        try:
            content = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # an array or a string that goes on in the next line
        pending.clear()
        if content:
            yield first, statement.lstrip(), content


def _paths(content: object, above: KeyPath) -> Iterator[KeyPath]:
    """Yield the path of everything in ``content``."""
    children: list[tuple[str | int, object]] = []
    if isinstance(content, dict):
        children = list(content.items())
    elif isinstance(content, list):
        children = list(enumerate(content))
    for key, value in children:
        path = (*above, key)
        yield path
        yield from _paths(value, path)


class Lines:
    """Where the keys of one text stand.

    Args:
        text: TOML that ``tomllib`` accepts.
    """

    def __init__(self, text: str) -> None:
        self._found: dict[KeyPath, int] = {}
        self._counts: dict[KeyPath, int] = {}
        self._last = len(text.rstrip("\n").split("\n"))
        section: KeyPath = ()
        for line, statement, content in _statements(text):
            if statement.startswith("["):
                section = self._enter(content, is_array=statement.startswith("[["))
                self._note(section, line)
            else:
                for path in _paths(content, section):
                    self._note(path, line)

    def _note(self, path: KeyPath, line: int) -> None:
        """Remember a path and what stands above it, each where it appears first."""
        for size in range(1, len(path) + 1):
            self._found.setdefault(path[:size], line)

    def _enter(self, header: object, *, is_array: bool) -> KeyPath:
        """Return the path of the table that a header opens; ``header`` is the header parsed alone."""
        names = [str(key) for path in _paths(header, ()) if isinstance(key := path[-1], str)]
        path: KeyPath = ()
        for position, name in enumerate(names, start=1):
            path = (*path, name)
            if is_array and position == len(names):
                self._counts[path] = self._counts.get(path, -1) + 1
            if path in self._counts:
                path = (*path, self._counts[path])
        return path

    def line(self, path: KeyPath) -> int:
        """Return the line of ``path``, or of what stands above it, or the last line: there a missing section goes."""
        for size in range(len(path), 0, -1):
            if path[:size] in self._found:
                return self._found[path[:size]]
        return self._last
