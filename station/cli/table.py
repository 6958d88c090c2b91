"""The line on a terminal: one row a slot, kept up to date.

A state is a word, a symbol and a colour, so that the colour is never needed. Rows are replaced whole, in one
assignment: the daemon's thread writes them and the drawing thread of ``rich`` reads them without a lock.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from station.cli.view import REHEARSAL, STOPPING, sentence_of
from station.events import Event, Notice, SlotChanged, SlotState, Summary

REFRESH_HZ: Final = 4
"""Drawings a second: enough for a running clock, and cheap beside the line's own work."""

LOOKS: Final = {
    SlotState.EMPTY: ("·", "dim"),
    SlotState.RUNNING: ("▶", "bold cyan"),
    SlotState.PASSED: ("✔", "bold green"),
    SlotState.DONE_BEFORE: ("●", "bold blue"),
    SlotState.FAILED: ("✘", "bold red"),
    SlotState.STOPPED: ("■", "bold yellow"),
}
"""Symbol and colour of each state."""

_URGENCY: Final = (SlotState.FAILED, SlotState.RUNNING, SlotState.STOPPED, SlotState.PASSED, SlotState.DONE_BEFORE)
"""Which rows stay when the terminal is too low for all of them."""

WIDE: Final = 110
"""Columns of a terminal from which on the sentences stand in the rows; on a narrower one they stand below the table."""

_LINES_AROUND: Final = 6
"""Banner, header, rule, footer and the cursor's line."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A slot as it is shown; times in monotonic seconds."""

    event: SlotChanged
    unit_began: float = 0.0
    step_began: float = 0.0
    ended: float | None = None

    def after(self, event: SlotChanged) -> "_Row":
        """Return the row after an event."""
        if event.state is SlotState.RUNNING:
            is_same_unit = self.event.state is SlotState.RUNNING
            is_same_step = is_same_unit and self.event.step == event.step
            return _Row(
                event=event,
                unit_began=self.unit_began if is_same_unit else event.at,
                step_began=self.step_began if is_same_step else event.at,
            )
        if event.state.is_final and not self.event.state.is_final:
            return replace(self, event=event, ended=event.at)
        return replace(self, event=event)


class Counters:
    """How many boards passed and failed, and how fast."""

    def __init__(self) -> None:
        self.passed = self.done_before = self.failed = 0
        self._began: float | None = None
        self._ended = 0.0

    def take(self, event: SlotChanged) -> None:
        """Count an event."""
        if event.state is SlotState.RUNNING and self._began is None:
            self._began = event.at
        self.passed += event.state is SlotState.PASSED
        self.done_before += event.state is SlotState.DONE_BEFORE
        self.failed += event.state is SlotState.FAILED
        if event.state.is_final:
            self._ended = event.at

    @property
    def per_minute(self) -> float:
        """Boards that passed, a minute, from the first one's begin to the last one's end."""
        elapsed = self._ended - self._began if self._began is not None else 0.0
        return self.passed * 60 / elapsed if elapsed > 0 else 0.0


class LiveTable:
    """A table that is drawn again and again.

    Args:
        slots: names of the slots, in the order of the rows.
        console: the terminal.
        rehearsal: whether the boards are virtual.
        clock: monotonic seconds, the same clock as that of the events.
    """

    def __init__(
        self,
        slots: Sequence[str],
        console: Console,
        *,
        rehearsal: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rows = {name: _Row(SlotChanged(slot=name, state=SlotState.EMPTY)) for name in slots}
        self._counters = Counters()
        self._notices: dict[str, Notice] = {}
        self._console = console
        self._is_rehearsal = rehearsal
        self._clock = clock
        self._has_footer = True
        self._is_stopping = False
        self._live = Live(
            console=console,
            get_renderable=lambda: self,
            refresh_per_second=REFRESH_HZ,
            vertical_overflow="crop",
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        """Begin; the first event begins the drawing, since until then the terminal may ask for a PIN."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Draw the last state and stop; its counts stand in the sentence that follows a run that ended well."""
        self._has_footer = kind is not None
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take an event; the next drawing shows it."""
        if isinstance(event, Notice):
            self._notices = {**self._notices, event.subject: event}
            return
        row = self._rows.get(event.slot, _Row(SlotChanged(slot=event.slot, state=SlotState.EMPTY)))
        if self._is_stopping and event.state is SlotState.EMPTY and row.event.state.is_final:
            return  # the virtual boards of a rehearsal go with it; what became of them is what the last drawing is for
        self._rows[event.slot] = row.after(event)
        self._counters.take(event)
        if not self._live.is_started:
            self._live.start(refresh=True)

    def stopping(self) -> None:
        """Say below the table that no other board is begun."""
        self._is_stopping = True

    def close(self, summary: Summary) -> None:
        """Print what the run came to."""
        self._console.print(Text(sentence_of(summary), style="bold"), soft_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw; ``rich`` calls this."""
        now = self._clock()
        rows = list(self._rows.values())
        is_narrow = options.max_width < WIDE
        advice = [line for row in rows if is_narrow and (line := _advice(row.event))]
        advice += [_notice(notice) for notice in self._notices.values()]
        room = options.max_height - _LINES_AROUND - sum(line.cell_len // options.max_width + 1 for line in advice)
        shown, hidden = _fitting(rows, max(room, options.max_height // 2)) if self._live.is_started else (rows, 0)
        parts: list[Table | Text] = []
        if self._is_rehearsal:
            parts.append(Text(f" {REHEARSAL} ", style="black on yellow", overflow="ellipsis", no_wrap=True))
        parts.append(_table(shown, now, with_advice=not is_narrow))
        if hidden:
            parts.append(Text(f"… and {hidden} more slots; make the window higher to see them", style="dim"))
        footer = [self._footer()] if self._has_footer else []
        if self._is_stopping and self._has_footer:
            footer.append(Text(STOPPING, style="bold yellow", overflow="ellipsis", no_wrap=True))
        yield from console.render(Group(*parts, *advice, *footer), options)

    def _footer(self) -> Text:
        counters = self._counters
        return Text.assemble(
            (f"passed {counters.passed}", "green"),
            "   ",
            (f"failed {counters.failed}", "red" if counters.failed else "default"),
            "   ",
            f"done before {counters.done_before}   {counters.per_minute:.0f} units/minute",
        )


def _fitting(rows: list[_Row], room: int) -> tuple[list[_Row], int]:
    """Return the rows that fit, in their order, and how many do not; what needs eyes goes first."""
    if len(rows) <= room:
        return rows, 0
    ranks = {state: rank for rank, state in enumerate(_URGENCY)}
    order = sorted(range(len(rows)), key=lambda index: (ranks.get(rows[index].event.state, len(ranks)), index))
    chosen = sorted(order[: max(1, room - 1)])
    return [rows[index] for index in chosen], len(rows) - len(chosen)


def _table(rows: Iterable[_Row], now: float, *, with_advice: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=with_advice, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Slot", no_wrap=True, max_width=16, overflow="ellipsis")
    table.add_column("State", no_wrap=True, width=13)
    table.add_column("Board", no_wrap=True, min_width=12, max_width=24, overflow="ellipsis")
    table.add_column("Step", no_wrap=True, min_width=10)
    table.add_column("Step s", no_wrap=True, justify="right", width=6)
    table.add_column("Unit s", no_wrap=True, justify="right", width=6)
    if with_advice:
        table.add_column("What to do", ratio=1, overflow="fold")
    for row in rows:
        cells = _cells(row, now)
        table.add_row(*cells, *([_said(row.event)] if with_advice else []))
    return table


def _cells(row: _Row, now: float) -> tuple[Text, ...]:
    event = row.event
    symbol, style = LOOKS[event.state]
    end = row.ended if event.state.is_final and row.ended is not None else now
    is_timed = event.state is not SlotState.EMPTY and row.unit_began > 0
    in_step = f"{end - row.step_began:.1f}" if is_timed and event.state is SlotState.RUNNING else ""
    return (
        Text(event.slot),
        Text(f"{symbol} {event.state.value}", style=style),
        Text(event.product_serial or event.hardware_id),
        Text(event.step if event.percent is None else f"{event.step} {event.percent} %"),
        Text(in_step),
        Text(f"{end - row.unit_began:.1f}" if is_timed else ""),
    )


def _said(event: SlotChanged) -> Text:
    """Return the sentence for the operator and the code for the engineer."""
    return Text(f"{event.sentence} [{event.code}]" if event.code else event.sentence, LOOKS[event.state][1])


def _advice(event: SlotChanged) -> Text | None:
    """Return the line below the table for a slot that has something to say."""
    if event.state in (SlotState.EMPTY, SlotState.RUNNING, SlotState.PASSED) or not event.sentence:
        return None
    return Text.assemble((f"{event.slot} {LOOKS[event.state][0]} ", LOOKS[event.state][1]), _said(event))


def _notice(notice: Notice) -> Text:
    """Return the line for something that no slot is about."""
    code = f" [{notice.code}]" if notice.code else ""
    return Text(f"{notice.subject}: {notice.sentence}{code}", "bold red" if notice.code else "dim")
