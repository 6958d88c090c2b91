"""Product serials, check characters and MAC addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.numbering import CheckScheme, Numbering, common_serial, luhn, mac_number, mac_text, mod_37_36


@pytest.mark.parametrize(("text", "digit"), [("7992739871", "3"), ("0", "0"), ("1", "8"), ("7-992 739A871", "3")])
def test_luhn_is_that_of_iso_7812(text, digit):
    assert luhn(text) == digit


@pytest.mark.parametrize(("text", "character"), [("A12425GABC1234002", "M"), ("a1-2425G-ABC1234002-", "M")])
def test_mod_37_36_is_that_of_iso_7064(text, character):
    """The example is that of the Global Release Identifier (IFPI), whose check character is this one."""
    assert mod_37_36(text) == character


@given(number=st.integers(0, 10**9), place=st.integers(0, 8), digit=st.integers(1, 9))
def test_luhn_sees_any_one_wrong_digit(number, place, digit):
    text = f"{number:09d}"
    wrong = text[:place] + str((int(text[place]) + digit) % 10) + text[place + 1 :]
    assert luhn(wrong) != luhn(text)


@given(text=st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1), data=st.data())
def test_mod_37_36_sees_any_one_wrong_character(text, data):
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from([one for one in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ" if one != text[place]]))
    assert mod_37_36(text[:place] + other + text[place + 1 :]) != mod_37_36(text)


@pytest.mark.parametrize(
    ("numbering", "serial"),
    [
        (Numbering("SN{number:06d}"), "SN000042"),
        (Numbering("{number}"), "42"),
        (Numbering("A-{number:06d}{check}", CheckScheme.LUHN), "A-0000422"),
        (Numbering("{number:05X}-{check}", CheckScheme.MOD_37_36), "0002A-4"),
        (Numbering("{check}.{number:x}", CheckScheme.MOD_37_36), "9.2a"),
    ],
)
def test_a_serial_tells_its_number(numbering, serial):
    assert numbering.fault(1, 99999) is None
    assert numbering.serial(42) == serial
    assert numbering.number(serial) == 42


@pytest.mark.parametrize(
    "serial", ["SN000043x", "SN42", "sn000042", "SN00004\N{FULLWIDTH DIGIT TWO}", "", "SN-00042", "SN00004A"]
)
def test_a_serial_that_the_format_never_makes_has_no_number(serial):
    assert Numbering("SN{number:06d}").number(serial) is None


def test_a_serial_with_a_wrong_check_character_has_no_number():
    assert Numbering("A{number:04d}{check}", CheckScheme.LUHN).number("A00423") is None


@pytest.mark.parametrize(
    ("numbering", "said"),
    [
        (Numbering("SN"), "must hold {number} once"),
        (Numbering("{model}{number}"), "must hold {number} once"),
        (Numbering("{number.real}"), "must hold {number} once"),
        (Numbering("{number:0999999999d}"), "must hold {number} once"),
        (Numbering("{number}{number}"), "must hold {number} once"),
        (Numbering("{number"), "must hold {number} once"),
        (Numbering("{number}{check}"), "the order names no check scheme"),
        (Numbering("{number}", CheckScheme.LUHN), "must hold {check} once"),
        (Numbering("{number:x}{check}", CheckScheme.LUHN), "no Luhn digit"),
        (Numbering("SN#{number}"), "a character that no certificate takes there"),
        (Numbering("{number:0\N{ARABIC-INDIC DIGIT SIX}d}"), "must hold {number} once"),
        (Numbering("{number:99d}"), "serials of 99 characters, more than 64"),
    ],
)
def test_a_format_that_is_of_no_use_is_told(numbering, said):
    assert said in numbering.fault(1, 500)


@pytest.mark.parametrize(
    ("one", "numbers", "two", "others", "common"),
    [
        (Numbering("SN{number:06d}"), (1, 100), Numbering("SN{number:06d}"), (100, 200), "SN000100"),
        (Numbering("SN{number:06d}"), (1, 99), Numbering("SN{number:06d}"), (100, 200), None),
        (Numbering("SN{number:06d}"), (1, 999), Numbering("SN0{number:05d}"), (500, 2000), "SN000500"),
        (Numbering("SN{number}"), (10, 20), Numbering("SN{number:x}"), (16, 20), "SN10"),
        (Numbering("SN{number}"), (1, 9), Numbering("SN{number:04d}"), (1, 9), None),
        (Numbering("A{number}"), (1, 9), Numbering("B{number}"), (1, 9), None),
        (Numbering("{number}A"), (1, 9), Numbering("{number}"), (1, 99), None),
        (Numbering("{number}0"), (1, 9), Numbering("{number}"), (1, 50), "10"),
        (Numbering("{number}00"), (1, 9), Numbering("{number}0"), (1, 50), "100"),
        (Numbering("{number}0"), (1, 50), Numbering("{number}00"), (1, 9), "100"),
        (Numbering("{number}{check}", CheckScheme.LUHN), (1, 1), Numbering("{number}"), (18, 18), "18"),
    ],
)
def test_two_orders_that_would_give_one_serial_are_found_in_whatever_format(one, numbers, two, others, common):
    first, second = (range(low, high + 1) for low, high in (numbers, others))
    assert common_serial(one, first, two, second) == common
    assert common_serial(two, second, one, first) == common


def test_a_mac_address_has_one_spelling():
    assert mac_text(mac_number("02:00:5e:00:00:ff") + 1) == "02:00:5e:00:01:00"
    assert mac_number("02:00:5E:00:00:FF") is None
    assert mac_number("02-00-5e-00-00-ff") is None
