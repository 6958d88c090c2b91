"""How a run of the line is shown to whoever reads: a terminal, a log, a program."""

import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Final, Protocol, Self

import click

from station.cli.output import discard_stdout, json_line
from station.events import Event, Notice, Summary

REHEARSAL: Final = "REHEARSAL: the boards are virtual; no unit of this run is real"


STOPPING: Final = "stopping: the boards in work finish first; ctrl-C cuts them off"


class View(Protocol):
    """Who is told what happens on the line, from start to end."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Show the last state and let go of the terminal."""

    def __call__(self, event: Event) -> None:
        """Take an event."""

    def stopping(self) -> None:
        """Show that no other board is begun."""

    def close(self, summary: Summary) -> None:
        """Show what the run came to; after ``__exit__``."""


class _Log:
    """What logs share: they hold nothing, and a reader that goes away does not disturb the line."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Nothing is held."""

    def _write(self, line: str) -> None:
        try:
            click.echo(line)
        except OSError:  # a pipe without a reader, a full disk: the boards go on
            discard_stdout()


class LineLog(_Log):
    """One line a change, for pipes and logs.

    Args:
        rehearsal: whether the boards are virtual.
        now: the wall clock.
    """

    def __init__(self, *, rehearsal: bool = False, now: Callable[[], datetime] = datetime.now) -> None:
        self._is_rehearsal = rehearsal
        self._now = now

    def __call__(self, event: Event) -> None:
        """Write a line; before the first one, what kind of run it is."""
        if self._is_rehearsal:
            self._write(REHEARSAL)
            self._is_rehearsal = False
        if isinstance(event, Notice):
            code = f" [{event.code}]" if event.code else ""
            self._write(f"{self._now():%H:%M:%S}  {event.subject}: {event.sentence}{code}")
            return
        if event.percent is not None:
            return  # a log has a line for each step, not for each percent
        board = event.product_serial or event.hardware_id
        parts = [f"{self._now():%H:%M:%S}", f"slot {event.slot}", event.state.value, event.step, board]
        end = f": {event.sentence}" if event.sentence else ""
        code = f" [{event.code}]" if event.code else ""
        self._write("  ".join(part for part in parts if part) + end + code)

    def stopping(self) -> None:
        """Write a line."""
        self._write(STOPPING)

    def close(self, summary: Summary) -> None:
        """Write the last line."""
        self._write(sentence_of(summary))


class JsonLog(_Log):
    """One JSON object a change, for programs.

    Args:
        now: the wall clock, with its zone.
    """

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now().astimezone()) -> None:
        self._now = now

    def __call__(self, event: Event) -> None:
        """Write an object with ``event`` = ``slot`` or ``notice``."""
        if isinstance(event, Notice):
            facts = {"subject": event.subject, "sentence": event.sentence, "code": event.code}
            self._write(json_line({"event": "notice", "time": self._now(), **facts}))
            return
        self._write(
            json_line(
                {
                    "event": "slot",
                    "time": self._now(),
                    "slot": event.slot,
                    "state": event.state,
                    "step": event.step,
                    "hardware_id": event.hardware_id,
                    "product_serial": event.product_serial,
                    "sentence": event.sentence,
                    "code": event.code,
                    "detail": event.detail,
                    **({} if event.percent is None else {"percent": event.percent}),
                }
            )
        )

    def stopping(self) -> None:
        """Write nothing: a program sees what it sent the signal for, slot by slot."""

    def close(self, summary: Summary) -> None:
        """Write an object with ``event`` = ``summary``."""
        self._write(
            json_line(
                {
                    "event": "summary",
                    "time": self._now(),
                    "passed": summary.passed,
                    "done_before": summary.done_before,
                    "failed": summary.failed,
                    "stopped": summary.stopped,
                    "seconds": round(summary.seconds, 3),
                    "units_per_minute": round(summary.units_per_minute, 1),
                }
            )
        )


def view_for(slots: Sequence[str], *, as_json: bool, rehearsal: bool) -> View:
    """Return the view that suits who reads: a program, a terminal, or neither."""
    if as_json:
        return JsonLog()
    if not sys.stdout.isatty():
        return LineLog(rehearsal=rehearsal)
    # rich is loaded only where there is a terminal to draw on
    from rich.console import Console  # noqa: PLC0415

    from station.cli.table import LiveTable  # noqa: PLC0415

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_dumb_terminal:
        return LiveTable(slots, console, rehearsal=rehearsal)
    return LineLog(rehearsal=rehearsal)


def sentence_of(summary: Summary) -> str:
    """Return what a run came to, as one line."""
    parts = [f"{summary.passed} passed", f"{summary.failed} failed"]
    if summary.done_before:
        parts.append(f"{summary.done_before} done before")
    if summary.stopped:
        parts.append(f"{summary.stopped} stopped before the end (plug them in again)")
    if summary.passed:
        parts.append(f"{summary.seconds:.1f} s, {summary.units_per_minute:.0f} units/minute")
    return ", ".join(parts)
