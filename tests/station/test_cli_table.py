"""``station.cli.table`` and ``station.cli.view``: what people and programs see of a run."""

import io
import json
from datetime import UTC, datetime

import pytest
from rich.console import Console

from station.cli.table import LiveTable
from station.cli.view import JsonLog, LineLog, sentence_of
from station.events import SlotChanged, SlotState, Summary

SILENT = "The board does not answer. Reseat it; if it stays silent, put it into the red bin."


def draw(events, *, slots=("1", "2", "3"), width=80, height=24, now=20.0, rehearsal=False):
    """Return what a terminal shows after some events."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False, color_system=None)
    table = LiveTable(slots, console, rehearsal=rehearsal, clock=lambda: now)
    for event in events:
        table(event)
    console.print(table)
    return console.file.getvalue()


def running(slot, step, at, **more):
    return SlotChanged(slot=slot, state=SlotState.RUNNING, step=step, at=at, **more)


def ended(slot, state, at, **more):
    return SlotChanged(slot=slot, state=state, at=at, **more)


def row_of(slot, screen):
    return next(line.split() for line in screen.splitlines() if line.startswith(f"{slot} "))


def test_a_slot_without_a_board_is_empty():
    assert row_of("2", draw([])) == ["2", "·", "empty"]


def test_a_running_unit_shows_step_and_both_times():
    screen = draw([running("1", "identify", 10.0), running("1", "sign", 18.5, hardware_id="A1")])

    assert row_of("1", screen) == ["1", "▶", "running", "A1", "sign", "1.5", "10.0"]


def test_a_new_fact_within_a_step_does_not_restart_its_clock():
    screen = draw([running("1", "identify", 10.0), running("1", "identify", 19.0, hardware_id="A1")])

    assert row_of("1", screen)[-2:] == ["10.0", "10.0"]


def test_a_long_step_shows_how_far_it_is_and_its_clock_goes_on():
    screen = draw([running("1", "flash", 10.0), running("1", "flash", 18.0, percent=43)])

    assert row_of("1", screen) == ["1", "▶", "running", "flash", "43", "%", "10.0", "10.0"]


def test_a_log_has_no_line_for_each_percent_and_a_program_gets_them(capsys):
    event = running("1", "flash", 18.0, percent=43)
    LineLog()(event)
    assert capsys.readouterr().out == ""
    JsonLog()(event)
    assert json.loads(capsys.readouterr().out)["percent"] == 43


def test_the_clock_of_a_unit_stops_with_the_unit():
    screen = draw([running("1", "sign", 10.0), ended("1", SlotState.PASSED, 12.5, step="commit", product_serial="SN1")])

    assert row_of("1", screen) == ["1", "✔", "passed", "SN1", "commit", "2.5"]


def test_the_next_board_begins_a_new_clock():
    screen = draw([running("1", "sign", 5.0), ended("1", SlotState.PASSED, 6.0), running("1", "identify", 19.0)])

    assert row_of("1", screen) == ["1", "▶", "running", "identify", "1.0", "1.0"]


def test_the_footer_counts():
    events = [
        running("1", "sign", 10.0),
        ended("1", SlotState.PASSED, 12.0),
        ended("2", SlotState.FAILED, 12.0),
        ended("3", SlotState.DONE_BEFORE, 12.0),
    ]

    assert draw(events, now=40.0).splitlines()[-1].split("   ") == [
        "passed 1",
        "failed 1",
        "done before 1",
        "30 units/minute",
    ]


def test_a_table_says_that_the_line_is_stopping():
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    table = LiveTable(["1"], console)
    with table:
        table(running("1", "sign", 10.0))
        table.stopping()
        table._live.refresh()
        assert "ctrl-C cuts them off" in console.file.getvalue()


def test_boards_that_go_with_the_station_leave_what_became_of_them():
    """The boards of a rehearsal are unplugged at its end; the last drawing is for reading all the same."""
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=False, color_system=None)
    table = LiveTable(["1", "2"], console, clock=lambda: 20.0)
    table(ended("1", SlotState.PASSED, 12.0, product_serial="SN1"))
    table(ended("2", SlotState.FAILED, 12.0))
    table(ended("2", SlotState.EMPTY, 13.0))
    table.stopping()
    table(ended("1", SlotState.EMPTY, 14.0))
    table._live.stop()
    console.print(table)
    screen = console.file.getvalue()
    assert row_of("1", screen)[2:4] == ["passed", "SN1"]
    assert row_of("2", screen) == ["2", "·", "empty"]


def test_counts_are_said_once_when_a_run_ends_well():
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    table = LiveTable(["1"], console)
    with table:
        table(ended("1", SlotState.PASSED, 12.0))
    table.close(Summary(passed=1, done_before=0, failed=0, stopped=0, seconds=1.0))
    screen = console.file.getvalue()

    assert screen[screen.rindex("Slot") :].count("units/minute") == 1


@pytest.mark.parametrize("state", SlotState)
def test_each_state_has_a_symbol_of_its_own(state):
    def symbol(shown):
        return row_of("1", draw([ended("1", shown, 1.0)]))[1]

    assert [other for other in SlotState if symbol(other) == symbol(state)] == [state]


def test_a_narrow_terminal_shows_the_sentence_below_the_table():
    screen = draw([ended("2", SlotState.FAILED, 1.0, sentence=SILENT, code="link.no_answer")], width=80)

    below = screen[screen.index("2 ✘ The") :]
    assert " ".join(below.split()).startswith(f"2 ✘ {SILENT} [link.no_answer]")


def test_a_wide_terminal_shows_the_sentence_in_the_row():
    screen = draw([ended("2", SlotState.FAILED, 1.0, sentence=SILENT, code="link.no_answer")], width=180)

    assert f"{SILENT} [link.no_answer]" in next(line for line in screen.splitlines() if line.startswith("2 "))


@pytest.mark.parametrize("width", [60, 80, 110, 200])
def test_no_line_is_wider_than_the_terminal(width):
    event = ended(
        "1", SlotState.FAILED, 1.0, step="read back", hardware_id="X" * 64, sentence=SILENT * 3, code="link.no_answer"
    )

    assert max(map(len, draw([event], width=width, rehearsal=True).splitlines())) <= width


def test_markup_from_a_device_is_shown_and_not_obeyed():
    screen = draw([running("1", "[red]", 1.0, hardware_id="[bold]A1[/bold]")])

    assert "[bold]A1[/bold]" in screen
    assert "[red]" in screen


def test_a_rehearsal_says_so():
    assert draw([], rehearsal=True).startswith(" REHEARSAL: ")


def test_a_real_run_does_not_say_rehearsal():
    assert "REHEARSAL" not in draw([])


def test_what_needs_eyes_stays_when_the_terminal_is_low():
    console = Console(file=io.StringIO(), width=80, height=14, force_terminal=True, color_system=None)
    table = LiveTable([str(number) for number in range(1, 65)], console, clock=lambda: 2.0)
    with table:
        table(ended("64", SlotState.FAILED, 1.0))
        table(running("50", "sign", 1.0))
        table._live.refresh()
        screen = console.file.getvalue()
    shown = screen[screen.rindex("Slot") :]

    assert [slot in shown for slot in ("64    ✘ failed", "50    ▶ running", "more slots")] == [True] * 3
    assert shown.count("\n") < 14


def test_a_log_has_one_line_a_change(capsys):
    log = LineLog(rehearsal=True, now=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    with log:
        log(running("1", "identify", 1.0))
        log(ended("1", SlotState.FAILED, 2.0, step="sign", hardware_id="A1", sentence="Reseat it.", code="link.error"))
    log.close(Summary(passed=0, done_before=0, failed=1, stopped=0, seconds=1.0))

    assert capsys.readouterr().out.splitlines() == [
        "REHEARSAL: the boards are virtual; no unit of this run is real",
        "03:04:05  slot 1  running  identify",
        "03:04:05  slot 1  failed  sign  A1: Reseat it. [link.error]",
        "0 passed, 1 failed",
    ]


def test_a_program_gets_an_object_a_line(capsys):
    log = JsonLog(now=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    with log:
        log(running("1", "identify", 1.0, hardware_id="A\x1b1"))
    log.close(Summary(passed=2, done_before=1, failed=0, stopped=0, seconds=3.0))

    first, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        "event": "slot",
        "time": "2026-01-02T00:00:00+00:00",
        "slot": "1",
        "state": "running",
        "step": "identify",
        "hardware_id": "A\x1b1",
        "product_serial": "",
        "sentence": "",
        "code": "",
        "detail": "",
    }
    assert last == {
        "event": "summary",
        "time": "2026-01-02T00:00:00+00:00",
        "passed": 2,
        "done_before": 1,
        "failed": 0,
        "stopped": 0,
        "seconds": 3.0,
        "units_per_minute": 40.0,
    }


@pytest.mark.parametrize(
    ("summary", "sentence"),
    [
        (Summary(passed=0, done_before=0, failed=0, stopped=0, seconds=0.0), "0 passed, 0 failed"),
        (
            Summary(passed=8, done_before=1, failed=0, stopped=2, seconds=4.0),
            "8 passed, 0 failed, 1 done before, 2 stopped before the end (plug them in again), 4.0 s, 120 units/minute",
        ),
    ],
)
def test_a_summary_is_one_sentence(summary, sentence):
    assert sentence_of(summary) == sentence
