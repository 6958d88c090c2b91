"""Versions of firmware, and which of two is newer.

``1.4.2``, ``1.4.2-rc.1``, ``1.4.2+7``: numbers as in Semantic Versioning 2.0.0, with a pre-release that comes before
its release. What follows ``+`` is MCUboot's build number, and here it counts: SemVer would say that ``1.4.2+7`` and
``1.4.2+8`` are equal, and a station could not tell which build is older.
"""

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Final

MAX_VERSION: Final = 32
"""Characters: what a manifest's row and an ESP application descriptor hold."""

_VERSION: Final = re.compile(
    r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})"
    r"(?:-((?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+(0|[1-9]\d{0,9}))?",
    re.ASCII,
)


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A version; greater is newer."""

    major: int
    minor: int
    patch: int
    pre: tuple[str, ...] = ()
    """Identifiers of the pre-release; none for a release."""
    build: int = 0

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Read a version.

        Raises:
            ValueError: it is none; the message says how one is written.
        """
        found = _VERSION.fullmatch(text) if len(text) <= MAX_VERSION else None
        if found is None:
            raise ValueError("a version is written like 1.4.2, 1.4.2-rc.1 or 1.4.2+7")
        pre = tuple(found[4].split(".")) if found[4] else ()
        return cls(int(found[1]), int(found[2]), int(found[3]), pre, int(found[5] or 0))

    def __str__(self) -> str:
        """Write it; a build number of 0 is left out."""
        pre = f"-{'.'.join(self.pre)}" if self.pre else ""
        return f"{self.major}.{self.minor}.{self.patch}{pre}{f'+{self.build}' if self.build else ''}"

    def __lt__(self, other: object) -> bool:
        """Whether it is older (SemVer 11.2 to 11.4, then the build number)."""
        if not isinstance(other, Version):
            return NotImplemented
        return self._rank() < other._rank()

    def _rank(self) -> tuple[object, ...]:
        identifiers = tuple((0, int(one), "") if one.isdigit() else (1, 0, one) for one in self.pre)
        return self.major, self.minor, self.patch, not self.pre, identifiers, self.build
