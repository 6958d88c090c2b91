import hashlib
import secrets

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from smpclient import SMPClient
from smpclient.requests.os_management import EchoWrite

from firmware_tools.provisioning import PROOF_DOMAIN
from firmware_tools.provisioning_group import ChainWrite, ProvisioningError
from station.devices import DeviceState, Identity, Locks
from station.devices.smp import RESTARTS, SmpDriver, Timeouts
from station.errors import DeviceError, LinkError, NoAnswer, UnitRefused, Unplugged
from station.testing import ScriptedBoard, Verb

QUICK = Timeouts(identify=(0.02, 0.02), answer=(0.02, 0.02), crypto=(0.02, 0.02))


@pytest.fixture
def board():
    return ScriptedBoard()


def drive(board):
    return SmpDriver(board.plug(), timeouts=QUICK)


async def provision(driver, make_chain):
    chain = make_chain(await driver.make_key())
    await driver.install(chain)
    return chain


def asked(board, verb):
    return [request for asked_verb, request in board.requests if asked_verb is verb]


def answer_right(_request, answer):
    return answer


# Identify.


async def test_a_blank_board_says_who_it_is(board):
    identity = await drive(board).identify()
    digest = hashlib.sha256(b"firmware").digest()
    assert identity == Identity("BOARD-0001", "reference-device", "1.0.0", digest, DeviceState.BLANK, None)


async def test_a_provisioned_board_tells_its_leaf(board, make_chain):
    driver = drive(board)
    chain = await provision(driver, make_chain)
    identity = await driver.identify()
    assert (identity.state, identity.leaf_sha256) == (DeviceState.PROVISIONED, hashlib.sha256(chain[0]).digest())


async def test_a_field_that_we_do_not_know_is_passed_over(board):
    board.change(Verb.IDENT, colour="blue", sequence=7, header="x", smp_data=1)
    assert (await drive(board).identify()).hardware_id == "BOARD-0001"


@pytest.mark.parametrize(("version", "whose"), [(2, "station"), (0, "firmware")])
async def test_another_protocol_version_says_what_to_update(board, version, whose):
    board.change(Verb.IDENT, v=version)
    board.drop(Verb.IDENT, "hw", "st")  # it may have changed more than its number
    board.change(Verb.IDENT, v=version, st="unheard of")
    with pytest.raises(DeviceError, match=f"version {version} of the provisioning protocol.*update the {whose}") as bad:
        await drive(board).identify()
    assert bad.value.code == "device.protocol_version"


async def test_a_board_that_boots_slowly_is_waited_for(board):
    board.hush(Verb.IDENT, times=3)
    driver = SmpDriver(board.plug(), timeouts=Timeouts(identify=(0.01,) * 4))
    assert (await driver.identify()).hardware_id == "BOARD-0001"


async def test_a_board_without_our_group_can_not_be_provisioned(board):
    board.script(Verb.IDENT, lambda _request, _answer: {"rc": 8})
    with pytest.raises(DeviceError, match="does not know the command") as refused:
        await drive(board).identify()
    assert refused.value.code == "device.enotsup"


# Make key.


async def test_a_board_makes_a_key_and_signs_its_request(board):
    csr = x509.load_der_x509_csr(await drive(board).make_key())
    assert csr.is_signature_valid
    assert csr.public_key() == board.key.public_key()


async def test_asking_twice_gives_the_same_key(board):
    driver = drive(board)
    assert await driver.make_key() == await driver.make_key()


async def test_a_csr_comes_in_pieces_when_the_board_is_small():
    board = ScriptedBoard(buffer=128)
    csr = await drive(board).make_key()
    assert csr == board.csr
    assert len(asked(board, Verb.CSR)) == 4


async def test_a_csr_that_the_board_lost_half_way_is_fetched_anew():
    board = ScriptedBoard(buffer=128)
    board.refuse(Verb.CSR, ProvisioningError.BAD_OFFSET, times=1)
    board.script(Verb.CSR, answer_right, times=2)
    assert await drive(board).make_key() == board.csr
    assert [request["off"] for request in asked(board, Verb.CSR)].count(0) == 2


async def test_a_csr_that_never_holds_still_is_given_up(board):
    board.refuse(Verb.CSR, ProvisioningError.BAD_OFFSET)
    with pytest.raises(DeviceError) as stuck:
        await drive(board).make_key()
    assert stuck.value.code == "device.stuck"
    assert len(asked(board, Verb.CSR)) == RESTARTS


# Install.


async def test_a_chain_goes_in_one_message_when_it_fits(board, make_chain):
    await provision(drive(board), make_chain)
    assert len(asked(board, Verb.CHAIN_WRITE)) == 1


@pytest.mark.parametrize("size", [128, 200, 256, 300, 512, 4096, 65535])
async def test_no_message_is_larger_than_the_board_takes(size, make_chain):
    board = ScriptedBoard(buffer=size)
    link = board.plug()
    driver = SmpDriver(link, timeouts=QUICK)
    chain = await provision(driver, make_chain)
    assert board.chain == b"".join(chain)
    messages = [8 + len(request["data"]) for request in asked(board, Verb.CHAIN_WRITE)]
    assert max(messages) <= min(size, 4096)


async def test_a_piece_fills_the_buffer_of_the_board(make_chain):
    board = ScriptedBoard(buffer=300)
    await provision(drive(board), make_chain)
    sizes = [len(ChainWrite(**request).BYTES) for request in asked(board, Verb.CHAIN_WRITE)]
    assert max(sizes) in (299, 300)


async def test_a_board_that_wants_an_earlier_piece_gets_it(make_chain):
    board = ScriptedBoard(buffer=256)
    driver = drive(board)
    csr = await driver.make_key()

    def forget(_request, _answer):
        board._transfer = board._transfer[:100]
        return {"off": 100}

    board.script(Verb.CHAIN_WRITE, forget, times=1)
    board.script(Verb.CHAIN_WRITE, answer_right, times=1)
    chain = make_chain(csr)
    await driver.install(chain)
    assert board.chain == b"".join(chain)
    assert [request["off"] for request in asked(board, Verb.CHAIN_WRITE)].count(100) == 1


async def test_a_transfer_that_the_board_forgot_begins_anew(make_chain):
    board = ScriptedBoard(buffer=256)
    driver = drive(board)
    csr = await driver.make_key()
    board.refuse(Verb.CHAIN_WRITE, ProvisioningError.BAD_OFFSET, times=1)
    board.script(Verb.CHAIN_WRITE, answer_right, times=1)
    chain = make_chain(csr)
    await driver.install(chain)
    assert board.chain == b"".join(chain)


async def test_a_transfer_that_never_advances_is_given_up(board, make_chain):
    driver = drive(board)
    csr = await driver.make_key()
    board.change(Verb.CHAIN_WRITE, off=0)
    with pytest.raises(DeviceError) as stuck:
        await driver.install(make_chain(csr))
    assert stuck.value.code == "device.stuck"
    assert len(asked(board, Verb.CHAIN_WRITE)) == RESTARTS + 1


async def test_a_lost_answer_to_the_last_piece_still_ends_well(board, make_chain):
    driver = drive(board)
    csr = await driver.make_key()
    board.hush(Verb.CHAIN_WRITE, times=1)
    chain = make_chain(csr)
    await driver.install(chain)
    assert board.chain == b"".join(chain)


async def test_the_chain_of_another_board_is_refused_by_name(board, make_chain):
    other = drive(ScriptedBoard("BOARD-0002"))
    driver = drive(board)
    await driver.make_key()
    with pytest.raises(DeviceError, match="not for its key") as refused:
        await driver.install(make_chain(await other.make_key()))
    assert refused.value.code == "device.wrong_key"
    assert "red bin" in refused.value.operator


async def test_a_chain_whose_links_do_not_hold_is_refused_by_name(board, make_chain):
    driver = drive(board)
    leaf, _ = make_chain(await driver.make_key())
    with pytest.raises(DeviceError) as refused:
        await driver.install([leaf, leaf])
    assert refused.value.code == "device.broken_link"


@pytest.mark.parametrize("chain", [[], [b""], [bytes(4097)]])
async def test_a_chain_of_an_impossible_size_is_not_sent(board, chain):
    with pytest.raises(UnitRefused) as refused:
        await drive(board).install(chain)
    assert refused.value.code == "unit.chain_too_large"
    assert not board.requests


@pytest.mark.parametrize("code", [code for code in ProvisioningError if code not in (0, 4)])
async def test_each_return_code_has_its_name_and_a_sentence(board, code):
    board.refuse(Verb.LOCK_READ, code)
    with pytest.raises(DeviceError, match=code.name) as refused:
        await drive(board).lock_state()
    assert refused.value.code == f"device.{code.name.lower()}"
    assert refused.value.operator.endswith(".")


@pytest.mark.parametrize("answer", [{"err": {"group": 80, "rc": 99}}, {"rc": 99}, {"err": {"group": 1, "rc": 2}}])
async def test_a_return_code_that_we_do_not_know_is_a_refusal(board, answer):
    board.script(Verb.LOCK_READ, lambda _request, _answer: answer)
    with pytest.raises(DeviceError) as refused:
        await drive(board).lock_state()
    assert refused.value.code == "device.refused"


async def test_a_zero_return_code_beside_the_answer_is_success(board):
    board.change(Verb.LOCK_READ, rc=0)  # MCUboot's habit
    assert await drive(board).lock_state() == Locks.NONE


# Read back.


async def test_of_a_chain_that_is_known_only_the_leaf_crosses_the_wire(board, make_chain):
    chain = await provision(drive(board), make_chain)
    assert await drive(board).read_back(chain) == chain[0]
    assert asked(board, Verb.CHAIN_READ) == [{"off": 0, "max": len(chain[0])}]


async def test_the_leaf_is_read_out_of_a_chain_that_nobody_knows(board, make_chain):
    chain = await provision(drive(board), make_chain)
    assert await drive(board).read_back(None) == chain[0]


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_small_board_is_read_in_pieces(make_chain, is_known):
    board = ScriptedBoard(buffer=200)
    chain = await provision(drive(board), make_chain)
    assert await drive(board).read_back(chain if is_known else None) == chain[0]


async def test_a_board_that_keeps_something_else_is_caught_by_its_digest(board, make_chain):
    driver = drive(board)
    leaf, issuer = await provision(driver, make_chain)
    board.chain = leaf + issuer[:-1] + bytes([issuer[-1] ^ 1])
    with pytest.raises(DeviceError, match="does not hold the chain") as differs:
        await driver.read_back([leaf, issuer])
    assert differs.value.code == "device.chain_differs"


async def test_a_board_that_keeps_less_is_caught_by_the_length(board, make_chain):
    driver = drive(board)
    leaf, issuer = await provision(driver, make_chain)
    board.chain = leaf
    with pytest.raises(DeviceError, match="length of the chain") as differs:
        await driver.read_back([leaf, issuer])
    assert differs.value.code == "device.chain_differs"


async def test_a_wrong_digest_is_caught_when_nobody_knows_the_chain(board, make_chain):
    await provision(drive(board), make_chain)
    board.change(Verb.CHAIN_READ, sha=bytes(32))
    with pytest.raises(DeviceError) as differs:
        await drive(board).read_back(None)
    assert differs.value.code == "device.chain_differs"


async def test_a_board_without_a_chain_is_in_the_wrong_state(board):
    with pytest.raises(DeviceError) as refused:
        await drive(board).read_back(None)
    assert refused.value.code == "device.wrong_state"


# Prove and lock.


async def test_a_proof_is_over_domain_challenge_and_leaf(board, make_chain):
    driver = drive(board)
    chain = await provision(driver, make_chain)
    await driver.read_back(chain)
    challenge = secrets.token_bytes(32)
    message, signature = await driver.prove(challenge)
    assert message == PROOF_DOMAIN + challenge + hashlib.sha256(chain[0]).digest()
    board.key.public_key().verify(signature, message, ec.ECDSA(hashes.SHA256()))


async def test_a_proof_without_reading_back_reads_back_first(board, make_chain):
    await provision(drive(board), make_chain)
    await drive(board).prove(bytes(32))
    assert [verb for verb, _ in board.requests[-2:]] == [Verb.CHAIN_READ, Verb.PROVE]


async def test_locks_close_and_are_observed(board):
    driver = drive(board)
    await driver.lock(Locks.DEBUG)
    await driver.lock(Locks.CREDENTIALS)
    assert await driver.lock_state() == Locks.DEBUG | Locks.CREDENTIALS


async def test_a_locked_board_takes_no_chain(board, make_chain):
    driver = drive(board)
    await provision(driver, make_chain)
    await driver.lock(Locks.CREDENTIALS)
    with pytest.raises(DeviceError) as refused:
        await provision(driver, make_chain)
    assert refused.value.code == "device.is_locked"


# The wire.


async def test_a_good_unit_needs_seven_exchanges(board, make_chain):
    driver = drive(board)
    await driver.identify()
    await driver.read_back(await provision(driver, make_chain))
    await driver.prove(bytes(32))
    await driver.lock(Locks.DEBUG)
    await driver.lock_state()
    assert len(board.requests) == 7


async def test_more_than_half_of_the_wire_is_content(board, make_chain):
    driver = drive(board)
    await driver.identify()
    chain = await provision(driver, make_chain)
    await driver.read_back(chain)
    _, signature = await driver.prove(bytes(32))
    # What any protocol has to carry: identity, CSR, chain, digests, leaf, challenge, signature.
    content = 80 + len(board.csr) + sum(map(len, chain)) + 32 + 32 + len(chain[0]) + 32 + len(signature)
    wire = driver.transport.bytes_sent + driver.transport.bytes_received
    assert content / wire > 0.55  # Base64 alone leaves 0.75


async def test_a_board_that_never_answers_is_no_answer(board):
    board.hush(Verb.IDENT)
    with pytest.raises(NoAnswer, match="no byte came in 2 tries"):
        await drive(board).identify()


@pytest.mark.parametrize("verb", [Verb.IDENT, Verb.CSR, Verb.CHAIN_WRITE, Verb.CHAIN_READ, Verb.PROVE, Verb.LOCK_WRITE])
async def test_unplug_in_the_middle_of_each_verb_is_unplugged(board, make_chain, verb):
    board.unplug_on(verb)
    driver = drive(board)
    with pytest.raises(Unplugged):
        await walk(driver, make_chain)


@pytest.mark.parametrize("verb", [Verb.IDENT, Verb.CSR, Verb.CHAIN_WRITE, Verb.CHAIN_READ, Verb.PROVE, Verb.LOCK_WRITE])
async def test_one_lost_answer_in_each_verb_is_no_failure(board, make_chain, verb):
    board.hush(verb, times=1)
    await walk(drive(board), make_chain)
    assert board.state is DeviceState.LOCKED


@pytest.mark.parametrize("verb", [Verb.IDENT, Verb.CSR, Verb.CHAIN_WRITE, Verb.CHAIN_READ, Verb.PROVE, Verb.LOCK_WRITE])
async def test_one_damaged_answer_in_each_verb_is_no_failure(board, make_chain, verb):
    board.say(verb, b"\x06\x09AAwAAAAAAAAAAAAAAAAA\n", times=1)
    await walk(drive(board), make_chain)
    assert board.state is DeviceState.LOCKED


async def walk(driver, make_chain):
    await driver.identify()
    await driver.read_back(await provision(driver, make_chain))
    await driver.prove(bytes(32))
    await driver.lock(Locks.DEBUG | Locks.CREDENTIALS)
    assert await driver.lock_state() == Locks.DEBUG | Locks.CREDENTIALS


# Beside provisioning.


async def test_echo_parameters_and_reboot(board):
    driver = drive(board)
    assert await driver.echo("hello") == "hello"
    assert await driver.parameters() == (1024, 1)
    await driver.reboot()
    assert board.requests[-1][0] is Verb.RESET


async def test_smpclient_speaks_over_our_transport(board):
    client = SMPClient(drive(board).transport, "slot 1")
    assert (await client.request(EchoWrite(d="firmware goes this way"))).r == "firmware goes this way"


async def test_a_closed_link_says_so(board):
    link = board.plug()
    link.close()
    with pytest.raises(LinkError, match="is closed"):
        await SmpDriver(link).identify()
