"""A table of ``bundle.toml``, read strictly: each key is taken once, with its type, its limits and an example.

Every fault is a ``BundleError`` of code ``bundle.manifest`` that names the key and what to write. Knows nothing of:
what the keys mean.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NoReturn

from firmware_tools.bundles.manifest import Option
from firmware_tools.errors import BundleError

MAX_LIST: Final = 64
"""Entries of a list."""

_MAX_NUMBER: Final = 0xFFFF_FFFF
_LONG_TEXT: Final = 256
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def refuse(name: str, what: str) -> NoReturn:
    """Raise a fault of the file with this name."""
    raise BundleError(f"{name}: {what}", code="bundle.manifest")


class Table:
    """One table, of which each key is taken. Each ``example`` is a line that a person could write."""

    def __init__(self, content: Mapping[str, Any], file: str, where: str) -> None:
        """Read ``content``; faults name the file, and ``where`` in it the table stands (empty: at its top)."""
        self._content = dict(content)
        self._file = file
        self._where = where
        self._known: list[str] = []

    def refuse(self, key: str, what: str) -> NoReturn:
        """Raise a fault of a key; it reads after the key: ``is missing; add …``."""
        refuse(self._file, f"{key!r}{f' in {self._where}' if self._where else ''} {what}")

    def has(self, key: str) -> bool:
        """Whether the key is there; one that was asked for is a known one."""
        self._known.append(key)
        return key in self._content

    def _take(self, key: str, kind: type, example: str) -> Any:  # noqa: ANN401 - what TOML holds
        self._known.append(key)
        if key not in self._content:
            self.refuse(key, f"is missing; add {example}")
        value = self._content.pop(key)
        if type(value) is not kind:
            self.refuse(key, f"is of another type; write {example}")
        return value

    def text(self, key: str, example: str, *, most: int = 64) -> str:
        """Take a text of printable ASCII."""
        value: str = self._take(key, str, example)
        if not (0 < len(value) <= most and value.isascii() and value.isprintable()):
            self.refuse(key, f"takes 1 to {most} printable ASCII characters; write {example}")
        return value

    def pattern(self, key: str, pattern: re.Pattern[str], example: str) -> str:
        """Take a text that the pattern describes whole."""
        value = self.text(key, example, most=128)
        if not pattern.fullmatch(value):
            self.refuse(key, f"is {value!r}; write something like {example}")
        return value

    def one_of(self, key: str, known: tuple[str, ...] | list[str]) -> str:
        """Take one of the texts that are known."""
        value = self.text(key, f'{key} = "{known[0]}"')
        if value not in known:
            self.refuse(key, f"is {value!r}; known: {', '.join(known)}")
        return value

    def integer(self, key: str, low: int, high: int, example: str) -> int:
        """Take a number from ``low`` to ``high``."""
        value: int = self._take(key, int, example)
        if not low <= value <= high:
            self.refuse(key, f"is too {'small' if value < low else 'large'}; write a number from {low} to {high}")
        return value

    def flag(self, key: str, example: str) -> bool:
        """Take true or false."""
        value: bool = self._take(key, bool, example)
        return value

    def texts(self, key: str, example: str) -> tuple[str, ...]:
        """Take a list of short texts."""
        value = self._take(key, list, example)
        fitting = [one for one in value if isinstance(one, str) and len(one) <= _LONG_TEXT and one.isascii()]
        if len(fitting) != len(value) or len(value) > MAX_LIST or not all(one.isprintable() for one in fitting):
            self.refuse(key, f"takes at most {MAX_LIST} short texts; write {example}")
        return tuple(fitting)

    def digest(self, key: str) -> bytes:
        """Take a SHA-256; 32 bytes."""
        value = self.text(key, f'{key} = "<64 hexadecimal digits>"')
        if not _SHA256.fullmatch(value):
            self.refuse(key, "is not a SHA-256; write its 64 hexadecimal digits, in lower case")
        return bytes.fromhex(value)

    def table(self, key: str) -> "Table":
        """Take a table."""
        return Table(self._take(key, dict, f"[{key}]"), self._file, f"[{key}]")

    def tables(self, key: str, most: int) -> list["Table"]:
        """Take a list of tables; none where the key is missing."""
        if not self.has(key):
            return []
        value = self._take(key, list, f"[[{key}]]")
        if len(value) > most or not all(isinstance(one, dict) for one in value):
            self.refuse(key, f"takes at most {most} tables; write [[{key}]] above each")
        return [Table(one, self._file, f"[[{key}]] {number}") for number, one in enumerate(value, start=1)]

    def options(self, key: str) -> Mapping[str, Option]:
        """Take a table of values of any name; empty where the key is missing."""
        if not self.has(key):
            return MappingProxyType({})
        table = Table(self._take(key, dict, f"[{key}]"), self._file, key)
        return MappingProxyType({name: table.option(name) for name in list(table._content)})

    def option(self, key: str) -> Option:
        """Take one of them."""
        value = self._content.pop(key)
        if not re.fullmatch(r"[a-z0-9_-]{1,32}", key):
            self.refuse(key, "is no name of an option; write lower-case letters, digits, _ and -")
        if isinstance(value, bool):
            return value
        if isinstance(value, int) and abs(value) <= _MAX_NUMBER:
            return value
        if isinstance(value, str) and len(value) <= _LONG_TEXT and value.isascii() and value.isprintable():
            return value
        return self.refuse(key, "takes a short text, a number of 32 bits, or true or false")

    def close(self) -> None:
        """Refuse what nobody took."""
        for key in self._content:
            self.refuse(str(key)[:40], f"is unknown; known: {', '.join(dict.fromkeys(self._known))}")
