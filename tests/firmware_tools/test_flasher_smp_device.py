"""The SMP flasher and the reference device, on wires that harm what they carry."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from bench.smp_flash import QUICK, flasher_on, image, payload_of

from firmware_tools.errors import FlashError
from firmware_tools.flashers import Phase
from firmware_tools.mcuboot_image import read_mcuboot
from firmware_tools.smp_framing import Framing
from firmware_tools.virtual_line.line import VirtualLine
from firmware_tools.virtual_line.wire import Cut, CutKind, Direction, Wire
from station.errors import Unplugged

IMAGE = image(size=60_000)
HASH = read_mcuboot(IMAGE).sha256
HALF = Cut(Direction.TO_DEVICE, 40_000)
"""Half of the image in Base64."""


def quiet(_progress):
    pass


@pytest.fixture
def one_board(plain, tmp_path):
    """Run a line of one board, given what its wire is like and more arguments of the program."""

    @asynccontextmanager
    async def run(wire=None, *arguments):
        async with VirtualLine(plain, tmp_path / "line", 1, wire=wire, seed=1, arguments=arguments) as line:
            yield line.boards[0]

    return run


async def flash(board, content=IMAGE, *, framing=Framing.BASE64, watch=quiet):
    baud = (board.wire.baud if board.wire else None) or 921600
    async with flasher_on(board.port, baud=baud, framing=framing, patience=QUICK) as flasher:
        return await flasher.flash(payload_of(content), watch)


@pytest.mark.parametrize("framing", Framing)
async def test_the_device_runs_what_was_flashed(one_board, framing):
    async with one_board(None, *(["--raw"] if framing is Framing.RAW else [])) as board:
        report = await flash(board, framing=framing)
    assert (report.after.running, report.written) == (HASH, len(IMAGE))


async def test_the_device_is_not_flashed_twice(one_board):
    async with one_board() as board:
        await flash(board)
        assert (await flash(board)).skipped


async def test_the_flasher_comes_through_turned_bits(one_board):
    async with one_board(Wire(flip_rate=1e-4, seed=3)) as board:
        assert (await flash(board)).after.running == HASH


async def test_the_flasher_comes_through_lost_and_doubled_bytes(one_board):
    async with one_board(Wire(lose_rate=5e-5, double_rate=5e-5, seed=3)) as board:
        assert (await flash(board)).after.running == HASH


async def test_the_flasher_comes_through_lost_bytes_without_framing(one_board):
    async with one_board(Wire(lose_rate=2e-5, seed=4), "--raw") as board:
        assert (await flash(board, framing=Framing.RAW)).after.running == HASH


async def test_the_flasher_comes_through_logs_and_echo(one_board):
    async with one_board(Wire(log_rate=1e-3, echo=True, seed=3)) as board:
        assert (await flash(board)).after.running == HASH


async def test_a_cable_pulled_in_the_middle_leaves_a_board_that_can_be_flashed(one_board):
    async with one_board(Wire(cut=HALF)) as board:
        with pytest.raises(Unplugged):
            await flash(board)
        await asyncio.to_thread(board.plug)
        report = await flash(board)
    assert (report.before.version, report.after.running) == ("1.0.0", HASH)


async def test_a_power_cut_in_the_middle_leaves_a_board_that_can_be_flashed(one_board):
    async with one_board(Wire(cut=replace(HALF, kind=CutKind.POWER))) as board:
        with pytest.raises(FlashError) as error:
            await flash(board)
        assert error.value.code == "flash.no_answer"
        await asyncio.to_thread(board.power_on)
        assert (await flash(board)).after.running == HASH


async def test_a_board_that_is_reset_in_the_middle_is_flashed_all_the_same(one_board):
    async with one_board(Wire(baud=921600)) as board:
        loop = asyncio.get_running_loop()
        resets = []

        def watch(progress):
            if progress.done > len(IMAGE) // 2 and not resets:
                resets.append(loop.run_in_executor(None, board.reset))

        report = await flash(board, watch=watch)
        await resets[0]
    assert report.after.running == HASH


async def test_the_window_fills_a_paced_wire(one_board):
    # The benchmark has the figure; here a machine that is busy with other tests must not make it fail.
    async with one_board(Wire(baud=115200)) as board:
        report = await flash(board, image(size=20_000))
    seconds = report.seconds[Phase.ERASE] + report.seconds[Phase.WRITE]
    assert report.written / seconds > 0.8 * 11520 * 0.75 * 124 / 127


async def test_sixteen_boards_are_flashed_at_once(plain, tmp_path):
    content = image(size=10_000)
    async with VirtualLine(plain, tmp_path / "line", 16) as line:
        reports = await asyncio.gather(*(flash(board, content) for board in line.boards))
    assert {report.after.running for report in reports} == {read_mcuboot(content).sha256}
