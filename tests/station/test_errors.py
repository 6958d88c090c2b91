import pytest

from station.errors import FACT_LIMIT, NoAnswer, StationError, UnitRefused, printable


def test_terminal_escapes_of_a_device_reach_no_screen():
    error = UnitRefused("the board says \x1b[2J\x07", got="\x1b]0;owned\x07")
    assert str(error) == r"the board says \x1b[2J\x07"
    assert error.facts["got"] == r"\x1b]0;owned\x07"


def test_a_message_stays_one_line():
    assert "\n" not in str(StationError("two\nlines"))


def test_a_device_can_not_flood_the_log():
    assert len(printable("x" * 1_000_000)) < FACT_LIMIT + 50
    assert len(printable(b"x" * 1_000_000)) < FACT_LIMIT + 50


def test_direction_marks_do_not_turn_a_line_around():
    assert printable("a\u202eb") == r"a\u202eb"


def test_an_error_may_be_more_exact_than_its_class():
    assert NoAnswer("silence").code == "link.no_answer"
    assert NoAnswer("silence", code="step.deadline").code == "step.deadline"
    assert NoAnswer.code == "link.no_answer"


@pytest.mark.parametrize("error", [StationError, *StationError.__subclasses__()])
def test_every_error_tells_the_operator_the_next_move(error):
    assert error("x").operator.endswith(".")
