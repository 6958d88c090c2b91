"""Reading one section of a TOML file, with complaints that name the line and what to write instead.

The readers never raise: a value that is missing or wrong is complained about and stands in as an empty one, so that one
pass finds everything. ``close`` complains about keys that nobody asked for.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeAlias, TypeVar

from hsm.toml.lines import KeyPath, Lines

E = TypeVar("E", bound=Exception)
Refusal: TypeAlias = Callable[[str, str, int], E]
"""Makes the error of the floor that reads: of the whole sentence, the file's name, and the line."""

_TOML_POSITION: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
"""How ``tomllib`` ends its messages."""

_KINDS: Final = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    str: "text",
    list: "a list",
    dict: "a section",
}


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the advice for an unknown word: the known one it may stand for, or all of them."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a date or time")


class Document(Generic[E]):
    """A TOML file and what is wrong with it.

    Args:
        content: what ``tomllib`` made of it.
        text: the file itself, for the line numbers.
        name: how the file is named in complaints.
        refusal: makes an error of a complaint.
    """

    def __init__(self, content: dict[str, object], text: str, name: str, refusal: Refusal[E]) -> None:
        self.name = name
        self._refusal = refusal
        self._text = text
        self._lines: Lines | None = None
        self._found: list[tuple[int, str]] = []
        self.top: Section[E] = Section(self, (), content)

    @classmethod
    def parse(cls, text: str, *, name: str, refusal: Refusal[E]) -> "Document[E]":
        """Parse a text.

        Raises:
            Exception: it is not TOML; the error is one of ``refusal``.
        """
        try:
            return cls(tomllib.loads(text), text, name, refusal)
        except tomllib.TOMLDecodeError as error:
            position = _TOML_POSITION.search(str(error))
            line = int(position[1]) if position and position[1] else len(text.splitlines()) or 1
            reason = _TOML_POSITION.sub("", str(error))
            raise refusal(
                f"{name}:{line}: not TOML: {reason}; check quotes, brackets and '=' in this line", name, line
            ) from None

    def line(self, path: KeyPath) -> int:
        """Return the line of a key, or the nearest line there is."""
        if self._lines is None:
            self._lines = Lines(self._text)
        return self._lines.line(path)

    def complain(self, path: KeyPath, what: str) -> None:
        """Note a problem at a key."""
        entry = (self.line(path), what)
        if entry not in self._found:
            self._found.append(entry)

    @property
    def problems(self) -> list[E]:
        """What was found, in the order of lines."""
        return [self._refusal(f"{self.name}:{line}: {what}", self.name, line) for line, what in sorted(self._found)]


class Section(Generic[E]):
    """One table of a document.

    Args:
        document: where complaints go.
        path: of the table.
        content: of the table; None if it is not there or not a table, which was complained about already.
    """

    def __init__(self, document: Document[E], path: KeyPath, content: dict[str, object] | None) -> None:
        self._document = document
        self._path = path
        self._is_there = content is not None
        self._content = content or {}
        self._asked: dict[str, None] = {}
        self._children: dict[KeyPath, Section[E]] = {}

    @property
    def title(self) -> str:
        """How the section is written in the file: ``[ca]``, ``[[slot]]``."""
        name = ".".join(str(part) for part in self._path if isinstance(part, str))
        return f"[[{name}]]" if self._path and isinstance(self._path[-1], int) else f"[{name}]"

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        self._asked[key] = None
        return key in self._content

    def names(self) -> list[str]:
        """Return the keys that are there."""
        return list(self._content)

    def line(self, key: str) -> int:
        """Return the line of a key."""
        return self._document.line((*self._path, key))

    def complain(self, key: str, what: str) -> None:
        """Note a problem at a key of this section; an empty key means the section as a whole."""
        self._document.complain((*self._path, key) if key else self._path, what)

    def close(self) -> None:
        """Complain about each key that nobody asked for."""
        for key in self._content.keys() - self._asked.keys():
            place = f"in {self.title}" if self._path else "at the top of the file"
            self.complain(
                key, f"unknown {'key' if self._path else 'section'} '{key}' {place}; {nearest(key, self._asked)}"
            )

    def _take(self, key: str, kind: type, example: str | None) -> object:
        """Return the value of a key if it is of a kind; else complain, unless it may be missing (no example)."""
        self._asked[key] = None
        if key not in self._content:
            if example is not None and self._is_there:
                self.complain("", f"{self.title} has no '{key}'; add {key} = {example}")
            return None
        value = self._content[key]
        if type(value) is not kind:  # bool is an int to Python, not to TOML
            hint = f"; write {key} = {example}" if example else ""
            place = f" in {self.title}" if self._path else ""
            self.complain(key, f"'{key}'{place} must be {_KINDS[kind]}, not {_kind(value)}{hint}")
            return None
        return value

    def text(self, key: str, default: str | None = None, *, example: str | None = None, limit: int = 64) -> str:
        """Return a text of 1 to ``limit`` printable characters. Without a default it has to be there."""
        value = self._take(key, str, (example or '"…"') if default is None else None)
        if not isinstance(value, str):
            return default or ""
        if not value or len(value) > limit or not value.isprintable():
            self.complain(key, f"'{key}' in {self.title} must have 1 to {limit} printable characters")
            return ""
        return value

    def integer(self, key: str, low: int, high: int, *, default: int | None = None, example: str | None = None) -> int:
        """Return a whole number from ``low`` to ``high``. Without a default it has to be there."""
        value = self._take(key, int, (example or str(low)) if default is None else None)
        if not isinstance(value, int):
            return default or 0
        if not low <= value <= high:
            self.complain(key, f"'{key}' in {self.title} is {value}; write a number from {low} to {high}")
            return default or 0
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._take(key, bool, None)
        return value if isinstance(value, bool) else default

    def texts(self, key: str, *, example: str) -> list[str]:
        """Return a list of texts, which has to be there."""
        value = self._take(key, list, example)
        if not isinstance(value, list):
            return []
        if not all(isinstance(entry, str) for entry in value):
            self.complain(key, f"'{key}' in {self.title} must be a list of texts; write {key} = {example}")
            return []
        return value

    def table(self, key: str) -> "Section[E]":
        """Return a table within this one, which may be missing."""
        return self._child((*self._path, key), self._take(key, dict, None))

    def section(self, key: str, *, example: str) -> "Section[E]":
        """Return a section, which has to be there."""
        if key not in self._content:
            self.complain(key, f"section [{key}] is missing; add [{key}] with {example}")
        return self.table(key)

    def sections(self, key: str) -> "list[Section[E]]":
        """Return the tables of an array of tables, which may be missing."""
        value = self._take(key, list, None)
        tables: list[object] = value if isinstance(value, list) else []
        for table in tables:
            if not isinstance(table, dict):
                self.complain(
                    key, f"'{key}' must be tables, not {_kind(table)}; write [[{key}]] above the keys of each"
                )
        return [self._child((*self._path, key, index), table) for index, table in enumerate(tables)]

    def _child(self, path: KeyPath, content: object) -> "Section[E]":
        """Return the section at a path, the same one each time: it remembers what was asked for."""
        table = content if isinstance(content, dict) else None
        return self._children.setdefault(path, Section(self._document, path, table))
