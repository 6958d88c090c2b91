"""The driver against the compiled persona of a modem, over real ttys, whole and harmed."""

from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from cryptography import x509

from firmware_tools.build import build_device
from firmware_tools.errors import ToolMissing
from firmware_tools.virtual_line.line import VirtualLine
from firmware_tools.virtual_line.wire import Cut, CutKind, Direction, Wire
from hsm import Csr
from station.devices import DeviceState
from station.devices.nordic_at import AtTimeouts, NordicAtDriver
from station.errors import LinkError, Unplugged
from station.ports.link import open_link

UUID = "50503631-3544-4e39-8017-1b1464017d02"
EAGER = AtTimeouts(query=(0.15,) * 12, offline=0.15, write=0.15, keygen=0.2)


@pytest.fixture(scope="session")
def program():
    try:
        return build_device(Path(__file__).parents[2] / "build")
    except ToolMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def one_modem(program, tmp_path):
    @asynccontextmanager
    async def start(persona="nrf91", wire=None):
        options = {"model": "nRF9151-LACA", "persona": persona, "wire": wire, "seed": 1}
        async with VirtualLine(program, tmp_path, [UUID], **options) as line:
            yield line.boards[0]

    return start


async def provision(driver, make_chain, tries=1):
    """Go the whole way, a verb again where the wire was harmed; return the certificate."""

    async def patiently(verb):
        for left in reversed(range(tries)):
            try:
                return await verb()
            except LinkError:
                if not left:
                    raise
        raise AssertionError

    identity = await patiently(driver.identify)
    assert identity.hardware_id == UUID
    csr = await patiently(driver.make_key)
    chain = make_chain(csr)
    await patiently(lambda: driver.install(chain))
    leaf = await patiently(lambda: driver.read_back(chain))
    stated = await patiently(lambda: driver.attest(bytes(range(16))))
    assert stated.public_key.hex() == driver.key_statement["identity_key"]
    assert x509.load_der_x509_certificate(leaf).public_key() == Csr.parse(csr).public_key
    return leaf


@pytest.mark.parametrize("persona", ["nrf91", "nrf91-shell"])
async def test_a_blank_modem_is_provisioned(one_modem, make_chain, persona):
    async with one_modem(persona) as board:
        with closing(await open_link(str(board.port), 115200)) as link:
            await provision(NordicAtDriver(link), make_chain)
        with closing(await open_link(str(board.port), 115200)) as link:
            assert (await NordicAtDriver(link).identify()).state is DeviceState.PROVISIONED


async def test_null_parameters_of_an_old_modem_are_taken_out_and_its_signature_is_checked(one_modem):
    async with one_modem("nrf91-old") as board:
        with closing(await open_link(str(board.port), 115200)) as link:
            driver = NordicAtDriver(link)
            await driver.identify()
            assert Csr.parse(await driver.make_key()).normalised


@pytest.mark.parametrize("persona", ["nrf91", "nrf91-shell"])
@pytest.mark.parametrize("harm", ["lose_rate", "flip_rate", "double_rate"])
async def test_a_harmed_wire_costs_time_and_nothing_else(one_modem, make_chain, persona, harm):
    async with one_modem(persona, Wire(seed=3, **{harm: 0.0004})) as board:
        with closing(await open_link(str(board.port), 1_000_000)) as link:
            await provision(NordicAtDriver(link, timeouts=EAGER), make_chain, tries=20)


async def test_boot_noise_and_logs_are_passed_over(one_modem, make_chain):
    async with one_modem() as board:
        board.inject(b"\x00\xff*** Booting MCUboot ***\r\nI: OK\r\n")
        with closing(await open_link(str(board.port), 115200)) as link:
            await provision(NordicAtDriver(link), make_chain)


async def test_an_echo_is_not_taken_for_an_answer(one_modem, make_chain):
    async with one_modem(wire=Wire(echo=True)) as board:
        with closing(await open_link(str(board.port), 1_000_000)) as link:
            await provision(NordicAtDriver(link, timeouts=EAGER), make_chain, tries=3)


@pytest.mark.parametrize("after", [700, 1500])
async def test_an_unplugged_cable_is_told(one_modem, make_chain, after):
    cut = Cut(kind=CutKind.UNPLUG, direction=Direction.TO_STATION, after=after)
    async with one_modem(wire=Wire(cut=cut)) as board:
        with closing(await open_link(str(board.port), 115200)) as link, pytest.raises(Unplugged):
            await provision(NordicAtDriver(link), make_chain)
