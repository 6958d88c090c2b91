"""Boards that answer in bad faith: always a ``StationError``, quickly, with nothing dangerous in its text."""

import asyncio
import time
import tracemalloc

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_tools.provisioning import MAX_CSR
from station.devices import Locks
from station.devices.smp import SmpDriver, Timeouts
from station.errors import DeviceError, Garbled, StationError
from station.testing import ScriptedBoard, Verb, frame

QUICK = Timeouts(identify=(0.02,), answer=(0.02,), crypto=(0.02,))


@pytest.fixture
def board():
    return ScriptedBoard()


def drive(board):
    return SmpDriver(board.plug(), timeouts=QUICK)


async def walk(driver, make_chain):
    await driver.identify()
    chain = make_chain(await driver.make_key())
    await driver.install(chain)
    await driver.read_back(chain)
    await driver.prove(bytes(32))
    await driver.lock(Locks.DEBUG)
    await driver.lock_state()


async def refused(board, verb, make_chain):
    """Walk the whole way and return the error that ends it in ``verb``."""
    with pytest.raises(StationError) as error:
        await walk(drive(board), make_chain)
    assert board.requests[-1][0] is verb
    assert str(error.value).isprintable()
    assert all(fact.isprintable() for fact in error.value.facts.values())
    return error.value


ESCAPE = "\x1b[2J\x1b[31mOWNED\x07"

BAD_FIELDS = [
    (Verb.IDENT, {"hw": ESCAPE}),
    (Verb.IDENT, {"hw": ""}),
    (Verb.IDENT, {"hw": "A" * 65}),
    (Verb.IDENT, {"hw": "../../etc/passwd"}),
    (Verb.IDENT, {"hw": "BOARD\n0001"}),
    (Verb.IDENT, {"hw": "BOARD-0001\n"}),
    (Verb.IDENT, {"hw": "\uff22OARD"}),
    (Verb.IDENT, {"hw": b"BOARD-0001"}),
    (Verb.IDENT, {"hw": 7}),
    (Verb.IDENT, {"hw": None}),
    (Verb.IDENT, {"model": ESCAPE}),
    (Verb.IDENT, {"model": ""}),
    (Verb.IDENT, {"model": "m" * 33}),
    (Verb.IDENT, {"fw": ESCAPE}),
    (Verb.IDENT, {"fw": "\u202e1.0"}),
    (Verb.IDENT, {"img": bytes(31)}),
    (Verb.IDENT, {"img": bytes(33)}),
    (Verb.IDENT, {"img": "a" * 32}),
    (Verb.IDENT, {"leaf": b""}),
    (Verb.IDENT, {"leaf": bytes(20)}),
    (Verb.IDENT, {"st": 4}),
    (Verb.IDENT, {"st": -1}),
    (Verb.IDENT, {"st": "0"}),
    (Verb.IDENT, {"st": True}),
    (Verb.IDENT, {"buf": 0}),
    (Verb.IDENT, {"buf": -1}),
    (Verb.IDENT, {"buf": 127}),
    (Verb.IDENT, {"buf": 512.0}),
    (Verb.IDENT, {"v": "1"}),
    (Verb.IDENT, {"v": None}),
    (Verb.IDENT, {"v": True}),
    (Verb.CSR, {"len": 0}),
    (Verb.CSR, {"len": -1}),
    (Verb.CSR, {"len": MAX_CSR + 1}),
    (Verb.CSR, {"len": 1 << 63}),
    (Verb.CSR, {"len": 10}),
    (Verb.CSR, {"off": 1}),
    (Verb.CSR, {"off": -1}),
    (Verb.CSR, {"data": b""}),
    (Verb.CSR, {"data": bytes(1000)}),
    (Verb.CSR, {"data": "text"}),
    (Verb.CHAIN_WRITE, {"off": -1}),
    (Verb.CHAIN_WRITE, {"off": 4097}),
    (Verb.CHAIN_WRITE, {"off": "1"}),
    (Verb.CHAIN_READ, {"len": 0}),
    (Verb.CHAIN_READ, {"len": 4097}),
    (Verb.CHAIN_READ, {"off": 1}),
    (Verb.CHAIN_READ, {"data": b""}),
    (Verb.CHAIN_READ, {"data": bytes(1000)}),
    (Verb.CHAIN_READ, {"sha": bytes(31)}),
    (Verb.CHAIN_READ, {"sha": "x"}),
    (Verb.PROVE, {"sig": b""}),
    (Verb.PROVE, {"sig": bytes(145)}),
    (Verb.PROVE, {"sig": None}),
    (Verb.LOCK_WRITE, {"locks": 4}),
    (Verb.LOCK_WRITE, {"locks": -1}),
    (Verb.LOCK_READ, {"locks": 255}),
    (Verb.LOCK_READ, {"locks": "1"}),
    (Verb.LOCK_READ, {"locks": 1.0}),
]


@pytest.mark.parametrize(("verb", "fields"), BAD_FIELDS, ids=repr)
async def test_a_bad_field_is_refused(board, make_chain, verb, fields):
    board.change(verb, **fields)
    assert (await refused(board, verb, make_chain)).code in ("device.malformed", "device.chain_differs")


MISSING = [
    *((Verb.IDENT, name) for name in ("v", "hw", "model", "fw", "img", "st", "buf")),
    *((Verb.CSR, name) for name in ("len", "off", "data")),
    (Verb.CHAIN_WRITE, "off"),
    *((Verb.CHAIN_READ, name) for name in ("len", "off", "data", "sha")),
    (Verb.PROVE, "sig"),
    (Verb.LOCK_WRITE, "locks"),
    (Verb.LOCK_READ, "locks"),
]


@pytest.mark.parametrize(("verb", "field"), MISSING)
async def test_a_missing_field_is_refused(board, make_chain, verb, field):
    board.drop(verb, field)
    assert (await refused(board, verb, make_chain)).code == "device.malformed"


async def test_terminal_escapes_reach_the_message_escaped(board, make_chain):
    board.change(Verb.IDENT, hw=ESCAPE)
    error = await refused(board, Verb.IDENT, make_chain)
    assert "\\x1b[2J" in str(error)
    assert "\\x1b" in error.facts["got"]


@pytest.mark.parametrize("error", [7, "x", {}, {"rc": "1", "group": 80}, {"rc": 1}, [1], {"rc": None, "group": None}])
async def test_a_return_code_of_the_wrong_form_is_refused(board, make_chain, error):
    board.script(Verb.IDENT, lambda _request, _answer: {"err": error})
    assert (await refused(board, Verb.IDENT, make_chain)).code == "device.malformed"


async def test_a_csr_that_changes_its_length_on_the_way_is_refused(make_chain):
    board = ScriptedBoard(buffer=128)
    board.change(Verb.CSR, len=300)
    board.script(Verb.CSR, lambda _request, answer: answer, times=1)
    assert (await refused(board, Verb.CSR, make_chain)).code == "device.malformed"


async def test_a_chain_that_does_not_begin_with_a_certificate_is_refused(board, make_chain):
    driver = drive(board)
    await driver.install(make_chain(await driver.make_key()))
    board.chain = b"\x30"
    board.script(Verb.CHAIN_READ, lambda _request, answer: answer)
    with pytest.raises(DeviceError, match="bad data"):
        await drive(board).read_back(None)


BOMBS = {
    "empty": b"",
    "no map": b"\x80",
    "a number": b"\x01",
    "cut off": b"\xa1\x62hw",
    "deep": b"\x81" * 3000 + b"\x01",
    "deep maps": b"\xa1\x61a" * 1000 + b"\xa0",
    "huge bytes": b"\xa1\x62hw\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
    "huge text": b"\xa1\x62hw\x7b\x00\x00\x00\xff\xff\xff\xff\xff",
    "huge array": b"\xa1\x62hw\x9b\x7f\xff\xff\xff\xff\xff\xff\xff",
    "huge map": b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",
    "endless map": b"\xbf\x62hw",
    "endless text": b"\xa1\x62hw\x7f\x61a\x61b",
    "duplicate keys": b"\xa2\x61v\x01\x61v\x01",
    "number as key": b"\xa1\x01\x01",
    "array as key": b"\xa1\x80\x01",
    "big float": b"\xa1\x61v\xc5\x82\x1b\x00\x00\x00\x10\x00\x00\x00\x00\x03",
    "decimal": b"\xa1\x61v\xc4\x82\x1b\x00\x00\x00\x10\x00\x00\x00\x00\x03",
    "bignum": b"\xa1\x61v\xc2\x42\x01\x01",
    "regular expression": b"\xa1\x61v\xd8\x23\x66(a+)+b",
    "reference to itself": b"\xd8\x1c\x81\xd8\x1d\x00",
    "date": b"\xa1\x61v\xc1\x1b\x7f\xff\xff\xff\xff\xff\xff\xff",
    "not UTF-8": b"\xa1\x61v\x62\xff\xfe",
    "not a number": b"\xa1\x61v\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    "simple value": b"\xa1\x61v\xf8\xff",
    "bytes as key": b"\xa1\x41v\x01",
    "reserved": b"\xfc",
}


@pytest.mark.parametrize("name", BOMBS)
async def test_hostile_cbor_is_refused_at_once(board, make_chain, name):
    begin = time.perf_counter()
    say_cbor(board, Verb.IDENT, BOMBS[name])
    error = await refused(board, Verb.IDENT, make_chain)
    assert error.code in ("link.garbled", "device.malformed")
    assert time.perf_counter() - begin < 1


def say_cbor(board, verb, body):
    """Answer with any body in a valid frame; the sequence number comes from the request at hand."""
    sequences = []
    right = board._answer

    def note(header, request):
        sequences.append(header[2])
        return right(header, request)

    board._answer = note
    group, command, operation = verb.value
    board.script(verb, lambda _request, _answer: frame((operation, group, sequences[-1], command), body))


async def test_maps_of_indefinite_length_are_fine(board):
    body = b"\xbf" + cbor2.dumps("locks") + b"\x03\xff"  # what Zephyr's encoder writes
    say_cbor(board, Verb.LOCK_READ, body)
    assert await drive(board).lock_state() == Locks.DEBUG | Locks.CREDENTIALS


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=200))
def test_any_body_is_an_answer_or_a_station_error(body):
    board = ScriptedBoard()
    say_cbor(board, Verb.LOCK_READ, body)
    end_in_a_station_error(board)


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
answers = st.dictionaries(
    st.sampled_from(["locks", "rc", "err", "sequence", "version", "header", "smp_data", "group"]) | st.text(max_size=5),
    json,
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(answer=answers)
def test_any_map_is_an_answer_or_a_station_error(answer):
    board = ScriptedBoard()
    board.script(Verb.LOCK_READ, lambda _request, _answer: answer)
    end_in_a_station_error(board)


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=300))
def test_any_bytes_on_the_wire_are_an_answer_or_a_station_error(raw):
    board = ScriptedBoard()
    board.say(Verb.LOCK_READ, raw)
    end_in_a_station_error(board)


def end_in_a_station_error(board):
    async def run():
        driver = SmpDriver(board.plug(), timeouts=Timeouts(answer=(0.001,)))
        try:
            return str(await driver.lock_state())
        except StationError as error:
            return str(error)

    assert asyncio.run(run()).isprintable()


async def test_a_reply_of_100_megabytes_is_cut_off_quickly_and_without_memory(board):
    link = board.plug()
    megabyte = b"\x06\x09" + b"QUJD" * (1 << 18)
    loop = asyncio.get_running_loop()
    left = 100

    def flood(_data):
        nonlocal left
        if left:
            left -= 1
            link.receive(megabyte[:65536])
            loop.call_soon(flood, b"")

    link.connect(flood)
    tracemalloc.start()
    begin = time.perf_counter()
    with pytest.raises(Garbled, match="and no answer"):
        await SmpDriver(link).identify()
    seconds = time.perf_counter() - begin
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    link.close()
    left = 0
    assert seconds < 1
    assert peak < 2 << 20


async def test_answers_that_are_there_at_once_leave_other_slots_their_turns(board):
    turns = 0

    async def other_slot():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    board.script(Verb.CSR, lambda request, _answer: {"len": MAX_CSR, "off": request["off"], "data": b"0"})
    other = asyncio.create_task(other_slot())
    await drive(board).make_key()
    other.cancel()
    assert turns >= MAX_CSR
