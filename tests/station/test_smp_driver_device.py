"""The driver against the compiled reference device, over real ttys, whole and harmed."""

import asyncio
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from smpclient import SMPClient
from smpclient.generics import success
from smpclient.requests.os_management import EchoWrite

from firmware_tools.build import build_device
from firmware_tools.errors import ToolMissing
from firmware_tools.virtual_line.line import VirtualLine
from firmware_tools.virtual_line.wire import Cut, CutKind, Direction, Wire
from station.devices import DeviceState, Locks
from station.devices.smp import NOISY_BUFFER, SmpDriver, Timeouts
from station.devices.smp_wire import SmpTransport
from station.errors import Garbled, NoAnswer, Unplugged
from station.ports.link import open_link

# Lost requests are the rule here: try again soon.
EAGER = Timeouts(identify=(0.2,) * 20, answer=(0.2,) * 20, crypto=(0.3,) * 20)

IMPATIENT = Timeouts((0.1,) * 2, (0.1,) * 2, (0.1,) * 2)

BOTH = Locks.DEBUG | Locks.CREDENTIALS


@pytest.fixture(scope="session")
def program():
    try:
        return build_device(Path(__file__).parents[2] / "build")
    except ToolMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def one_board(program, tmp_path):
    @asynccontextmanager
    async def start(wire=None):
        async with VirtualLine(program, tmp_path, ["BOARD-1"], wire=wire, seed=1) as line:
            yield line.boards[0]

    return start


async def provision(driver, make_chain):
    """Go the whole way and return the certificate."""
    await driver.identify()
    csr = await driver.make_key()
    chain = make_chain(csr)
    await driver.install(chain)
    leaf = await driver.read_back(chain)
    message, signature = await driver.prove(bytes(32))
    certificate = x509.load_der_x509_certificate(leaf)
    certificate.public_key().verify(signature, message, ec.ECDSA(hashes.SHA256()))
    await driver.lock(BOTH)
    assert await driver.lock_state() == BOTH
    return certificate


async def walk(board, make_chain, timeouts=EAGER):
    with closing(await open_link(str(board.port), 1_000_000)) as link:
        return await provision(SmpDriver(link, timeouts=timeouts), make_chain)


async def test_a_blank_device_is_provisioned(one_board, make_chain):
    async with one_board() as board:
        await walk(board, make_chain)
        with closing(await open_link(str(board.port), 115200)) as link:
            identity = await SmpDriver(link).identify()
        assert (identity.hardware_id, identity.state) == ("BOARD-1", DeviceState.LOCKED)


async def test_a_provisioned_device_is_read_back_by_another_session(one_board, make_chain):
    async with one_board() as board:
        certificate = await walk(board, make_chain)
        with closing(await open_link(str(board.port), 115200)) as link:
            assert x509.load_der_x509_certificate(await SmpDriver(link).read_back(None)) == certificate


async def test_a_device_that_lost_power_keeps_its_key(one_board):
    async with one_board() as board:
        with closing(await open_link(str(board.port), 115200)) as link:
            driver = SmpDriver(link, timeouts=EAGER)
            csr = x509.load_der_x509_csr(await driver.make_key())
            board.power_off()
            board.power_on()
            assert x509.load_der_x509_csr(await driver.make_key()).public_key() == csr.public_key()


async def test_a_device_without_power_is_no_answer(one_board):
    async with one_board() as board:
        board.power_off()
        with closing(await open_link(str(board.port), 1_000_000)) as link, pytest.raises(NoAnswer):
            await SmpDriver(link, timeouts=Timeouts(identify=(0.05,))).identify()


@pytest.mark.parametrize(
    "wire",
    [
        Wire(boot_noise=b"*** Booting Zephyr OS build v4.1.0 ***\r\n[00:00:00.010] <inf> main: hello\r\nuart:~$ "),
        Wire(echo=True),
        Wire(flip_rate=3e-4),
        Wire(lose_rate=3e-4),
        Wire(double_rate=3e-4),
        Wire(echo=True, flip_rate=1e-4, lose_rate=1e-4, boot_noise=b"boot \x06\x09 noise"),
        Wire(baud=921600),
    ],
    ids=["boot noise", "echo", "bit flips", "lost bytes", "doubled bytes", "all at once", "paced"],
)
@pytest.mark.parametrize("seed", range(3))
async def test_a_bad_wire_is_no_failure(one_board, make_chain, wire, seed):
    async with one_board(replace(wire, seed=seed)) as board:
        await walk(board, make_chain)


async def test_a_wire_that_harms_everything_is_garbled_or_no_answer(one_board):
    async with one_board(Wire(flip_rate=0.2)) as board:
        with closing(await open_link(str(board.port), 115200)) as link, pytest.raises((Garbled, NoAnswer)):
            await SmpDriver(link, timeouts=Timeouts(identify=(0.05,) * 3)).identify()


# A whole unit is some 1,250 bytes to the device and 1,250 from it: these cuts fall into every verb, and at its edges.
CUTS = [
    *((Direction.TO_DEVICE, after) for after in (1, 22, 23, 24, 49, 50, 51, 300, 1000, 1090, 1120, 1180, 1220, 1240)),
    *((Direction.TO_STATION, after) for after in (1, 100, 166, 167, 400, 510, 530, 560, 800, 1080, 1150, 1200, 1230)),
]


@pytest.mark.parametrize(("direction", "after"), CUTS)
async def test_unplugged_in_the_middle_of_whatever_it_goes_on_where_it_was(one_board, make_chain, direction, after):
    async with one_board(Wire(cut=Cut(direction, after))) as board:
        with pytest.raises(Unplugged):
            await walk(board, make_chain)
        await plugged_again(board)
        await go_on(board, make_chain)


@pytest.mark.parametrize(("direction", "after"), CUTS[::3])
async def test_a_power_cut_in_the_middle_of_whatever_ends_the_unit_and_not_the_board(
    one_board, make_chain, direction, after
):
    async with one_board(Wire(cut=Cut(direction, after, CutKind.POWER))) as board:
        with pytest.raises((NoAnswer, Garbled)):
            await walk(board, make_chain, IMPATIENT)
        await plugged_again(board)
        await go_on(board, make_chain)


async def plugged_again(board):
    await asyncio.to_thread(board.unplug)
    board.wire = None
    await asyncio.to_thread(board.plug)


async def go_on(board, make_chain):
    """Do what the station does with a board that comes back: not all over again, but what is left."""
    with closing(await open_link(str(board.port), 115200)) as link:
        driver = SmpDriver(link, timeouts=EAGER)
        identity = await driver.identify()
        if identity.state is DeviceState.LOCKED:
            assert await driver.lock_state() == BOTH
        else:
            await provision(driver, make_chain)


async def test_smpclient_connects_through_our_transport(one_board):
    async with one_board() as board:
        with closing(await open_link(str(board.port), 115200)) as link:
            async with SMPClient(SmpTransport(link), "slot 1") as client:
                echo = await client.request(EchoWrite(d="e" * 300))
                assert success(echo)
                assert echo.r == "e" * 300


async def test_a_chain_goes_in_small_pieces_over_a_wire_that_loses_large_ones(one_board, make_chain):
    async with one_board() as board:
        with closing(await open_link(str(board.port), 115200)) as link:
            driver = SmpDriver(link, timeouts=EAGER)
            exchange, sent = driver.transport.exchange, []

            async def lossy(request, deadlines):
                sent.append((len(request), len(deadlines)))
                if len(request) > NOISY_BUFFER:
                    raise NoAnswer("lost")
                return await exchange(request, deadlines)

            driver.transport.exchange = lossy
            chain = make_chain(await driver.make_key())
            await driver.install(chain)
            assert await driver.read_back(chain) == chain[0]
    large = [tries for size, tries in sent if size > NOISY_BUFFER]
    assert large == [1]  # and it was tried once only: small ones are the better second try
