"""The provisioning group of the reference device, over the wire, in each build."""

import os
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from firmware_tools.build import build_device, system_mbedtls_version
from firmware_tools.provisioning import MAX_CHAIN, PROOF_DOMAIN, DeviceState, Locks
from firmware_tools.provisioning_group import (
    PROTOCOL_VERSION,
    ChainRead,
    ChainWrite,
    CsrWrite,
    IdentRead,
    LockRead,
    LockWrite,
    ProveWrite,
    ProvisioningError,
)

NONCE = bytes(range(32))


@pytest.fixture
def board(power_on, device):
    return power_on(device)


@pytest.fixture
def provisioned(board, ca):
    board.install(ca.chain(board.csr().public_key()))
    return board


def refusal(answer):
    return answer.err.rc


def test_a_blank_board_says_who_it_is(board):
    answer = board.ask(IdentRead())
    assert (answer.v, answer.hw, answer.model) == (PROTOCOL_VERSION, "HW-0001", "reference-device")
    assert (answer.fw, len(answer.img), answer.st, answer.leaf) == ("1.0.0", 32, DeviceState.BLANK, None)


def test_the_csr_is_signed_by_its_key_and_names_the_board(board):
    csr = board.csr()
    assert csr.is_signature_valid
    assert csr.subject.rfc4514_string() == "CN=HW-0001"
    assert isinstance(csr.public_key().curve, ec.SECP256R1)
    assert board.ask(IdentRead()).st is DeviceState.KEYED


@pytest.mark.parametrize("hardware_id", ["0", "a-B.c_d:9", "x" * 64])
def test_any_hardware_id_there_may_be_stands_in_the_csr(power_on, device, hardware_id):
    csr = power_on(device, "--hardware-id", hardware_id).csr()
    assert csr.is_signature_valid
    assert [name.value for name in csr.subject] == [hardware_id]


def test_the_csr_can_be_asked_for_in_pieces(board):
    whole = board.ask(CsrWrite(off=0)).data
    piece = board.ask(CsrWrite(off=100))
    assert (piece.len, piece.off, piece.data) == (len(whole), 100, whole[100:])


def test_a_csr_beyond_its_end_is_a_bad_offset(board):
    size = board.ask(CsrWrite(off=0)).len
    assert refusal(board.ask(CsrWrite(off=size))) is ProvisioningError.BAD_OFFSET


def test_asking_twice_gives_the_same_key_also_after_a_power_cut(power_on, device):
    board = power_on(device)
    first = board.ask(CsrWrite(off=0)).data
    assert board.ask(CsrWrite(off=0)).data == first
    board.kill()
    assert power_on(device).ask(CsrWrite(off=0)).data == first


def test_two_boards_have_two_keys(power_on, device):
    keys = {power_on(device, storage=name).csr().public_key().public_numbers() for name in ("one", "two")}
    assert len(keys) == 2


@pytest.mark.parametrize("piece", [1, 100, 1900])
def test_a_chain_in_pieces_is_stored_and_read_back(board, ca, piece):
    chain = ca.chain(board.csr().public_key())
    assert board.install(chain, piece=piece).off == len(chain)
    answer = board.ask(ChainRead(off=0))
    assert (answer.data, answer.len, answer.sha) == (chain, len(chain), sha256(chain).digest())


def test_the_leaf_alone_can_be_read(provisioned, ca):
    leaf = ca.leaf(provisioned.csr().public_key())
    answer = provisioned.ask(ChainRead(off=0, max=len(leaf)))
    assert answer.data == leaf
    assert provisioned.ask(ChainRead(off=len(leaf))).data == ca.intermediate


def test_a_provisioned_board_tells_the_digest_of_its_leaf(provisioned, ca):
    answer = provisioned.ask(IdentRead())
    assert answer.st is DeviceState.PROVISIONED
    assert answer.leaf == sha256(ca.leaf(provisioned.csr().public_key())).digest()


def test_the_proof_is_signed_with_the_key_of_the_leaf(provisioned, ca):
    key = provisioned.csr().public_key()
    proof = provisioned.ask(ProveWrite(nonce=NONCE))
    signed = PROOF_DOMAIN + NONCE + sha256(ca.leaf(key)).digest()
    key.verify(proof.sig, signed, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_challenge_of_another_size_is_refused(provisioned, size):
    assert refusal(provisioned.ask(ProveWrite(nonce=bytes(size)))) is ProvisioningError.BAD_REQUEST


@pytest.mark.parametrize(
    "ask",
    [ProveWrite(nonce=NONCE), ChainRead(off=0), LockWrite(locks=Locks.CREDENTIALS)],
    ids=["prove", "read", "lock"],
)
def test_without_a_chain_it_is_the_wrong_state(board, ask):
    board.csr()
    assert refusal(board.ask(ask)) is ProvisioningError.WRONG_STATE


def test_a_chain_before_the_key_is_the_wrong_state(board, ca):
    chain = ca.chain(ec.derive_private_key(3, ec.SECP256R1()).public_key())
    assert refusal(board.install(chain)) is ProvisioningError.WRONG_STATE


def test_a_leaf_for_another_key_is_refused(board, ca):
    board.csr()
    chain = ca.chain(ec.derive_private_key(3, ec.SECP256R1()).public_key())
    assert refusal(board.install(chain)) is ProvisioningError.WRONG_KEY


def test_a_leaf_that_the_next_certificate_did_not_sign_is_refused(board, ca, make_ca):
    other = make_ca(ec.derive_private_key(5, ec.SECP256R1()))
    chain = ca.leaf(board.csr().public_key()) + other.intermediate
    assert refusal(board.install(chain)) is ProvisioningError.BROKEN_LINK


def test_an_issuer_that_is_no_ca_is_refused(board, ca):
    key = board.csr().public_key()
    no_ca = ca.certify("Intermediate", ca._key.public_key(), "Root", ca._root)
    assert refusal(board.install(ca.leaf(key) + no_ca)) is ProvisioningError.BROKEN_LINK


def test_a_leaf_without_its_issuer_is_enough(board, ca):
    leaf = ca.leaf(board.csr().public_key())
    assert board.install(leaf).off == len(leaf)


def test_a_chain_under_a_p384_key_is_understood(board, make_ca):
    ca = make_ca(ec.derive_private_key(7, ec.SECP384R1()))
    assert board.install(ca.chain(board.csr().public_key())).off > 0


def test_a_chain_under_an_rsa_key_is_understood(board, make_ca):
    ca = make_ca(rsa.generate_private_key(65537, 2048))
    assert board.install(ca.chain(board.csr().public_key())).off > 0


@pytest.mark.parametrize(
    "spoil", [lambda c: c[:-1], lambda c: c + b"\0", lambda _: b"\x30\x03\x02\x01\x01", lambda c: c * 3]
)
def test_what_is_no_row_of_certificates_is_malformed(board, ca, spoil):
    chain = spoil(ca.chain(board.csr().public_key()))
    assert refusal(board.install(chain)) is ProvisioningError.CHAIN_MALFORMED


def test_the_names_of_an_idevid_are_understood(board, ca):
    module_name = bytes.fromhex("300f 06052a03040506 0406") + b"000001"  # hwType 1.2.3.4.5.6, hwSerialNum
    name = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.4"), module_name)
    leaf = ca.leaf(board.csr().public_key(), names=x509.SubjectAlternativeName([name]))
    assert board.install(leaf).off == len(leaf)


def test_an_unknown_critical_extension_is_malformed(board, ca):
    leaf = ca.leaf(board.csr().public_key(), critical_oid=x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"))
    assert refusal(board.install(leaf)) is ProvisioningError.CHAIN_MALFORMED


def test_a_chain_with_another_digest_is_refused(board, ca):
    chain = ca.chain(board.csr().public_key())
    answer = board.ask(ChainWrite(off=0, data=chain, len=len(chain), sha=bytes(32)))
    assert refusal(answer) is ProvisioningError.DIGEST_MISMATCH


def test_a_refused_chain_leaves_the_one_before(provisioned, ca):
    before = provisioned.ask(ChainRead(off=0)).data
    provisioned.install(ca.chain(ec.derive_private_key(3, ec.SECP256R1()).public_key()))
    assert provisioned.ask(ChainRead(off=0)).data == before


def test_a_chain_that_is_too_large_is_refused_at_its_first_piece(board):
    board.csr()
    answer = board.ask(ChainWrite(off=0, data=b"x", len=MAX_CHAIN + 1, sha=bytes(32)))
    assert refusal(answer) is ProvisioningError.TOO_LARGE


def test_more_bytes_than_announced_are_refused(board):
    board.csr()
    answer = board.ask(ChainWrite(off=0, data=b"xxx", len=2, sha=bytes(32)))
    assert refusal(answer) is ProvisioningError.TOO_LARGE


@pytest.mark.parametrize("offset", [1, 99, 101, MAX_CHAIN, 2**40])
def test_a_piece_at_another_offset_is_refused(board, ca, offset):
    chain = ca.chain(board.csr().public_key())
    board.ask(ChainWrite(off=0, data=chain[:100], len=len(chain), sha=sha256(chain).digest()))
    assert refusal(board.ask(ChainWrite(off=offset, data=b"x"))) is ProvisioningError.BAD_OFFSET


@pytest.mark.parametrize("cut", [100, None])
def test_a_piece_whose_answer_was_lost_can_be_sent_again(board, ca, cut):
    chain = ca.chain(board.csr().public_key())
    board.ask(ChainWrite(off=0, data=chain[:50], len=len(chain), sha=sha256(chain).digest()))
    answers = [board.ask(ChainWrite(off=50, data=chain[50:cut])).off for _ in range(2)]
    assert answers == [cut or len(chain)] * 2


def test_a_chain_for_the_same_key_replaces_the_one_before(provisioned, make_ca):
    chain = make_ca(ec.derive_private_key(9, ec.SECP256R1())).chain(provisioned.csr().public_key())
    provisioned.install(chain)
    assert provisioned.ask(ChainRead(off=0)).data == chain


def test_chains_can_be_replaced_more_often_than_flash_has_room(provisioned, make_ca):
    key = provisioned.csr().public_key()
    authorities = [make_ca(ec.derive_private_key(20 + i, ec.SECP256R1())) for i in range(2)]
    for turn in range(60):
        chain = authorities[turn % 2].chain(key)
        assert provisioned.install(chain).off == len(chain)
    assert provisioned.ask(ChainRead(off=0)).data == chain


@pytest.mark.parametrize("locks", [Locks.DEBUG, Locks.CREDENTIALS, Locks.DEBUG | Locks.CREDENTIALS])
def test_locks_are_observed_also_after_a_power_cut(power_on, device, ca, locks):
    board = power_on(device)
    board.install(ca.chain(board.csr().public_key()))
    assert board.ask(LockRead()).locks == Locks.NONE
    assert board.ask(LockWrite(locks=locks)).locks == locks
    board.kill()
    assert power_on(device).ask(LockRead()).locks == locks


def test_a_lock_is_never_opened_again(provisioned):
    provisioned.ask(LockWrite(locks=Locks.CREDENTIALS))
    assert provisioned.ask(LockWrite(locks=Locks.NONE)).locks == Locks.CREDENTIALS


@pytest.mark.parametrize("lock", [Locks.DEBUG, Locks.CREDENTIALS])
def test_the_state_is_locked_once_the_credentials_are(provisioned, lock):
    provisioned.ask(LockWrite(locks=lock))
    expected = DeviceState.LOCKED if lock is Locks.CREDENTIALS else DeviceState.PROVISIONED
    assert provisioned.ask(IdentRead()).st is expected


def test_an_unknown_lock_is_refused(provisioned):
    assert refusal(provisioned.ask(LockWrite(locks=Locks(4)))) is ProvisioningError.BAD_REQUEST


def test_a_locked_board_refuses_another_chain(provisioned, make_ca):
    provisioned.ask(LockWrite(locks=Locks.CREDENTIALS))
    chain = make_ca(ec.derive_private_key(9, ec.SECP256R1())).chain(provisioned.csr().public_key())
    assert refusal(provisioned.install(chain)) is ProvisioningError.IS_LOCKED


def test_a_locked_board_takes_the_chain_that_it_has(provisioned, ca):
    provisioned.ask(LockWrite(locks=Locks.CREDENTIALS))
    chain = ca.chain(provisioned.csr().public_key())
    assert provisioned.install(chain).off == len(chain)


def test_an_error_in_smp_version_1_is_a_code_of_the_protocol(board):
    answer = board.exchange(bytes.fromhex("0000000100500702a0"))  # chain read of a board without one
    assert answer == bytes.fromhex("0100000500500702") + b"\xa1\x62rc\x03"  # EINVAL: "off" is missing


def test_the_key_stands_in_a_file_that_only_its_owner_can_read(board):
    board.csr()
    assert (board.storage / "flash.bin").stat().st_mode & 0o777 == 0o600


def test_the_legacy_build_sends_null_parameters(power_on, build_folder):
    if system_mbedtls_version() >= (3, 0, 0):
        pytest.skip("the system's Mbed TLS is 3.x: its CSR writer is sound")
    board = power_on(build_device(build_folder, legacy_csr=True))
    csr = board.ask(CsrWrite(off=0)).data
    ecdsa_with_sha256 = bytes.fromhex("06082a8648ce3d040302")
    assert ecdsa_with_sha256 + b"\x05\x00" in csr
    with pytest.raises(ValueError, match="signature_alg"):
        x509.load_der_x509_csr(csr)


def test_a_challenge_is_answered_freshly(provisioned):
    first, second = (provisioned.ask(ProveWrite(nonce=os.urandom(32))).sig for _ in range(2))
    assert first != second
