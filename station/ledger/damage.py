"""What an offline check finds."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from station.errors import printable

LIMIT: Final = 1000
"""Findings that are named; of more, only the number is told."""


MALFORMED: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What comes of a row that holds what no row of ours does: another type, a number too large, JSON too deep."""


class Kind(StrEnum):
    """What was done to a row."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    UNPROVEN = "unproven"
    """It may be right, and nothing that is signed says so."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One row that is not what it was."""

    kind: Kind
    table: str
    row: str
    """Which one: its key, as people find it."""
    detail: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.table} {self.row} was {self.kind}: {self.detail}"


Report = Callable[[Damage], None]


@contextmanager
def naming(report: Report, table: str, row: str = "") -> Iterator[None]:
    """Name a row that can't be looked at, and go on after the block."""
    try:
        yield
    except MALFORMED as error:
        why = f"no row of ours has that form ({type(error).__name__}: {printable(error, 80)})"
        report(Damage(Kind.CHANGED, table, row, why))


def read_facts(text: str | bytes) -> dict[str, str]:
    """Read the facts of a journal event.

    Raises:
        ValueError, RecursionError: they are none: an object of texts.
    """
    facts = json.loads(text)
    if not isinstance(facts, dict) or not all(isinstance(value, str | None) for value in facts.values()):
        raise ValueError("facts are texts")
    return facts


def differing(columns: tuple[str, ...], expected: tuple[object, ...], found: tuple[object, ...]) -> str:
    """Say in which columns a row differs from what its events say."""
    return "; ".join(
        f"{name} is {show(have)}, the events say {show(want)}"
        for name, want, have in zip(columns, expected, found, strict=True)
        if want != have or type(want) is not type(have)
    )


def show(value: object) -> str:
    """Return a value for a sentence."""
    if isinstance(value, bytes):
        return printable(value, 64)
    return printable(repr(value) if isinstance(value, str) else value, 80)


class Damages:
    """Findings, the first of them by name."""

    def __init__(self) -> None:
        self.named: list[Damage] = []
        self.count = 0

    def __call__(self, damage: Damage) -> None:
        """Take one."""
        self.count += 1
        if len(self.named) < LIMIT:
            self.named.append(damage)

    def join(self, other: "Damages") -> None:
        """Take those of another part of the check."""
        self.named += other.named[: LIMIT - len(self.named)]
        self.count += other.count
