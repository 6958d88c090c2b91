import asyncio
import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smp import packet

from firmware_tools.smp_framing import LINE_LIMIT, MESSAGE_LIMIT, FrameReader, Header
from station.devices.smp_wire import DAMAGE_LIMIT, TALK_LIMIT, SmpTransport
from station.errors import Garbled, LinkError, NoAnswer
from station.testing import MemoryLink, frame

REQUEST = bytes([8 | 2, 0, 0, 1, 0, 80, 42, 1, 0xA0])
"""A write of group 80, command 1, sequence 42, with an empty map."""

ASKED = (2, 80, 42, 1)
ANSWER = frame(ASKED, b"\xa1\x61a\x01")
DAMAGED = ANSWER[:-4] + bytes([ANSWER[-4] ^ 1]) + ANSWER[-3:]
QUICK = (0.02, 0.02)


def message(body=b"\xa0", sequence=42):
    return bytes([8 | 3, 0, *len(body).to_bytes(2), 0, 80, sequence, 1]) + body


def encoded(body=b"\xa0", line_length=128):
    return b"".join(packet.encode(message(body), line_length))


noise = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [b"\x06\x09", b"\x04\x14", b"\n", b"\r\n", b"\x06", b"AAAA", b"[00:01] boot\n", encoded(), encoded()[:9]]
        ),
    ),
    max_size=12,
).map(b"".join)


def split(data, cuts):
    edges = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(edges)] or [data]


# The frame reader.


@given(data=noise, cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_any_bytes_in_any_pieces_are_read(data, cuts):
    reader = FrameReader()
    for piece in split(data, cuts):
        for found in reader.feed(piece):
            assert Header.of(found) is not None


@given(before=noise, body=st.binary(max_size=400), cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_a_frame_after_any_noise_is_found(before, body, cuts):
    reader = FrameReader()
    found = [frame for piece in split(before + encoded(body), cuts) for frame in reader.feed(piece)]
    assert found[-1] == message(body)


@given(data=noise, cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_how_the_bytes_are_cut_does_not_matter(data, cuts):
    pieces, whole = FrameReader(), FrameReader()
    found = [frame for piece in split(data, cuts) for frame in pieces.feed(piece)]
    assert (found, pieces.damaged) == (whole.feed(data), whole.damaged)


@given(body=st.binary(min_size=200, max_size=400), logs=st.lists(st.text("abc [:]#", max_size=30), max_size=4))
def test_log_lines_between_the_lines_of_a_frame_do_not_matter(body, logs):
    first, *rest = encoded(body).splitlines(keepends=True)
    between = "".join(f"{log}\r\n" for log in logs).encode()
    assert FrameReader().feed(between.join([b"", first, *rest])) == [message(body)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_either_end_of_line_is_fine(end):
    assert FrameReader().feed(encoded(bytes(300)).replace(b"\n", end)) == [message(bytes(300))]


@given(position=st.integers(2, 40), bit=st.integers(0, 7))
def test_a_flipped_bit_never_gives_another_message(position, bit):
    damaged = bytearray(encoded(bytes(30)))
    damaged[position] ^= 1 << bit
    assert FrameReader().feed(bytes(damaged)) in ([], [message(bytes(30))])


def test_an_unfinished_frame_gives_way_to_the_next():
    reader = FrameReader()
    reader.feed(encoded(bytes(400)).splitlines(keepends=True)[0])
    assert reader.feed(encoded()) == [message()]


def test_a_message_of_the_greatest_size_is_taken():
    body = bytes(MESSAGE_LIMIT - 8)
    assert FrameReader().feed(encoded(body)) == [message(body)]


def test_a_message_beyond_the_greatest_size_is_damage():
    reader = FrameReader()
    assert reader.feed(encoded(bytes(MESSAGE_LIMIT - 7))) == []
    assert reader.damaged == 1


def test_a_header_that_disagrees_with_the_frame_is_damage():
    reader = FrameReader()
    assert reader.feed(b"".join(packet.encode(message() + b"more"))) == []
    assert reader.damaged == 1


@pytest.mark.parametrize(
    "flood", [b"A", b"\x06\x09", b"\x06\x09" + b"QUJD" * 30, b"\x04\x14AAAA\n", b"\x06\x09/////\n"]
)
def test_a_flood_is_read_in_bounded_memory(flood):
    reader = FrameReader()
    chunk = (flood * 65536)[:65536]
    tracemalloc.start()
    for _ in range(10):
        reader.feed(chunk)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(reader._rest) <= LINE_LIMIT + 1
    assert held < 65536


def test_a_frame_behind_a_long_line_without_an_end_is_found():
    reader = FrameReader()
    for _ in range(100):
        reader.feed(b"." * 1000)
    assert reader.feed(encoded()) == [message()]


# The exchange.


class Wire:
    """A transport and the board's end of its wire."""

    def __init__(self, *answers):
        self.link, self.board = MemoryLink.pair()
        self.transport = SmpTransport(self.link)
        self.asked = []
        self._answers = list(answers)
        self.board.connect(self.link.receive)
        self.link.connect(self._hear)

    def _hear(self, data):
        self.asked.append(data)
        if self._answers:
            self.link.receive(self._answers.pop(0))

    async def ask(self):
        return await self.transport.exchange(REQUEST, QUICK)


async def test_an_answer_is_returned_whole():
    assert (await Wire(ANSWER).ask())[8:] == b"\xa1\x61a\x01"


@pytest.mark.parametrize(
    "noise",
    [
        b"*** Booting Zephyr OS build v4.1.0 ***\r\n",
        b"uart:~$ ",
        b"".join(packet.encode(REQUEST)),  # our own echo
        frame((2, 80, 41, 1), b"\xa0"),  # a late answer to the request before
        frame((2, 80, 42, 2), b"\xa0"),  # another command's
        frame((0, 80, 42, 1), b"\xa0"),  # another operation's
        frame((2, 1, 42, 1), b"\xa0"),  # another group's
        ANSWER[:20],
        b"\xff\xfe\x00" * 50,
    ],
)
async def test_what_comes_before_the_answer_does_not_matter(noise):
    wire = Wire(noise + ANSWER)
    assert (await wire.ask())[8:] == b"\xa1\x61a\x01"
    assert len(wire.asked) == 1


async def test_silence_is_followed_by_another_try():
    wire = Wire(b"", ANSWER)
    assert (await wire.ask())[8:] == b"\xa1\x61a\x01"
    assert wire.asked[1] == b"\n" + wire.asked[0]  # the newline ends what half a line the board may hold


async def test_a_late_answer_to_the_first_try_answers_the_second():
    wire = Wire()
    asking = asyncio.create_task(wire.transport.exchange(REQUEST, (0.01, 5.0)))
    async with asyncio.timeout(5):
        while len(wire.asked) < 2:  # noqa: ASYNC110  the second try is the event
            await asyncio.sleep(0.001)
    wire.link.receive(ANSWER)
    assert (await asking)[8:] == b"\xa1\x61a\x01"


async def test_a_damaged_answer_is_asked_for_again_at_once():
    wire = Wire(DAMAGED, ANSWER)
    begin = time.perf_counter()
    await wire.transport.exchange(REQUEST, (5.0,))
    assert time.perf_counter() - begin < 1
    assert len(wire.asked) == 2


async def test_answers_that_are_always_damaged_are_garbled_after_some_tries():
    wire = Wire(*[DAMAGED] * 20)
    with pytest.raises(Garbled, match="damaged on the wire"):
        await wire.ask()
    assert len(wire.asked) == DAMAGE_LIMIT


async def test_silence_is_no_answer():
    with pytest.raises(NoAnswer, match="no byte came in 2 tries"):
        await Wire().ask()


async def test_talk_that_is_no_frame_is_garbled():
    with pytest.raises(Garbled, match="21 bytes came in 2 tries, and no answer"):
        await Wire(b"login: ", b"\r\nPassword: \r\n").ask()


async def test_talk_without_end_is_cut_off_at_once():
    wire = Wire(b"tick tock\n" * 10_000)
    begin = time.perf_counter()
    with pytest.raises(Garbled, match="and no answer"):
        await wire.transport.exchange(REQUEST, (5.0,))
    assert time.perf_counter() - begin < 1


async def test_stale_frames_without_end_are_cut_off():
    wire = Wire(frame((2, 80, 41, 1), b"\xa0") * (TALK_LIMIT // 20))
    with pytest.raises(Garbled, match="and no answer"):
        await wire.transport.exchange(REQUEST, (5.0,))


async def test_a_request_that_is_no_message_is_our_own_mistake():
    with pytest.raises(LinkError, match="no SMP message"):
        await SmpTransport(MemoryLink()).exchange(b"\x00\x01")


async def test_a_slow_wire_gets_more_time():
    link = MemoryLink(baud=300)  # a second is 30 bytes
    answering = asyncio.get_running_loop()
    link.connect(lambda _data: answering.call_later(0.1, link.receive, ANSWER))
    assert await SmpTransport(link).exchange(REQUEST, (0.0,))
