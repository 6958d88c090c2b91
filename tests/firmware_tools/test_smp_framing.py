"""Messages on the wire, raw and in Base64. The Base64 reader has its tests in tests/station/test_smp_driver_wire.py."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_tools.smp_framing import MESSAGE_LIMIT, Framing, Header, RawReader, encode, wire_size


def message(body=b"\xa0", sequence=42):
    return bytes([8 | 3, 0, *len(body).to_bytes(2), 0, 1, sequence, 1]) + body


bodies = st.binary(max_size=300).map(lambda rest: b"\xa1" + rest)


def split(data, cuts):
    edges = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(edges)] or [data]


@pytest.mark.parametrize("framing", Framing)
@given(size=st.integers(9, MESSAGE_LIMIT))
def test_the_size_on_the_wire_is_known_before(framing, size):
    assert wire_size(size, framing) == len(encode(bytes(size), framing))


@given(first=bodies, second=bodies, cuts=st.lists(st.integers(0, 1000), max_size=8))
def test_raw_messages_are_found_in_any_pieces(first, second, cuts):
    reader = RawReader()
    data = message(first) + message(second)
    assert [m for piece in split(data, cuts) for m in reader.feed(piece)] == [message(first), message(second)]


def test_a_boot_log_before_a_raw_message_does_no_harm():
    assert RawReader().feed(b"\r\nROM v1.3\r\n\tclock 48 MHz\r\n" + message()) == [message()]


def test_a_raw_message_that_stopped_is_forgotten_after_a_silence():
    reader = RawReader()
    reader.feed(message(b"\xa1" + bytes(50))[:20])
    reader.silence()
    assert (reader.feed(message()), reader.damaged) == ([message()], 1)


def test_a_raw_message_is_no_larger_than_the_limit():
    assert RawReader().feed(bytes([11, 0]) + (MESSAGE_LIMIT).to_bytes(2) + bytes([0, 1, 1, 1, 0xA0]) + message())


@given(noise=st.binary(max_size=500), cuts=st.lists(st.integers(0, 1000), max_size=8))
def test_a_raw_reader_holds_no_more_than_one_message(noise, cuts):
    reader = RawReader()
    for piece in split(noise * 40, cuts):
        assert all(Header.of(found) is not None for found in reader.feed(piece))
    assert len(reader._buffer) <= MESSAGE_LIMIT
