"""Serial numbers of certificates, as they are shown and as people copy them."""

import pytest

from hsm.serials import MAX_SERIAL_BITS, copied, shown

SERIAL = 0x11B9ECA091353D7820B9FCA8CC556ED


@pytest.mark.parametrize(
    "text",
    [
        "011b9eca091353d7820b9fca8cc556ed",
        "11b9eca091353d7820b9fca8cc556ed",
        "00000000011b9eca091353d7820b9fca8cc556ed",
        "0x011B9ECA091353D7820B9FCA8CC556ED",
        "01:1b:9e:ca:09:13:53:d7:82:0b:9f:ca:8c:c5:56:ed",
        "serial=011B9ECA091353D7820B9FCA8CC556ED",
        "  Serial = 011b9eca091353d7820b9fca8cc556ed\n",
    ],
)
def test_serial_is_understood_as_others_write_it(text):
    assert copied(text) == SERIAL


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0x",
        "-1",
        "1g",
        "1::2",
        ":1",
        "1:",
        "+1",
        "1_0",
        "12 34",
        "\N{FULLWIDTH DIGIT ONE}",
        f"{1 << MAX_SERIAL_BITS:x}",
    ],
)
def test_what_is_no_serial_is_none(text):
    assert copied(text) is None


def test_long_text_that_is_no_serial_is_refused_at_once():
    assert copied("11" * 5000 + "g") is None


def test_serial_is_shown_with_all_digits_of_its_octets():
    assert shown(SERIAL) == "011b9eca091353d7820b9fca8cc556ed"
    assert shown(1 << 158) == f"{1 << 158:x}"
