"""The wire as values: bytes and times in, bytes out; no clock runs here."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_tools.virtual_line.wire import BACKLOG, SLICE, Cut, Direction, Lane, Wire

BYTE_TIME = 10 / 115200


def lane(direction=Direction.TO_DEVICE, name="slot1", **wire):
    return Lane(Wire(**wire), direction, name)


def run_dry(lane):
    """Deliver at every moment the lane asks for; return (time, bytes) pairs."""
    deliveries = []
    while (now := lane.next_due) is not None:
        deliveries.append((now, lane.due(now)))
    return deliveries


def test_a_burst_of_n_bytes_ends_after_ten_bits_a_byte():
    wire = lane(baud=115200)
    wire.accept(bytes(1000), now=5.0)
    assert run_dry(wire)[-1][0] == pytest.approx(5.0 + 1000 * BYTE_TIME, abs=1e-9)


def test_bytes_in_the_middle_of_a_burst_are_at_most_a_slice_late():
    wire = lane(baud=921600)
    wire.accept(bytes(2000), now=5.0)
    arrived = 0
    for now, data in run_dry(wire):
        first_due = 5.0 + (arrived + 1) * 10 / 921600
        assert 0 <= now - first_due + 1e-9 <= SLICE + 1e-9
        arrived += len(data)
    assert arrived == 2000


def test_a_burst_that_finds_the_lane_busy_queues_behind():
    wire = lane(baud=115200)
    wire.accept(bytes(100), now=0.0)
    wire.accept(bytes(100), now=0.001)
    assert run_dry(wire)[-1][0] == pytest.approx(200 * BYTE_TIME, abs=1e-9)


def test_a_late_wake_up_does_not_delay_what_comes_after():
    wire = lane(baud=115200)
    wire.accept(bytes(1000), now=0.0)
    assert len(wire.due(500 * BYTE_TIME + 1e-9)) == 500
    assert run_dry(wire)[-1][0] == pytest.approx(1000 * BYTE_TIME, abs=1e-9)


def test_a_wire_without_baud_takes_no_time():
    wire = lane()
    wire.accept(b"hello", now=7.0)
    assert run_dry(wire) == [(7.0, b"hello")]


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.floats(0, 0.05)), min_size=1, max_size=20),
    st.sampled_from([9600, 115200, 921600]),
)
def test_no_byte_is_lost_changed_or_early_on_a_sound_wire(bursts, baud):
    wire = lane(baud=baud)
    now, arrived, accepted = 1.0, b"", 0
    for data, pause in bursts:
        wire.accept(data, now)
        accepted += len(data)
        now += pause
        arrived += wire.due(now)
        assert len(arrived) * 10 / baud <= now - 1.0 + 1e-9
    arrived += b"".join(data for _, data in run_dry(wire))
    assert arrived == b"".join(data for data, _ in bursts)


def test_the_sender_has_room_for_one_backlog():
    wire = lane(baud=9600)
    wire.accept(bytes(BACKLOG), now=0.0)
    assert wire.room == 0


def test_traffic_counts_bytes_and_the_time_the_wire_was_busy():
    wire = lane(baud=115200)
    wire.accept(bytes(1152), now=0.0)
    run_dry(wire)
    wire.report(delivered=1000, overrun=152)
    traffic = wire.traffic
    assert (traffic.sent, traffic.delivered, traffic.overrun) == (1152, 1000, 152)
    assert traffic.busy == pytest.approx(0.1)


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=40), st.integers(0, 5))
def test_the_same_seed_harms_the_same_bytes_however_the_stream_is_cut(stream, seed):
    whole, pieces = (lane(flip_rate=0.1, lose_rate=0.1, double_rate=0.1, seed=seed) for _ in range(2))
    whole.accept(b"".join(stream), now=0.0)
    expected = whole.due(0.0)
    arrived = b""
    for piece in stream:
        pieces.accept(piece, now=0.0)
        arrived += pieces.due(0.0)
    assert arrived == expected


@pytest.mark.parametrize(
    "other",
    [{"seed": 2}, {"name": "slot2"}, {"direction": Direction.TO_STATION}],
    ids=lambda change: next(iter(change)),
)
def test_other_dice_harm_other_bytes(other):
    first, second = lane(flip_rate=0.5, seed=1), lane(**{"flip_rate": 0.5, "seed": 1, **other})
    for wire in (first, second):
        wire.accept(bytes(256), now=0.0)
    assert first.due(0.0) != second.due(0.0)


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.5])
def test_bytes_are_lost_at_the_rate_asked_for(rate):
    wire = lane(lose_rate=rate)
    wire.accept(bytes(100_000), now=0.0)
    lost = 100_000 - len(wire.due(0.0))
    assert abs(lost - 100_000 * rate) < 5 * math.sqrt(100_000 * rate * (1 - rate))


def test_a_harmed_byte_has_one_bit_turned():
    wire = lane(flip_rate=1.0)
    wire.accept(bytes(1000), now=0.0)
    assert {byte.bit_count() for byte in wire.due(0.0)} == {1}


def test_every_bit_of_a_byte_can_be_turned():
    wire = lane(flip_rate=1.0)
    wire.accept(bytes(1000), now=0.0)
    assert set(wire.due(0.0)) == {1 << bit for bit in range(8)}


def test_a_lost_byte_takes_its_time_all_the_same():
    wire = lane(baud=115200, lose_rate=1.0)
    wire.accept(bytes(100), now=0.0)
    deliveries = run_dry(wire)
    assert b"".join(data for _, data in deliveries) == b""
    assert deliveries[-1][0] == pytest.approx(100 * BYTE_TIME)


def test_a_doubled_byte_arrives_twice():
    wire = lane(double_rate=1.0)
    wire.accept(b"abc", now=0.0)
    assert wire.due(0.0) == b"aabbcc"


def test_a_cut_lets_exactly_so_many_bytes_through():
    wire = lane(baud=115200, cut=Cut(Direction.TO_DEVICE, after=37))
    wire.accept(bytes(range(100)), now=0.0)
    assert b"".join(data for _, data in run_dry(wire)) == bytes(range(37))
    assert wire.is_cut


def test_nothing_goes_over_a_wire_that_is_cut():
    wire = lane(cut=Cut(Direction.TO_DEVICE, after=1))
    wire.accept(b"ab", now=0.0)
    wire.due(0.0)
    wire.accept(b"cd", now=0.0)
    assert wire.next_due is None


def test_a_cut_concerns_its_own_direction():
    wire = lane(direction=Direction.TO_STATION, cut=Cut(Direction.TO_DEVICE, after=1))
    wire.accept(b"abc", now=0.0)
    assert wire.due(0.0) == b"abc"


def test_a_mended_wire_is_not_cut_again():
    wire = lane(cut=Cut(Direction.TO_DEVICE, after=1))
    wire.accept(b"ab", now=0.0)
    wire.due(0.0)
    wire.mend()
    wire.accept(b"cd", now=0.0)
    assert wire.due(0.0) == b"cd"


@pytest.mark.parametrize(
    "wrong",
    [{"baud": 0}, {"flip_rate": 1.1}, {"lose_rate": -0.1}, {"double_rate": 2}, {"cut": Cut(Direction.TO_DEVICE, 0)}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wire_that_can_not_be_is_refused(wrong):
    with pytest.raises(ValueError, match="give"):
        Wire(**wrong)


def test_a_board_says_its_log_line_in_the_middle_of_what_it_says():
    wire = lane(Direction.TO_STATION, log_rate=1, log_line=b"<log>")
    wire.accept(b"ab", now=0.0)
    assert wire.due(0.0) == b"<log>a<log>b"


def test_nobody_logs_towards_the_device():
    wire = lane(Direction.TO_DEVICE, log_rate=1)
    wire.accept(b"ab", now=0.0)
    assert wire.due(0.0) == b"ab"


@pytest.mark.parametrize("baud", [None, 115200])
def test_a_board_that_thinks_is_late_with_its_first_byte_and_with_no_other(baud):
    wire = lane(Direction.TO_STATION, baud=baud)
    wire.accept(bytes(10), now=1.0, delay=0.5)
    wire.accept(bytes(10), now=1.1, delay=0.5)
    assert wire.due(1.49) == b""
    assert run_dry(wire)[-1][0] == pytest.approx(1.5 + (0 if baud is None else 20 * BYTE_TIME), abs=1e-9)


def test_a_board_that_takes_its_time_for_each_byte_is_slower_than_its_wire():
    wire = lane(Direction.TO_STATION, baud=115200, byte_delay=0.001)
    wire.accept(bytes(100), now=0.0)
    assert run_dry(wire)[-1][0] == pytest.approx(100 * (BYTE_TIME + 0.001), abs=1e-9)


@pytest.mark.parametrize("wrong", [{"log_rate": 1.5}, {"answer_delay": -1}, {"byte_delay": math.inf}], ids=str)
def test_a_knob_out_of_its_range_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Wire(**wrong)
