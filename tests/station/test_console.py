"""Clean lines out of a console that people read."""

import pytest

from station.devices.console import ConsoleText, Shape
from station.devices.patterns import Pattern
from station.devices.zephyr_shell_wire import PROMPT

ZEPHYR = Shape(prompt=PROMPT)
NOISY = (
    b"\x1b[1;32muart:~$ \x1b[mnrf_cloud_cred csr 42\r\n"
    b"CSR: MIHM\x1b[0m[00:00:07.115,234] <inf> app: OK\r\n"
    b"MIGPAg\x1b[0m[00:00:08.115,234] <wrn> net: CSR: no\r\nEAMA==\r\n"
    b"[00:00:09.115,234] <inf> app: between\r\n"
    b"CSR generation complete\r\n\x1b[1;32muart:~$ \x1b[m"
)
CLEAN = ["nrf_cloud_cred csr 42", "CSR: MIHMMIGPAgEAMA==", "CSR generation complete"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_logs_in_the_middle_of_a_line_leave_it_whole_whatever_the_pieces(size):
    text = ConsoleText(ZEPHYR)
    lines = [line for at in range(0, len(NOISY), size) for line in text.take(NOISY[at : at + size])]
    assert lines == CLEAN


def test_a_prompt_is_taken_from_the_beginning_of_a_line_only():
    text = ConsoleText(ZEPHYR)
    assert text.take(b"uart:~$ uart:~$ say uart:~$ twice\n") == ["say uart:~$ twice"]


def test_a_console_has_the_prompt_and_the_logs_that_its_shape_says():
    text = ConsoleText(Shape(prompt=Pattern("^> "), logs=(Pattern(r"^\* "),)))
    assert text.take(b"> > state=blank\n* temp 23.4 C\n[00:00:07.115,234] <inf> x\nok\n") == [
        "state=blank",
        "[00:00:07.115,234] <inf> x",
        "ok",
    ]


def test_a_prompt_that_matches_nothing_ends():
    assert ConsoleText(Shape(prompt=Pattern("^(x)?"))).take(b"xxab\n") == ["ab"]


def test_a_line_without_end_takes_no_memory():
    text = ConsoleText(ZEPHYR)
    for _ in range(100):
        assert text.take(b"A" * 4096) == []
    assert len(text._rest) <= 8192
