"""Where two sides say what a board has to be, whether they contradict each other."""

from collections.abc import Iterable
from typing import TypeAlias

Said: TypeAlias = str | bytes | None
"""None: this side says nothing, and everything agrees with it."""


def contradiction(pairs: Iterable[tuple[str, Said, Said]]) -> tuple[str, str, str] | None:
    """Find the first of these that two sides say differently.

    Args:
        pairs: what it is, and how each of the two sides says it.

    Returns:
        What it is, and the two in words (digests in hex); None: they agree.
    """
    for what, one, other in pairs:
        if one is not None and other is not None and one != other:
            return what, _words(one), _words(other)
    return None


def _words(said: str | bytes) -> str:
    return said.hex() if isinstance(said, bytes) else said
