"""The driver of Zephyr's shell, against shells that a test writes down."""

import base64
from hashlib import sha256

import pytest
from bench.text_boards import ZephyrBoard
from cryptography.hazmat.primitives.asymmetric import ec

from hsm import Csr
from station.devices import DeviceState, Locks
from station.devices.zephyr_shell import SMALL_PIECE, ShellTimeouts, ZephyrShellDriver
from station.devices.zephyr_shell_wire import Unknown
from station.errors import DeviceError, Garbled, NoAnswer
from station.line.proof import verify_proof
from station.testing import exercise

TAG = 42
QUICK = ShellTimeouts(query=(0.1, 0.1, 0.1, 0.1), keygen=0.1, store=0.1)


@pytest.fixture
def board():
    return ZephyrBoard()


def drive(board):
    return ZephyrShellDriver(board.plug(), sec_tag=TAG, timeouts=QUICK)


async def test_it_does_all_that_a_line_asks_of_it(board):
    assert [step.verb async for step in exercise(drive(board))][-1] == "identify"


async def test_a_blank_board_says_who_it_is(board):
    identity = await drive(board).identify()
    assert (identity.hardware_id, identity.model, identity.firmware_version) == ("e8f17c0a11d293b6", "widget", "1.4.2")
    assert (identity.state, identity.leaf_sha256) == (DeviceState.BLANK, None)


async def test_an_older_kernel_tells_its_own_version(board):
    board.on("app version", "app: command not found")
    board.on("kernel version", "Zephyr version 3.7.99")
    assert (await drive(board).identify()).firmware_version == "Zephyr version 3.7.99"


async def test_a_board_without_a_model_is_refused_with_what_to_build(board):
    board.on("posix uname -i", "posix: command not found")
    with pytest.raises(DeviceError, match="CONFIG_POSIX_UNAME") as refused:
        await drive(board).identify()
    assert refused.value.code == "device.no_model"


async def test_a_harmed_letter_in_the_id_never_goes_on_record(board):
    board.on("hwinfo devid", "Length: 8\nID: 0xe8f17c0a11d293b7", times=1)
    assert (await drive(board).identify()).hardware_id == "e8f17c0a11d293b6"


async def test_a_late_answer_is_not_taken_for_the_next_one(board):
    driver = drive(board)
    await driver.identify()
    board.on("hwinfo devid", None, times=1)
    board.unknown = lambda _: None  # the end of the answer is lost too
    with pytest.raises((NoAnswer, Garbled)):
        await driver._wire.lines("hwinfo devid", 0.05)
    board.unknown = lambda match: f"{match[0].split(' ')[0]}: command not found"
    board.say("ID: 0x0000000000000000\r\n")
    assert (await driver.identify()).hardware_id == "e8f17c0a11d293b6"


async def test_a_csr_with_a_harmed_letter_is_asked_for_again(board):
    driver = drive(board)
    good = board.csr("x")
    board.on("nrf_cloud_cred csr .*", f"CSR: {good[:-12]}AAAA{good[-8:]}\nCSR generation complete", times=1)
    assert Csr.parse(await driver.make_key())


async def test_a_new_shell_takes_the_chain_in_one_go(board, make_chain):
    driver = drive(board)
    await driver.install(make_chain(await driver.make_key()))
    assert "cred buf load" in board.commands
    assert not [command for command in board.commands if command.startswith("cred buf L")]


@pytest.mark.parametrize("line", [48, 246, 1000])
async def test_an_old_shell_says_itself_how_much_it_takes(make_chain, line):
    board = ZephyrBoard(loads=False, line=line)
    driver = drive(board)
    chain = make_chain(await driver.make_key())
    await driver.install(chain)
    pieces = [command for command in board.commands if command.startswith("cred buf ")][3:]
    assert len(pieces) <= len(base64.b64encode(board.stored)) // min(line, 480) + 2
    assert await driver.read_back(chain) == chain[0]


async def test_the_whole_pem_is_stored_and_read_and_not_its_first_line(board, make_chain):
    driver = drive(board)
    chain = make_chain(await driver.make_key())
    await driver.install(chain)
    assert board.stored.count(b"-----END CERTIFICATE-----\n") == 2
    assert await drive(board).read_back(None) == chain[0]


async def test_a_piece_that_was_harmed_makes_it_begin_anew_with_small_ones(make_chain):
    board = ZephyrBoard(loads=False)
    harmed = iter([False, True])  # the first one is the word "load"
    honest = board._buf
    board.on("cred buf (.*)", lambda match: honest("A" * len(match[1]) if next(harmed, False) else match[1]))
    board.on("cred buf clear", lambda _: board._clear())
    driver = drive(board)
    chain = make_chain(await driver.make_key())
    await driver.install(chain)
    assert await driver.read_back(chain) == chain[0]
    pieces = [command for command in board.commands if command.startswith("cred buf ")]
    assert max(len(command) for command in pieces[-8:]) <= SMALL_PIECE + len("cred buf ")


async def test_a_buffer_that_is_too_small_is_told_with_what_to_build(make_chain):
    board = ZephyrBoard(loads=False, room=1024)
    driver = drive(board)
    with pytest.raises(DeviceError, match=r"CRED_BUF_SIZE=\d+") as refused:
        await driver.install(make_chain(await driver.make_key()))
    assert refused.value.code == "device.buffer_too_small"
    assert board.stored is None


async def test_a_shell_that_reboots_in_the_middle_is_told_and_the_next_try_ends_well(make_chain):
    board = ZephyrBoard(loads=False)
    driver = drive(board)
    chain = make_chain(await driver.make_key())
    pieces = iter(range(10_000))

    def reboot(match):
        if next(pieces) == 4:
            board.buffer = ""
            board.say("*** Booting Zephyr OS build v3.7.99 ***\r\n")
            return None
        return board._buf(match[1])

    board.on("cred buf (.*)", reboot)
    board.on("cred buf clear", lambda _: board._clear())
    await driver.install(chain)
    assert await driver.read_back(chain) == chain[0]


async def test_a_reboot_that_loses_the_certificate_is_seen(board, make_chain):
    driver = drive(board)
    chain = make_chain(await driver.make_key())
    await driver.install(chain)
    board.stored = None
    board.say("*** Booting Zephyr OS build v3.7.99 ***\r\n")
    with pytest.raises((DeviceError, Garbled)):
        await driver.read_back(chain)


async def test_a_proof_is_bound_to_challenge_and_certificate(board, make_chain):
    driver = drive(board)
    chain = make_chain(await driver.make_key())
    await driver.install(chain)
    message, signature = await driver.prove(bytes(32))
    verify_proof(chain[0], bytes(32), message, signature)
    for leaf, challenge in ((chain[0], b"1" * 32), (chain[1], bytes(32))):
        with pytest.raises(DeviceError) as refused:
            verify_proof(leaf, challenge, message, signature)
        assert refused.value.code == "device.proof_unbound"


async def test_a_proof_by_another_key_does_not_verify(board, make_chain):
    driver = drive(board)
    chain = make_chain(await driver.make_key())
    await driver.install(chain)
    board.key = ec.generate_private_key(ec.SECP256R1())
    message, signature = await driver.prove(bytes(32))
    with pytest.raises(DeviceError) as refused:
        verify_proof(chain[0], bytes(32), message, signature)
    assert refused.value.code == "device.proof_invalid"


async def test_a_credential_that_is_no_certificate_is_a_foreign_one(board):
    board.stored = b"something of another tool\0"
    identity = await drive(board).identify()
    assert identity.leaf_sha256 == sha256(board.stored).digest()


async def test_a_shell_without_the_commands_is_named_so(board):
    board.on("nrf_cloud_cred .*", "nrf_cloud_cred: command not found")
    with pytest.raises(Unknown, match="nrf_cloud_cred pubkey 42"):
        await drive(board).identify()


async def test_a_silent_board_is_no_answer_and_a_flood_is_garbled(board):
    board.on(".*", None)
    board.unknown = lambda _: None
    board._echo, board._prompt = False, ""
    with pytest.raises(NoAnswer):
        await drive(board).identify()
    board.on(".*", "\n".join(["noise"] * 20_000))
    with pytest.raises(Garbled):
        await drive(board).identify()


async def test_it_closes_nothing_and_says_so(board):
    driver = drive(board)
    assert await driver.lock_state() is Locks.NONE
    with pytest.raises(DeviceError) as refused:
        await driver.lock(Locks.DEBUG)
    assert refused.value.code == "device.cant_lock"


async def test_a_missing_and_a_garbled_answer_are_counted_and_a_whole_one_is_not(board):
    driver = ZephyrShellDriver(board.plug(), sec_tag=TAG, timeouts=QUICK)
    await driver.identify()
    before = driver.disturbances
    await driver.identify()
    assert driver.disturbances == before
    board.on("hwinfo devid", "ID: 0xe8f1?", times=1)
    await driver.identify()
    assert driver.disturbances == before + 1
    board.on(r"q[0-9a-f]{8}", "", times=1)  # the end of an answer does not come
    await driver.identify()
    assert driver.disturbances == before + 2
