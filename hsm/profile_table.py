"""One table of a profile file: which keys were taken, and in which line they stand."""

import difflib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from hsm.errors import ProfileError
from hsm.templates import Template

T = TypeVar("T")


class Table:
    """One table of the file; it knows which keys were taken, and where they stand."""

    def __init__(self, path: Path, text: str, name: str, content: dict[str, Any]) -> None:
        self._path = path
        self._text = text
        self._name = name
        self._content = dict(content)

    def __len__(self) -> int:
        """Return how many keys were not taken yet."""
        return len(self._content)

    def keys(self) -> list[str]:
        """Return the keys that were not taken yet."""
        return list(self._content)

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        """Take a value of a type; without a default it has to be there."""
        value = self._content.pop(key, default)
        if value is None:
            self.fail("", f"[{self._name}] needs {key}" if self._name else f"{key} is missing")
        # bool is an int to Python, and never to us
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            expected = {str: "a text", int: "a whole number", bool: "true or false", list: "a list", dict: "a table"}
            self.fail(key, f"{key} is {expected[kind]}, not {value!r}")
        return value

    def texts(self, key: str) -> list[str]:
        """Take a list of texts; empty if it is not there."""
        value = self.take(key, list, [])
        if not all(isinstance(item, str) for item in value):
            self.fail(key, f"{key} is a list of texts")
        return value

    def choices(self, key: str, known: Collection[str]) -> list[str]:
        """Take a list of known words, each once."""
        found = self.texts(key)
        for item in found:
            if item not in known:
                self.fail(key, f"{item!r} is not known in {key}", near=difflib.get_close_matches(item, known, n=1))
        if len(set(found)) != len(found):
            self.fail(key, f"{key} names something twice")
        return found

    def template(self, key: str, text: str) -> Template:
        """Parse a template that stands at a key."""
        try:
            return Template.parse(text)
        except ProfileError as error:
            self.fail(key, str(error))

    def templates(self, key: str) -> tuple[Template, ...]:
        """Take a list of templates."""
        return tuple(self.template(key, text) for text in self.texts(key))

    def table(self, key: str, *, needed: bool) -> "Table":
        """Take a table inside this one; an empty one if it is not there and not needed."""
        content = self.take(key, dict, None if needed else {})
        return Table(self._path, self._text, f"{self._name}.{key}" if self._name else key, content)

    def finish(self, known: Collection[str]) -> None:
        """Refuse what nobody took."""
        for key in self._content:
            place = f" in [{self._name}]" if self._name else ""
            self.fail(key, f"unknown key {key!r}{place}", near=difflib.get_close_matches(key, known, n=1))

    def fail(self, key: str, message: str, *, near: list[str] | None = None) -> NoReturn:
        """Raise what is wrong at a key."""
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ProfileError(f"{self._path}:{self._line(key)}: {message}{hint}")

    def _line(self, key: str) -> int:
        """Return the line of a key of this table, or of the table's header."""
        section, header = "", 1
        for number, line in enumerate(self._text.splitlines(), start=1):
            if opened := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
                section = opened[1]
                header = number if section == self._name else header
            elif section == self._name and key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
                return number
        return header
