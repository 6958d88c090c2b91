"""Who is to blame: unit, slot or station; and what stops."""

from functools import reduce

import pytest

from station.config import QuarantineSection
from station.line.quarantine import Blame, End, Health, Scope, blame, cause, judge

RULES = QuarantineSection(boards=3, slots=3, station=3)


def after(*ends, rules=RULES, health=None):
    """Return what follows from the last of these ends, and what is known then."""
    known, verdicts = health or Health(), []
    for end in ends:
        known, verdict = judge(known, End(*end), rules)
        verdicts.append(verdict)
    return known, verdicts


def row(slot, code, count=3):
    return [(slot, f"{slot}-{number}", code) for number in range(count)]


@pytest.mark.parametrize(
    ("code", "blamed"),
    [
        ("", Blame.NOBODY),
        ("unit.stopped", Blame.NOBODY),
        ("manifest.order_exhausted", Blame.NOBODY),
        ("order.expired", Blame.NOBODY),
        ("slot.too_many_new_boards", Blame.NOBODY),
        ("unit.wrong_model", Blame.UNIT),
        ("manifest.duplicate_hardware", Blame.UNIT),
        ("link.no_answer", Blame.CONTACT),
        ("step.deadline", Blame.CONTACT),
        ("csr.signature_invalid", Blame.CONTACT),
        ("device.proof_invalid", Blame.CONTACT),
        ("pin.incorrect", Blame.STATION),
        ("hsm.no_answer", Blame.STATION),
        ("manifest.disk_full", Blame.STATION),
        ("station.bug", Blame.STATION),
        ("manifest.duplicate_key", Blame.ALARM),
        ("unit.cloned", Blame.ALARM),
        ("unit.twice_on_the_line", Blame.ALARM),
        ("issuance.signature_invalid", Blame.ALARM),
    ],
)
def test_each_end_has_somebody_to_blame(code, blamed):
    assert blame(code) is blamed


def test_silence_noise_and_a_pulled_cable_are_one_cause():
    assert cause("link.no_answer") == cause("link.garbled") == cause("link.unplugged") == cause("step.deadline")


def test_two_answers_of_boards_are_two_causes():
    assert cause("device.proof_invalid") != cause("device.lock_open")


def test_the_same_cause_with_board_after_board_in_one_slot_stops_that_slot():
    _, verdicts = after(*row("1", "link.no_answer"))
    assert [verdict.scope for verdict in verdicts] == [Scope.NOTHING, Scope.NOTHING, Scope.SLOT]
    assert verdicts[-1].code == "slot.suspected"
    assert "3 boards in a row" in verdicts[-1].sentence


def test_the_same_board_again_and_again_is_one_board():
    _, verdicts = after(*[("1", "A", "link.garbled")] * 9)
    assert {verdict.scope for verdict in verdicts} == {Scope.NOTHING}


def test_boards_that_never_said_who_they_are_count_each():
    _, verdicts = after(*[("1", "", "link.no_answer")] * 3)
    assert verdicts[-1].scope is Scope.SLOT


def test_a_line_that_hangs_up_before_anybody_spoke_is_an_empty_slot():
    known, _ = after(*[("1", "", "link.unplugged")] * 20)
    assert known == Health()


def test_a_board_that_spoke_and_went_counts():
    _, verdicts = after(*row("1", "link.unplugged"))
    assert verdicts[-1].scope is Scope.SLOT


def test_a_pass_between_clears_the_slot():
    _, verdicts = after(*row("1", "link.no_answer", 2), ("1", "good", ""), *row("1", "link.no_answer", 2))
    assert {verdict.scope for verdict in verdicts} == {Scope.NOTHING}


def test_a_pass_in_another_slot_does_not_clear_this_one():
    _, verdicts = after(*row("1", "link.no_answer", 2), ("2", "good", ""), ("1", "third", "link.no_answer"))
    assert verdicts[-1].scope is Scope.SLOT


def test_another_cause_begins_a_new_row():
    _, verdicts = after(*row("1", "link.no_answer", 2), ("1", "third", "device.lock_open"))
    assert verdicts[-1].scope is Scope.NOTHING


def test_the_same_cause_in_three_slots_stops_the_line():
    ends = [end for slot in "123" for end in row(slot, "device.proof_invalid")]
    _, verdicts = after(*ends)
    assert [verdict.scope for verdict in verdicts if verdict.scope is not Scope.NOTHING] == [
        Scope.SLOT,
        Scope.SLOT,
        Scope.LINE,
    ]
    assert verdicts[-1].code == "line.suspected"
    assert "1, 2, 3" in verdicts[-1].reason


def test_three_slots_with_three_causes_are_three_slots():
    codes = ("link.no_answer", "device.lock_open", "csr.malformed")
    _, verdicts = after(*[end for slot, code in zip("123", codes, strict=True) for end in row(slot, code)])
    assert Scope.LINE not in {verdict.scope for verdict in verdicts}


def test_a_fault_of_the_station_is_never_counted_for_a_slot():
    known, verdicts = after(*row("1", "hsm.no_answer", 2))
    assert not known.rows
    assert {verdict.blame for verdict in verdicts} == {Blame.STATION}


def test_faults_of_the_station_in_any_slots_stop_the_line():
    _, verdicts = after(*[(slot, slot, "manifest.disk_full") for slot in "124"])
    assert (verdicts[-1].scope, verdicts[-1].code) == (Scope.LINE, "line.station_fault")


def test_a_pass_says_that_the_station_works():
    _, verdicts = after(*row("1", "hsm.no_answer", 2), ("2", "good", ""), *row("3", "hsm.no_answer", 2))
    assert {verdict.scope for verdict in verdicts} == {Scope.NOTHING}


def test_an_alarm_stops_the_line_at_the_first_board():
    _, (verdict,) = after(("4", "A", "manifest.duplicate_key"))
    assert (verdict.scope, verdict.code) == (Scope.LINE, "line.alarm")


def test_a_unit_that_does_not_belong_here_stops_nothing_however_often():
    _, verdicts = after(*row("1", "unit.wrong_model", 20))
    assert {verdict.scope for verdict in verdicts} == {Scope.NOTHING}


def test_zero_is_never():
    rules = QuarantineSection(boards=0, slots=0, station=0)
    _, verdicts = after(*row("1", "link.no_answer", 50), *row("2", "hsm.no_answer", 50), rules=rules)
    assert {verdict.scope for verdict in verdicts} == {Scope.NOTHING}


def test_no_number_of_slots_may_stop_slots_only():
    rules = QuarantineSection(boards=1, slots=0)
    _, verdicts = after(*[(str(slot), "", "link.no_answer") for slot in range(9)], rules=rules)
    assert {verdict.scope for verdict in verdicts} == {Scope.SLOT}


def test_a_released_slot_starts_from_nothing():
    known, _ = after(*row("1", "link.no_answer"), *row("2", "link.no_answer"))
    again, verdicts = after(*row("1", "link.no_answer", 2), health=known.released("1"))
    assert {verdict.scope for verdict in verdicts} == {Scope.NOTHING}
    assert set(again.suspected) == {"2"}


def test_a_released_line_starts_from_nothing():
    known, _ = after(*row("1", "link.no_answer"), ("2", "A", "hsm.no_answer"))
    assert known.released() == Health()


def test_what_was_known_before_is_not_changed():
    before = Health()
    reduce(lambda health, end: judge(health, End(*end), RULES)[0], row("1", "link.no_answer"), before)
    assert before == Health()
