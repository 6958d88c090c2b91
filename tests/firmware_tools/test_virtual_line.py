"""The virtual line with the compiled reference device on real terminals."""

import asyncio
import json
import os
import select
import threading
from pathlib import Path

import pytest
from smpclient import SMPClient
from smpclient.generics import success
from smpclient.requests.os_management import EchoWrite
from smpclient.transport.serial import SMPSerialTransport

from firmware_tools.build import build_device
from firmware_tools.errors import LineDirectoryError, LineError, ProgramError, ToolMissing
from firmware_tools.provisioning import DeviceState
from firmware_tools.provisioning_group import CsrWrite, IdentRead
from firmware_tools.virtual_line.line import VirtualLine
from firmware_tools.virtual_line.wire import Cut, CutKind, Direction, Wire

PATIENCE = 10


@pytest.fixture(scope="session")
def program(build_folder):
    try:
        return build_device(build_folder)
    except ToolMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def start(program, tmp_path):
    """Start lines in the test's folder; they end with the test."""
    lines = []

    def start(boards=1, **options):
        line = VirtualLine(program, tmp_path / "line", boards, **options)
        lines.append(line)
        line.start()
        return line

    yield start
    for line in lines:
        line.close()


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def children():
    return [pid for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()]


async def ask(port, request):
    async with SMPClient(SMPSerialTransport(), str(port), timeout_s=PATIENCE) as client:
        response = await client.request(request)
    assert success(response), response
    return response


async def identify(port):
    return await ask(port, IdentRead())


@pytest.mark.parametrize("wire", [None, Wire(baud=921600)], ids=["direct", "paced"])
async def test_a_client_that_others_wrote_talks_to_a_board(start, wire):
    line = start(wire=wire)
    assert (await ask(line.ports[0], EchoWrite(d="hello"))).r == "hello"


async def test_every_board_is_somebody_else(start):
    line = start(8)
    said = [(await identify(port)).hw for port in line.ports]
    assert said == [board.hardware_id for board in line.boards]
    assert len(set(said)) == 8


async def test_boards_are_what_they_are_called(start):
    line = start(["BOARD-1", "BOARD-2"], model="thermostat")
    answers = [await identify(port) for port in line.ports]
    assert [(answer.hw, answer.model) for answer in answers] == [("BOARD-1", "thermostat"), ("BOARD-2", "thermostat")]


async def test_a_line_in_the_same_folder_brings_back_the_same_boards(start):
    first = start(2)
    await ask(first.ports[0], CsrWrite(off=0))
    first.close()
    second = start(2)
    assert [board.hardware_id for board in second.boards] == [board.hardware_id for board in first.boards]
    assert [(await identify(port)).st for port in second.ports] == [DeviceState.KEYED, DeviceState.BLANK]


def test_a_longer_line_keeps_the_boards_it_had(start):
    first = start(2)
    first.close()
    second = start(3)
    assert [board.hardware_id for board in second.boards][:2] == [board.hardware_id for board in first.boards]


def test_the_same_seed_gives_the_same_hardware_ids(program, tmp_path):
    lines = [VirtualLine(program, tmp_path / name, 2, seed=5) for name in ("a", "b")]
    ids = []
    for line in lines:
        with line:
            ids.append([board.hardware_id for board in line.boards])
    assert ids[0] == ids[1]


async def test_a_board_without_power_keeps_its_port_and_is_silent(start):
    board = start().boards[0]
    board.power_off()
    with pytest.raises(TimeoutError):
        async with SMPClient(SMPSerialTransport(), str(board.port), timeout_s=0.1) as client:
            await client.request(EchoWrite(d="anybody?"))
    assert not board.running


@pytest.mark.parametrize("wire", [None, Wire()], ids=["direct", "wire"])
async def test_a_board_that_gets_power_again_has_its_flash(start, wire):
    board = start(wire=wire).boards[0]
    await ask(board.port, CsrWrite(off=0))
    board.power_off()
    board.power_on()
    assert (await identify(board.port)).st is DeviceState.KEYED


@pytest.mark.parametrize("wire", [None, Wire()], ids=["direct", "wire"])
def test_an_unplugged_port_is_gone_and_hangs_up(start, wire):
    board = start(wire=wire).boards[0]
    station = os.open(board.port, os.O_RDWR | os.O_NOCTTY)
    try:
        board.unplug()
        assert os.read(station, 1) == b""
    finally:
        os.close(station)
    assert not board.port.is_symlink()


async def test_a_board_is_plugged_in_under_its_old_name(start):
    board = start().boards[0]
    before = board.hardware_id
    board.unplug()
    board.plug()
    assert (await identify(board.port)).hw == before


def test_power_does_not_come_without_a_cable(start):
    board = start().boards[0]
    board.unplug()
    with pytest.raises(LineError, match="unplugged"):
        board.power_on()


async def test_a_blank_board_takes_the_slot(start):
    board = start().boards[0]
    await ask(board.port, CsrWrite(off=0))
    before, storage = board.hardware_id, board.storage
    board.replace_by_blank()
    answer = await identify(board.port)
    assert answer.hw == board.hardware_id != before
    assert answer.st is DeviceState.BLANK
    assert storage.is_dir()


async def test_a_blank_board_stays_in_the_slot_when_the_line_is_started_again(start):
    line = start()
    line.boards[0].replace_by_blank()
    line.close()
    assert start().boards[0].hardware_id == line.boards[0].hardware_id


async def test_a_shipped_board_leaves_its_flash_in_the_box(start):
    line = start()
    board = line.boards[0]
    await ask(board.port, CsrWrite(off=0))
    before = board.hardware_id
    box = line.ship(board)
    assert box == line.directory / "shipped" / before
    assert list(box.iterdir())
    assert (await identify(board.port)).st is DeviceState.BLANK


@pytest.mark.parametrize("kind", CutKind)
async def test_a_cut_in_the_middle_of_a_request_ends_the_board(start, kind):
    came = threading.Event()
    cut = Cut(Direction.TO_DEVICE, after=10, kind=kind)
    board = start(wire=Wire(cut=cut), on_cut=lambda _board, _cut: came.set()).boards[0]
    with open(board.port, "r+b", buffering=0) as station:  # noqa: ASYNC230, PTH123 - a write of some bytes into a terminal
        station.write(bytes(20))
        assert came.wait(PATIENCE)
    assert board.running is (kind is CutKind.SWAP)  # another board
    assert board.plugged is (kind is not CutKind.UNPLUG)


@pytest.mark.parametrize("kind", CutKind)
async def test_a_board_lives_on_after_its_cut(start, kind):
    came = threading.Event()
    cut = Cut(Direction.TO_DEVICE, after=10, kind=kind)
    board = start(wire=Wire(cut=cut), on_cut=lambda _board, _cut: came.set()).boards[0]
    with open(board.port, "r+b", buffering=0) as station:  # noqa: ASYNC230, PTH123 - a write of some bytes into a terminal
        station.write(bytes(20))
        assert came.wait(PATIENCE)
    board.plug()
    board.power_on()
    assert (await ask(board.port, EchoWrite(d="still here"))).r == "still here"


async def test_the_wire_counts_what_a_request_costs(start):
    board = start(wire=Wire(baud=115200)).boards[0]
    await ask(board.port, EchoWrite(d="hello"))
    traffic = board.traffic()
    sent = traffic[Direction.TO_DEVICE].sent
    assert sent > len("hello")
    assert traffic[Direction.TO_DEVICE].busy == pytest.approx(sent * 10 / 115200)


async def test_a_wire_may_lie_before_some_slots_only(start):
    line = start(2, wire={"slot2": Wire()})
    assert [board.traffic() is None for board in line.boards] == [True, False]


@pytest.mark.parametrize("wire", [None, Wire()], ids=["direct", "wire"])
def test_injected_noise_reaches_the_station(start, wire):
    board = start(wire=wire).boards[0]
    with open(board.port, "rb", buffering=0) as station:  # noqa: PTH123 - a terminal
        board.inject(b"noise")
        heard = b""
        while b"noise" not in heard:  # the board's own boot banner may come before
            assert select.select([station], [], [], PATIENCE)[0]
            heard += station.read(100)


def test_a_wire_harms_other_bytes_each_time_the_cable_is_put_in(start):
    board = start(wire=Wire(flip_rate=0.5, seed=1)).boards[0]

    def injected():
        with open(board.port, "rb", buffering=0) as station:  # noqa: PTH123 - a terminal
            board.inject(bytes(100))
            heard = b""
            while len(heard) < 100:
                assert select.select([station], [], [], PATIENCE)[0]
                heard += station.read(100)
        return heard

    first = injected()
    board.unplug()
    board.plug()
    assert injected() != first


async def test_a_traced_board_writes_down_its_requests(start):
    line = start(trace=True)
    await identify(line.ports[0])
    line.close()
    assert json.loads(line.boards[0].trace.read_text().splitlines()[0])


def test_a_second_line_in_the_folder_is_refused(start, program, tmp_path, monkeypatch):
    monkeypatch.setattr("firmware_tools.virtual_line.line._LOCK_PATIENCE", 0)
    start()
    with pytest.raises(LineDirectoryError, match="another virtual line runs"):
        VirtualLine(program, tmp_path / "line", 1).start()


def test_a_missing_program_is_named(tmp_path):
    with pytest.raises(ProgramError, match=r"nothing-here does not start: No such file.*build_device"):
        VirtualLine(tmp_path / "nothing-here", tmp_path / "line", 2).start()


def test_a_line_that_did_not_start_leaves_nothing_open(tmp_path):
    before = open_files()
    with pytest.raises(ProgramError):
        VirtualLine(tmp_path / "nothing-here", tmp_path / "line", 2).start()
    assert open_files() == before


def test_a_folder_that_can_not_be_made_is_named(program, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LineDirectoryError, match="file"):
        VirtualLine(program, tmp_path / "file" / "line", 1).start()


@pytest.mark.parametrize("content", ["", "[]", '{"format": 9}', '{"format": 1, "made": 1, "slots": {"slot1": "../x"}}'])
def test_a_list_of_boards_that_is_none_is_refused(program, tmp_path, content):
    (tmp_path / "line.json").write_text(content)
    with pytest.raises(LineDirectoryError, match=r"line\.json"):
        VirtualLine(program, tmp_path, 1).start()


@pytest.mark.parametrize("ids", [["a", "a"], ["../etc"], [""], [".."], ["slot1"], ["line.json"], ["x" * 65], ["a/b"]])
def test_a_hardware_id_that_can_not_name_a_folder_is_refused(program, tmp_path, ids):
    with pytest.raises(LineError, match="hardware id"):
        VirtualLine(program, tmp_path, ids)


def test_an_unknown_slot_is_named(start):
    with pytest.raises(LineError, match="slot7"):
        start(2).board("slot7")


async def test_a_line_works_within_an_event_loop(program, tmp_path):
    async with VirtualLine(program, tmp_path / "line", 2) as line:
        assert (await identify(line.ports[1])).hw == line.boards[1].hardware_id


async def test_a_line_whose_start_is_cancelled_leaves_no_board(program, tmp_path):
    line = VirtualLine(program, tmp_path / "line", 4)
    starting = asyncio.create_task(line.__aenter__())
    await asyncio.sleep(0)  # it has begun
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert len(line.boards) == 4
    assert not any(board.plugged or board.running for board in line.boards)


@pytest.mark.parametrize("wire", [None, Wire(baud=921600)], ids=["direct", "wire"])
def test_twenty_lines_leave_no_file_open_and_no_child(program, tmp_path, wire):
    before = open_files(), children()
    for _ in range(20):
        with VirtualLine(program, tmp_path / "line", 2, wire=wire) as line:
            line.boards[0].unplug()
            line.boards[0].plug()
            line.boards[1].power_off()
            line.boards[1].power_on()
    assert (open_files(), children()) == before


def test_a_closed_line_may_be_closed_again(start):
    line = start()
    line.close()
    line.close()


def test_a_keyboard_interrupt_is_not_for_the_boards(start):
    board = start().boards[0]
    assert os.getpgid(board._process.pid) != os.getpgid(0)
