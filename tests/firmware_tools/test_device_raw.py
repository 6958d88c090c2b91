"""The reference device on a UART that carries SMP and nothing else: messages without lines of Base64."""

import pytest
from smp.os_management import EchoWriteResponse, MCUMgrParametersReadResponse
from smpclient.requests.os_management import EchoWrite, MCUMgrParametersRead

LARGEST = 2048
SILENCE = 0.2
"""Seconds after which the device gives up a message that stopped: FRAMING_SILENCE_MS."""


@pytest.fixture
def board(power_on, device):
    return power_on(device, "--raw")


def receive(board):
    """Return the next message."""
    data = b""
    while len(data) < 8 or len(data) < 8 + int.from_bytes(data[2:4]):
        more = board.wire.recv(65536)
        if not more:
            raise ConnectionResetError
        data += more
    return data


def ask(board, request, kind):
    board.wire.sendall(request.BYTES)
    return kind.loads(receive(board))


def hears(board):
    return ask(board, EchoWrite(d="hello"), EchoWriteResponse).r == "hello"


def test_a_message_is_answered_as_it_came_and_no_log_before_it(board):
    assert hears(board)


def test_the_largest_message_is_answered(board):
    # The answer is as long as the request, and the device's own limit is the same.
    frame = len(EchoWrite(d="").BYTES) + 2
    text = "x" * (LARGEST - frame)
    assert ask(board, EchoWrite(d=text), EchoWriteResponse).r == text


def test_messages_may_follow_each_other_at_once(board):
    board.wire.sendall(b"".join(EchoWrite(d=text, sequence=1).BYTES for text in "abc"))
    data = b""
    while len(data) < 3 * len(EchoWrite(d="a").BYTES):
        data += board.wire.recv(65536)
    assert [part[:1] for part in data.split(b"\x61r\x61")[1:]] == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(EchoWrite(d="x" * 50).BYTES[:-1], id="a message that lacks its last byte"),
        pytest.param(EchoWrite(d="x").BYTES[:3], id="half a header"),
        pytest.param(b"\xff" * 4000, id="no message"),
        pytest.param(bytes([10, 0]) + (4096).to_bytes(2) + bytes(4), id="a message longer than the buffer"),
    ],
)
def test_what_was_lost_is_over_after_a_silence(board, begun):
    board.wire.sendall(begun)
    board.wire.settimeout(SILENCE * 2)
    with pytest.raises(TimeoutError):  # it says nothing, and that is the silence
        board.wire.recv(1)
    board.wire.settimeout(10)
    assert hears(board)


def test_the_device_tells_how_many_requests_may_wait(board):
    answer = ask(board, MCUMgrParametersRead(), MCUMgrParametersReadResponse)
    assert (answer.buf_size, answer.buf_count) == (LARGEST, 4)
