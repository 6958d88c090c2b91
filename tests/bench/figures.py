"""What a benchmark yields, and how it is shown."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


class Effort(IntEnum):
    """How long a benchmark may take."""

    SHORT = 0
    """Seconds: only to see that it works."""
    NORMAL = 1
    """A minute or so."""
    LONG = 2
    """Minutes: for figures that go into the documentation."""

    def choose(self, short: int, normal: int, long: int) -> int:
        """Return the number that goes with this effort."""
        return (short, normal, long)[self]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, with its limit if it has one."""

    name: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""
    timed: bool = True
    """Whether a busy machine makes it worse. A count of lost boards is not timed: it is right or wrong."""

    @property
    def met(self) -> bool:
        """Whether it keeps its limit; true without one."""
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    @property
    def limit(self) -> str:
        """The limit in words, or nothing."""
        if self.at_least is not None and self.at_least == self.at_most:
            return f"exactly {number(self.at_least)}"
        if self.at_least is not None:
            return f"at least {number(self.at_least)}"
        return "" if self.at_most is None else f"at most {number(self.at_most)}"

    def __str__(self) -> str:
        """Name, value and limit in one sentence."""
        value = f"{number(self.value)} {self.unit}".rstrip()
        return f"{self.name} {value}" + (f", {self.limit}" if self.limit else "")


class Benchmark(Protocol):
    """The function ``measure`` of a benchmark."""

    def __call__(self, work: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Figure]:
        """Measure.

        Args:
            work: an empty folder for whatever is needed; on the disk that is measured.
            effort: how long it may take.
            say: tells the user how far it is.
        """


class BenchError(Exception):
    """A benchmark could not be carried out; the message is one line for the user."""


def number(value: float) -> str:
    """Return a number with as many digits as mean something."""
    if value == int(value):
        return f"{value:,.0f}"
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 10 else f"{value:.3f}"


class TableReport:
    """Tables for people, one a benchmark."""

    def __init__(self, console: Console) -> None:
        """Write to a console."""
        self._console = console

    def machine(self, facts: Sequence[tuple[str, str]]) -> None:
        """Say where it is measured."""
        for name, value in facts:
            self._console.print(Text(f"{name}: {value}", style="dim"), soft_wrap=True)

    def benchmark(self, name: str, figures: Sequence[Figure]) -> None:
        """Show the figures of a benchmark."""
        table = Table(title=name, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("figure", overflow="fold")
        table.add_column("value", justify="right", no_wrap=True)
        table.add_column("unit", no_wrap=True)
        table.add_column("limit", no_wrap=True)
        table.add_column("", no_wrap=True)
        table.add_column("note", overflow="fold", style="dim")
        for figure in figures:
            verdict = "" if not figure.limit else "ok" if figure.met else "MISSED"
            style = "" if not figure.limit else "green" if figure.met else "bold red"
            table.add_row(
                figure.name, number(figure.value), figure.unit, figure.limit, Text(verdict, style=style), figure.note
            )
        self._console.print(table)


class JsonReport:
    """JSON lines for programs."""

    def machine(self, facts: Sequence[tuple[str, str]]) -> None:
        """Say where it is measured."""
        print(json.dumps({"event": "machine", **dict(facts)}), flush=True)  # noqa: T201 - this is the output

    def benchmark(self, name: str, figures: Sequence[Figure]) -> None:
        """Show the figures of a benchmark."""
        for figure in figures:
            facts = asdict(figure)
            del facts["name"]
            line = {"event": "figure", "benchmark": name, "figure": figure.name, **facts, "met": figure.met}
            print(json.dumps(line), flush=True)  # noqa: T201 - this is the output
