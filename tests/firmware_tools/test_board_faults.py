"""What a board suffers by itself, and what careless hands do to it; on the compiled device."""

import asyncio
import queue
import random

import pytest
from smpclient import SMPClient
from smpclient.exceptions import SMPBadSequence
from smpclient.generics import success
from smpclient.requests.os_management import EchoWrite
from smpclient.transport.serial import SMPSerialTransport

from firmware_tools.errors import LineError
from firmware_tools.provisioning import DeviceState
from firmware_tools.provisioning_group import CsrWrite, IdentRead
from firmware_tools.virtual_line.faults import Faults, FlashDeath, StateDeath
from firmware_tools.virtual_line.line import VirtualLine
from firmware_tools.virtual_line.wire import Cut, CutKind, Direction, Wire

PATIENCE = 10


@pytest.fixture
def start(plain, tmp_path):
    """Start lines in the test's folder; they end with the test."""
    lines = []

    def start(boards=1, **options):
        line = VirtualLine(plain, tmp_path / "line", boards, **options)
        lines.append(line)
        line.start()
        return line

    yield start
    for line in lines:
        line.close()


async def ask(board, request):
    """Ask, and ask again where a board that has just got its power did not hear it."""
    for patience in (1, 2, PATIENCE):
        try:
            async with SMPClient(SMPSerialTransport(), str(board.port), timeout_s=patience) as client:
                response = await client.request(request)
        except (TimeoutError, SMPBadSequence):
            if patience == PATIENCE:
                raise
        else:
            assert success(response), response
            return response
    raise AssertionError


async def dies_while(board, request):
    """Ask what the board does not live to answer."""
    before = board.deaths
    # the client first asks for parameters, which a board that has just got its power may not hear
    async with SMPClient(SMPSerialTransport(), str(board.port), timeout_s=1) as client:
        asking = asyncio.create_task(client.request(request, timeout_s=PATIENCE))
        async with asyncio.timeout(PATIENCE):
            while board.deaths == before:  # noqa: ASYNC110 - another thread counts
                await asyncio.sleep(0.005)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    return board.deaths - before


async def switched_on(board, faults):
    """Let a board boot, then again with faults: what is blank is written to at its first boot, and would die there."""
    await ask(board, IdentRead())
    board.power_off()
    board.faults = faults
    board.power_on()


@pytest.mark.parametrize("wire", [None, Wire()], ids=["direct", "wire"])
async def test_a_board_dies_in_its_flash_operation_and_lives_the_next_time(start, wire):
    (board,) = start(wire=wire).boards
    await switched_on(board, Faults(deaths=(FlashDeath(1, torn=5),)))
    assert await dies_while(board, CsrWrite(off=0)) == 1
    assert not board.running
    board.power_on()
    assert (await ask(board, IdentRead())).st is DeviceState.BLANK


async def test_a_board_dies_in_a_state_before_it_says_so(start):
    (board,) = start().boards
    await switched_on(board, Faults(deaths=(StateDeath(DeviceState.KEYED),)))
    assert (await ask(board, IdentRead())).st is DeviceState.BLANK
    assert await dies_while(board, CsrWrite(off=0)) == 1
    board.power_on()
    assert (await ask(board, IdentRead())).st is DeviceState.KEYED


async def test_a_board_that_begins_in_the_state_lives(start):
    (board,) = start().boards
    await ask(board, CsrWrite(off=0))
    await switched_on(board, Faults(deaths=(StateDeath(DeviceState.KEYED),)))
    assert (await ask(board, IdentRead())).st is DeviceState.KEYED
    assert board.deaths == 0


async def test_a_supply_that_browns_out_comes_back_by_itself_each_time(start):
    (board,) = start().boards
    await switched_on(board, Faults(deaths=(FlashDeath(1), FlashDeath(1, torn=0), FlashDeath(2, torn=1)), restart=0.01))
    while board.deaths < 3:  # it may also die in what it writes while it boots
        await dies_while(board, CsrWrite(off=0))
    assert (await ask(board, CsrWrite(off=0))).len > 0
    assert board.deaths == 3


def test_the_same_dice_give_the_same_brown_outs():
    first, second = (Faults.brown_outs(random.Random(7), 5) for _ in range(2))  # noqa: S311 - repeatable, not secret
    assert first == second
    assert len(first.deaths) == 5


async def test_a_board_that_is_taken_out_after_its_death_stays_out(start):
    (board,) = start().boards
    await switched_on(board, Faults(deaths=(FlashDeath(1),), restart=0.01))
    assert await dies_while(board, CsrWrite(off=0)) == 1
    board.unplug()
    assert not board.running


async def test_swapping_keeps_the_port_and_changes_the_board(start):
    (board,) = start().boards
    first, port = (await ask(board, IdentRead())).hw, board.port.readlink()
    board.swap()
    second = await ask(board, IdentRead())
    assert (second.hw, second.st) == (board.hardware_id, DeviceState.BLANK)
    assert second.hw != first
    assert board.port.readlink() == port


async def test_another_board_takes_the_place_at_an_exact_byte(start):
    cuts = queue.Queue()
    wire = Wire(cut=Cut(Direction.TO_DEVICE, 140, CutKind.SWAP))
    (board,) = start(wire=wire, on_cut=lambda _, cut: cuts.put(cut)).boards
    first = (await ask(board, IdentRead())).hw
    async with SMPClient(SMPSerialTransport(), str(board.port), timeout_s=0.5) as client:
        with pytest.raises(TimeoutError):
            await client.request(EchoWrite(d="x" * 80))
        assert cuts.get(timeout=PATIENCE).kind is CutKind.SWAP
        second = await client.request(IdentRead())
    assert success(second)
    assert second.hw == board.hardware_id != first


@pytest.mark.parametrize("same_id", [False, True], ids=["clone", "twin"])
async def test_a_clone_has_the_key_of_its_original(start, same_id):
    original, copy = start(2).boards
    key = (await ask(original, CsrWrite(off=0))).data
    copy.clone(original, hardware_id=same_id)
    said = await ask(copy, IdentRead())
    assert (said.hw == original.hardware_id) is same_id
    assert said.st is DeviceState.KEYED
    assert public_key((await ask(copy, CsrWrite(off=0))).data) == public_key(key)


async def test_a_blank_board_in_the_slot_of_a_twin_is_itself_again(start):
    original, copy = start(2).boards
    await ask(original, CsrWrite(off=0))
    copy.clone(original, hardware_id=True)
    copy.replace_by_blank()
    assert (await ask(copy, IdentRead())).hw == copy.hardware_id


def public_key(csr):
    """Return the uncompressed point in a CSR: it stands behind the OID of P-256."""
    start = csr.index(bytes.fromhex("06082a8648ce3d030107034200")) + 13
    return csr[start : start + 65]


def test_a_board_that_never_had_power_can_not_be_cloned(start):
    original, copy = start(2).boards
    original.unplug()
    (original.storage / "flash.bin").unlink()
    with pytest.raises(LineError, match="no flash yet"):
        copy.clone(original)


@pytest.mark.parametrize(
    "wrong",
    [lambda: FlashDeath(0), lambda: FlashDeath(1, torn=-1), lambda: StateDeath(DeviceState.BLANK)],
    ids=["operation", "torn", "state"],
)
def test_a_death_that_can_not_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"count from|comes to"):
        wrong()
