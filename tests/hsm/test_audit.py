"""Comparing two counts that know nothing of each other."""

import pytest

from hsm.audit import Claim, compare
from hsm.counting import SignatureCount

KEY = bytes(32)


def count(signatures, lost=0):
    return SignatureCount(KEY, signatures, probes=5, lost_at_most=lost)


def audit(asked, *claims, lost=0, accepted=0, name="CN=CA", later=None):
    counted = None if asked is None else count(asked, lost)
    after = counted if later is None else count(later, lost)
    return compare(KEY, name=name, before=counted, claims=claims, after=after, accepted=accepted)


MANIFEST = Claim("manifest.db", tries=10, certain=9)
CRLS = Claim("ca.db: crl", tries=4, certain=0)


@pytest.mark.parametrize("asked", [14, 13, 10, 9])
def test_between_what_is_certain_and_what_was_tried_all_is_well(asked):
    made = audit(asked, MANIFEST, CRLS)
    assert made.differences == ()
    assert (made.tries, made.certain, made.unasked) == (14, 9, 14 - asked)


def test_signature_that_nobody_knows_of_is_a_difference():
    (difference,) = audit(15, MANIFEST, CRLS).differences
    assert (difference.code, difference.signatures) == ("audit.unrecorded", 1)
    assert "1 more than anybody knows of" in difference.sentence


def test_certificate_that_was_not_counted_is_a_difference():
    (difference,) = audit(8, MANIFEST).differences
    assert (difference.code, difference.signatures) == ("audit.uncounted", -1)


def test_missing_count_is_a_difference_where_something_was_signed():
    assert [one.code for one in audit(None, MANIFEST).differences] == ["audit.uncounted"]
    assert audit(None).differences == ()


def test_what_a_power_cut_hides_counts_in_favour():
    assert audit(5, MANIFEST, lost=4).differences == ()
    assert audit(5, MANIFEST, lost=3).differences != ()


def test_power_cut_excuses_no_surplus():
    assert [one.code for one in audit(11, MANIFEST, lost=64).differences] == ["audit.unrecorded"]


def test_station_that_works_meanwhile_makes_no_difference():
    """Three more were tried, counted and recorded between the first look at the count and the second."""
    assert audit(7, MANIFEST, later=10).differences == ()


def test_key_without_a_certificate_is_a_difference():
    assert [one.code for one in audit(1, name="").differences] == ["audit.unknown_key"]


@pytest.mark.parametrize(("asked", "accepted"), [(15, 5), (6, -3)])
def test_accepted_difference_is_one_no_more(asked, accepted):
    assert audit(asked, MANIFEST).differences != ()
    assert audit(asked, MANIFEST, accepted=accepted).differences == ()


def test_accepting_one_difference_does_not_hide_the_next():
    assert [one.signatures for one in audit(16, MANIFEST, accepted=5).differences] == [1]


def test_tries_that_were_closed_hide_nothing_any_more():
    seen = compare(KEY, name="CN=CA", before=count(10), claims=[MANIFEST, CRLS], after=count(10))
    assert seen.closable == seen.unasked == 4
    later = compare(KEY, name="CN=CA", before=count(11), claims=[MANIFEST, CRLS], after=count(11), closed=4)
    assert [(one.code, one.signatures) for one in later.differences] == [("audit.unrecorded", 1)]


def test_what_is_certain_stays_certain_when_tries_are_closed():
    made = compare(KEY, name="CN=CA", before=count(9), claims=[MANIFEST, CRLS], after=count(9), closed=5)
    assert (made.differences, made.unasked) == ((), 0)
    made = compare(KEY, name="CN=CA", before=count(8), claims=[MANIFEST, CRLS], after=count(8), closed=5)
    assert [one.code for one in made.differences] == ["audit.uncounted"]
