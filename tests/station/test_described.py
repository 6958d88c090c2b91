"""The driver of boards that a file describes, against shells that a test writes down."""

from pathlib import Path

import pytest
from bench.text_boards import SHA, Widget
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from station.config.languages import EXAMPLES
from station.devices import Capability, DeviceState, Locks
from station.devices.described import DescribedDriver
from station.devices.description_file import load
from station.errors import DeviceError, Garbled, NoAnswer
from station.line.proof import verify_proof
from station.testing import Reach, Unfit, exercise


@pytest.fixture
def board():
    return Widget()


@pytest.fixture
def described(tmp_path):
    """Read the example, with something else in it: ``described((old, new), …)``."""

    def read(*changes):
        text = (EXAMPLES / "home-made.toml").read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = Path(tmp_path / "home-made.toml")
        path.write_text(text)
        return load(path)

    return read


@pytest.fixture
async def driver(board, described):
    return DescribedDriver(board.plug(), described())


async def test_it_does_all_that_a_line_asks_of_it(driver):
    verbs = [step.verb async for step in exercise(driver)]
    assert verbs == ["identify", "make_key", "install", "read_back", "prove", "identify", "lock_state"]


async def test_what_a_file_describes_is_what_the_driver_can(driver, board, described):
    assert Capability.LOCK in driver.capabilities
    without = DescribedDriver(
        board.plug(), described(('[[lock]]                # once for each lock\nsend = "lock {lock}"\n', ""))
    )
    assert Capability.LOCK not in without.capabilities


async def test_a_board_says_who_it_is(driver):
    identity = await driver.identify()
    assert (identity.hardware_id, identity.model, identity.firmware_version) == ("E8F1-7C0A", "widget", "1.0.0")
    assert identity.firmware_sha256.hex() == SHA
    assert (identity.state, identity.leaf_sha256) == (DeviceState.BLANK, None)


async def test_who_the_board_is_has_to_be_said_twice(driver, board):
    board.on("id", f"id=E8F1-7C0B model=widget fw=1.0.0 sha={SHA}\nok", times=1)
    assert (await driver.identify()).hardware_id == "E8F1-7C0A"


async def test_an_answer_that_was_lost_is_asked_for_again(driver, board, described):
    board.on("csr", None, times=1)
    driver = DescribedDriver(board.plug(), described(("seconds = 30", "seconds = 1")))
    assert await driver.make_key()


async def test_a_pem_is_not_cut_at_its_first_newline_nor_ended_by_ok_inside(driver, board):
    board.on("csr", f"{board.csr()}* OK\nok")
    assert len(await driver.make_key()) > 100


@pytest.mark.parametrize(
    "cut", ["-----BEGIN CERTIFICATE REQUEST-----\nok", "ok", "-----END CERTIFICATE REQUEST-----\nok"]
)
async def test_half_a_pem_is_garbled(driver, board, cut):
    board.on("csr", cut)
    with pytest.raises(Garbled, match="no whole PEM block"):
        await driver.make_key()


async def test_a_refusal_is_what_the_file_says_that_it_is(driver, board):
    board.on("csr", "error 11")
    with pytest.raises(DeviceError, match="its flash does not store") as refused:
        await driver.make_key()
    assert (refused.value.code, refused.value.facts["got"]) == ("device.storage", "error 11")


async def test_a_line_missing_in_an_answer_is_garbled(driver, board):
    board.on("sign .*", "ok")
    board.chain = bytes.fromhex("3003020100")
    with pytest.raises((Garbled, DeviceError)):
        await driver.prove(bytes(32))


async def test_the_chain_that_is_read_back_is_compared(driver, board, make_chain):
    chain = make_chain(await driver.make_key())
    await driver.install(chain)
    board.chain = chain[0]
    with pytest.raises(DeviceError) as refused:
        await driver.read_back(chain)
    assert refused.value.code == "device.chain_differs"


async def test_what_is_no_certificate_is_named_so(driver, board):
    board.chain = b"garbage of some kind"
    with pytest.raises(DeviceError) as refused:
        await driver.read_back(None)
    assert refused.value.code == "device.certificate_malformed"


async def test_raw_signatures_are_taken(board, described, make_chain):
    driver = DescribedDriver(board.plug(), described(("[proof] ", '[proof]\nsignature = "raw"\n#')))
    chain = make_chain(await driver.make_key())
    await driver.install(chain)
    honest = board.sign

    def raw(match):
        numbers = decode_dss_signature(honest(bytes.fromhex(match[1])))
        return f"sig={b''.join(number.to_bytes(32) for number in numbers).hex()}\nok"

    board.on("sign (.*)", raw)
    verify_proof(chain[0], bytes(32), *await driver.prove(bytes(32)))


async def test_only_the_locks_that_are_seen_are_told(driver, board):
    await driver.lock(Locks.DEBUG | Locks.CREDENTIALS)
    assert await driver.lock_state() == Locks.DEBUG | Locks.CREDENTIALS
    board.closed = {"cert"}
    assert await driver.lock_state() == Locks.CREDENTIALS


async def test_a_late_answer_is_not_taken_for_the_next_one(board, described):
    driver = DescribedDriver(board.plug(), described(("seconds = 30", "seconds = 1")))
    first = await driver.identify()
    board.on("csr", None)
    with pytest.raises((NoAnswer, Garbled)):
        await driver.make_key()
    board.say(f"id=0000 model=widget fw=1.0.0 sha={SHA}\r\nok\r\n")
    assert await driver.identify() == first


@pytest.mark.parametrize("noise", ["\x1b[2J", "A" * 9000, "\0\0", "id=x", "OK"])
async def test_noise_between_the_lines_is_no_answer(driver, board, noise):
    board.on("id", f"{noise}\nid=E8F1-7C0A model=widget fw=1.0.0 sha={SHA}\n* {noise}\nok")
    assert (await driver.identify()).hardware_id == "E8F1-7C0A"


async def test_a_flood_ends(driver, board):
    board.on("id", "\n".join(["noise"] * 20_000))
    with pytest.raises(Garbled):
        await driver.identify()


async def test_the_exercise_never_replaces_a_certificate(driver, board, make_chain):
    await driver.install(make_chain(await driver.make_key()))
    held = board.chain
    with pytest.raises(Unfit, match="take a blank board"):
        [step async for step in exercise(driver)]
    assert board.chain == held
    assert [step.verb async for step in exercise(driver, reach=Reach.KEY)] == ["identify", "make_key"]


async def test_the_exercise_sees_a_second_key(driver, board):
    def another(_):
        board.key = ec.generate_private_key(ec.SECP256R1())
        return f"{board.csr()}ok"

    board.on("csr", another)
    with pytest.raises(Unfit, match="REPEAT_CSR"):
        [step async for step in exercise(driver)]


async def test_a_missing_and_a_garbled_answer_are_counted_and_a_whole_one_is_not(driver, board):
    await driver.identify()
    assert driver.disturbances == 0
    board.on("id", "id=?\nok", times=1)
    await driver.identify()
    assert driver.disturbances == 1
    board.on("id", None, times=1)
    await driver.identify()
    assert driver.disturbances == 2
