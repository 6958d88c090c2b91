"""Regular expressions from a driver file: matched in linear time, whatever was written and whatever comes.

They come from a file that somebody wrote in a hurry, and are held against what a board says. With ``re`` of Python a
pattern such as ``(a+)+b`` takes longer than the age of the universe for a line of forty letters, holds the interpreter
all that time, and with it every slot of the line; nothing short of killing the process ends it. So they are RE2's: its
time is linear in the line, its memory bounded, and what it can't do in that (references to groups, looking around) it
refuses when the pattern is read.
"""

from collections.abc import Mapping
from typing import Final

import re2

from station.errors import ConfigError

MEMORY: Final = 1 << 20
"""Bytes that one pattern may take: ``x{1000}{1000}`` is refused when it is read."""

PATTERN_LIMIT: Final = 400
"""Characters of a pattern."""


class Pattern:
    """One of them."""

    def __init__(self, text: str) -> None:
        """Compile it.

        Raises:
            ConfigError: it is none, or needs more than linear time.
        """
        options = re2.Options()
        options.log_errors = False
        options.max_mem = MEMORY
        self.text = text
        try:
            self._compiled = re2.compile(text, options)
        except re2.error as error:
            reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error.args[0]
            raise ConfigError(f"'{text}' is no pattern of RE2: {reason}") from None
        self.groups = frozenset(self._compiled.groupindex)
        """Names of its groups."""

    def whole(self, line: str) -> Mapping[str, str] | None:
        """Return the named groups where the whole line matches, those that took part; None: it does not match."""
        match = self._compiled.fullmatch(line)
        if match is None:
            return None
        return {name: value for name, value in match.groupdict().items() if value is not None}

    def search(self, text: str, /) -> "Place | None":
        """Look for it anywhere in a text."""
        match = self._compiled.search(text)
        return None if match is None else Place(match.start(), match.end())

    def __eq__(self, other: object) -> bool:
        """Compare the texts."""
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        """Hash the text."""
        return hash(self.text)


class Place:
    """Where a pattern was found."""

    def __init__(self, start: int, end: int) -> None:
        """Take both ends, in characters."""
        self._start, self._end = start, end

    def start(self) -> int:
        """Return the index of the first character."""
        return self._start

    def end(self) -> int:
        """Return the index after the last character."""
        return self._end
