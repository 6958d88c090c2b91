"""The way of one unit, with a real token and a real manifest; the board is a script in memory."""

import asyncio
import sqlite3
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib.resources import files

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_tools.provisioning import Locks
from firmware_tools.provisioning_group import ProvisioningError
from hsm import Authority, IssuanceError, Profile, Signer, TokenUri
from hsm.ceremony import init_ca
from hsm.testing import temporary_ca
from station.config import OrderSection, ProductSection
from station.devices.smp import SmpDriver
from station.errors import UnitRefused
from station.events import SlotState
from station.line import policy
from station.line.unit import UnitRun
from station.line.workshop import Workshop
from station.manifest import Manifest, ManifestReader, UnitState, operations
from station.testing import ScriptedBoard, Verb
from station.testing.orders import open_signed

ORDER = OrderSection(name="WO-1")
PRODUCT = ProductSection(
    model="reference-device", firmware_version=None, firmware_sha256=None, locks=Locks.DEBUG | Locks.CREDENTIALS
)
STEP_VERBS = {
    "identify": Verb.IDENT,
    "key": Verb.CSR,
    "install": Verb.CHAIN_WRITE,
    "read back": Verb.CHAIN_READ,
    "prove": Verb.PROVE,
    "lock": Verb.LOCK_WRITE,
}


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    with temporary_ca(tmp_path_factory.mktemp("ca"), extra_tokens=["root 2", "intermediate 2"]) as ca:
        yield ca


@pytest.fixture
async def shop(ca, tmp_path):
    authority = await Authority.open(ca.signer, issuer=ca.issuer, chain=[ca.root])
    with Manifest.open(tmp_path / "manifest.db") as manifest:
        orders = await open_signed(manifest, name=ORDER.name, quantity=3, station_id=7)
        yield Workshop(
            manifest=manifest,
            authority=authority,
            profile=Profile.load("idevid"),
            product=PRODUCT,
            order=ORDER,
            station_id=7,
            orders=orders,
        )


@pytest.fixture
async def other_authority(ca, tmp_path):
    """Another CA, in other tokens of the same folder."""
    tokens = replace(ca.softhsm, labels=("root 2", "intermediate 2"))
    uris = [TokenUri.parse(tokens.uri(label)) for label in tokens.labels]
    uris = [replace(uri, object=tmp_path.name) for uri in uris]  # the tokens serve all tests of this module
    with Signer.open(uris[1], environment=tokens.environment, writable=True) as signer:
        made = init_ca(
            root=uris[0],
            intermediate=signer,
            name="Other",
            folder=tmp_path / "other",
            environment=tokens.environment,
        )
        yield await Authority.open(signer, issuer=made.intermediate, chain=[made.root])


@pytest.fixture
def told():
    return []


async def run(shop, board, told, slot="1"):
    """Plug a board in and run its unit."""
    link = board.plug()
    try:
        return await UnitRun(shop, SmpDriver(link), slot, told.append).run()
    finally:
        link.close()


def history(shop, board):
    with ManifestReader(shop.manifest.path) as reader:
        return reader.unit(board.hardware_id)


def csr_of(key):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "B")])
    return x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256()).public_bytes(Encoding.DER)


def silence_once(board, verb):
    """Let the board be silent when it is next asked; the event tells that it was asked."""
    asked = asyncio.Event()
    board.script(verb, lambda _request, _answer: asked.set(), times=1)
    return asked


async def test_a_blank_board_becomes_a_recorded_unit(shop, told):
    board = ScriptedBoard()
    end = await run(shop, board, told)
    assert (end.state, end.product_serial) == (SlotState.PASSED, "SN000001")
    assert [event.step for event in told if event.state is SlotState.RUNNING] == [step.name for step in policy.STEPS]
    unit = history(shop, board)
    assert unit.unit.state is UnitState.PASSED
    assert unit.unit.issuance.certificate == board.leaf
    assert unit.proof.locks == PRODUCT.locks


async def test_the_certificate_carries_our_subject_whatever_the_csr_asks_for(shop, ca, told):
    board = ScriptedBoard()
    await run(shop, board, told)
    leaf = x509.load_der_x509_certificate(board.leaf)
    leaf.verify_directly_issued_by(ca.issuer)
    assert leaf.subject.get_attributes_for_oid(x509.NameOID.SERIAL_NUMBER)[0].value == "SN000001"
    assert leaf.serial_number.to_bytes(16)[0] == shop.station_id


async def test_a_finished_board_is_recognised_and_not_touched(shop, told):
    board = ScriptedBoard()
    await run(shop, board, told)
    before = board.leaf
    board.requests.clear()
    end = await run(shop, board, told)
    assert (end.state, end.product_serial) == (SlotState.DONE_BEFORE, "SN000001")
    assert {verb for verb, _ in board.requests} == {Verb.IDENT, Verb.CHAIN_READ, Verb.PROVE, Verb.LOCK_READ}
    assert board.leaf == before
    assert len(history(shop, board).issuances) == 1


async def test_a_copy_of_a_finished_board_is_not_done_before(shop, told):
    board = ScriptedBoard()
    await run(shop, board, told)
    copy = ScriptedBoard()
    copy.chain, copy.locks = board.chain, board.locks  # all that can be read from a board
    copy.key = ec.generate_private_key(ec.SECP256R1())
    end = await run(shop, copy, told)
    assert (end.state, end.code) == (SlotState.FAILED, "device.proof_invalid")


async def test_a_digest_alone_is_not_done_before(shop, told):
    board = ScriptedBoard()
    await run(shop, board, told)
    empty = ScriptedBoard()
    empty.change(Verb.IDENT, leaf=sha256(board.leaf).digest(), st=3)
    end = await run(shop, empty, told)
    assert (end.state, end.code) == (SlotState.FAILED, "device.wrong_state")


async def test_a_finished_board_that_was_opened_again_is_not_done_before(shop, told):
    board = ScriptedBoard()
    await run(shop, board, told)
    board.locks = Locks.CREDENTIALS
    end = await run(shop, board, told)
    assert (end.state, end.code) == (SlotState.FAILED, "device.lock_open")


async def test_a_board_that_was_swapped_after_the_proof_does_not_pass(shop, told, monkeypatch):
    monkeypatch.setattr(policy, "SWAP", 0.0)  # as if the swap took as long as it takes
    board, other = ScriptedBoard("A"), ScriptedBoard("B")
    link = board.plug()

    def swap(_request, answer):
        other.plug()
        other.link = link
        link.connect(other._hear)
        return answer

    board.script(Verb.PROVE, swap)
    no_locks = replace(shop, product=replace(PRODUCT, locks=Locks.NONE))
    end = await UnitRun(no_locks, SmpDriver(link), "1", told.append).run()
    link.close()
    assert (end.state, end.code) == (SlotState.FAILED, "unit.swapped")
    assert history(shop, board).unit.state is UnitState.FAILED


async def test_a_board_swapped_between_key_and_install_is_not_blamed_for_the_certificate(shop, told, monkeypatch):
    monkeypatch.setattr(policy, "SWAP", 0.0)
    board, other = ScriptedBoard("A"), ScriptedBoard("B")
    link = board.plug()
    issue = shop.authority.issue

    async def swap(draft, *, warrant, **_again):
        other.plug()
        other.link = link
        link.connect(other._hear)
        return await issue(draft, warrant=warrant)

    monkeypatch.setattr(shop.authority, "issue", swap)
    end = await UnitRun(shop, SmpDriver(link), "1", told.append).run()
    link.close()
    assert (end.state, end.code, end.step) == (SlotState.FAILED, "unit.swapped", "install")
    assert Verb.CHAIN_WRITE not in {verb for verb, _ in other.requests}


async def test_a_board_swapped_before_its_key_gets_no_certificate_of_the_other(shop, told, monkeypatch):
    monkeypatch.setattr(policy, "SWAP", 0.0)
    board, other = ScriptedBoard("A"), ScriptedBoard("B")
    link = board.plug()

    def swap(_request, answer):
        other.plug()
        other.link = link
        link.connect(other._hear)
        return answer

    board.script(Verb.IDENT, swap)
    end = await UnitRun(shop, SmpDriver(link), "1", told.append).run()
    link.close()
    assert (end.state, end.code, end.step) == (SlotState.FAILED, "unit.swapped", "key")
    assert not history(shop, board).issuances


def with_other_intermediate(board, make_chain):
    """Return the chain of a board with another certificate behind the leaf: what its flash made of it."""
    return board.leaf + make_chain(csr_of(ec.generate_private_key(ec.SECP256R1())))[1]


async def test_a_begun_board_with_another_chain_gets_the_right_one(shop, told, make_chain):
    board = ScriptedBoard()
    board.unplug_on(Verb.CHAIN_READ)
    await run(shop, board, told)
    right, board.chain = board.chain, with_other_intermediate(board, make_chain)
    end = await run(shop, board, told)
    assert (end.state, board.chain) == (SlotState.PASSED, right)
    assert "install again" in [event.kind for event in history(shop, board).events]


async def test_another_chain_is_installed_over_once_only(shop, told, make_chain):
    board = ScriptedBoard()
    board.unplug_on(Verb.CHAIN_READ)
    await run(shop, board, told)
    wrong = board.chain = with_other_intermediate(board, make_chain)

    def keep_the_wrong_one(_request, answer):
        board.chain = wrong
        return answer

    board.script(Verb.CHAIN_WRITE, keep_the_wrong_one)
    board.requests.clear()
    end = await run(shop, board, told)
    assert (end.state, end.code) == (SlotState.FAILED, "device.chain_differs")
    assert [verb for verb, _ in board.requests].count(Verb.CHAIN_READ) == 2


async def test_a_locked_board_with_another_chain_is_refused(shop, told, make_chain):
    board = ScriptedBoard()
    board.unplug_on(Verb.LOCK_WRITE)
    await run(shop, board, told)
    board.chain = with_other_intermediate(board, make_chain)
    end = await run(shop, board, told)
    assert (end.state, end.code) == (SlotState.FAILED, "device.chain_differs")


async def test_a_finished_board_whose_issuer_was_renewed_since_is_still_done_before(shop, told, make_chain):
    board = ScriptedBoard()
    await run(shop, board, told)
    board.chain = with_other_intermediate(board, make_chain)
    assert (await run(shop, board, told)).state is SlotState.DONE_BEFORE


async def hang(*_arguments, **_named):
    await asyncio.Event().wait()


async def test_a_token_that_hangs_is_not_blamed_on_the_board(shop, told, monkeypatch):
    monkeypatch.setattr(policy, "ISSUE", replace(policy.ISSUE, deadline=0.05))
    monkeypatch.setattr(shop.authority, "issue", hang)
    end = await run(shop, ScriptedBoard(), told)
    assert (end.state, end.code, end.step) == (SlotState.FAILED, "hsm.no_answer", "issue")
    assert end.sentence == "The HSM does not answer. Leave the boards in and call the line engineer."


@pytest.mark.parametrize(
    ("call", "step"), [("begin", "BEGIN"), ("reserve", "ISSUE"), ("record", "ISSUE"), ("passed", "PASS")]
)
async def test_a_disk_that_hangs_is_not_blamed_on_the_board(shop, told, monkeypatch, call, step):
    monkeypatch.setattr(policy, step, replace(getattr(policy, step), deadline=0.2))
    monkeypatch.setattr(shop.manifest, call, hang)
    end = await run(shop, ScriptedBoard(), told)
    assert (end.state, end.code) == (SlotState.FAILED, "manifest.no_answer")
    assert "Leave the boards in" in end.sentence


async def test_a_disk_that_hangs_does_not_keep_a_failure_from_the_operator(shop, told, monkeypatch):
    monkeypatch.setattr(policy, "RECORD_FAILURE", replace(policy.RECORD_FAILURE, deadline=0.05))
    monkeypatch.setattr(shop.manifest, "failed", hang)
    board = ScriptedBoard()
    board.refuse(Verb.CSR, ProvisioningError.CRYPTO)
    assert (await run(shop, board, told)).code == "device.crypto"


async def test_a_slot_that_admits_no_new_board_goes_on_with_a_begun_one(shop, told):
    def admit_none():
        raise UnitRefused("too many", code=policy.TOO_MANY_NEW)

    async def run_in_a_stopped_slot(board):
        link = board.plug()
        try:
            return await UnitRun(shop, SmpDriver(link), "1", told.append, admit=admit_none).run()
        finally:
            link.close()

    begun, fresh = ScriptedBoard("A"), ScriptedBoard("B")
    begun.unplug_on(Verb.CHAIN_READ)
    await run(shop, begun, told)
    assert (await run_in_a_stopped_slot(begun)).state is SlotState.PASSED
    assert (await run_in_a_stopped_slot(fresh)).code == "slot.too_many_new_boards"
    assert not history(shop, fresh).issuances


@pytest.mark.parametrize("step", STEP_VERBS)
async def test_a_unit_unplugged_in_a_step_ends_with_the_same_certificate(shop, told, step):
    board = ScriptedBoard()
    board.unplug_on(STEP_VERBS[step])
    end = await run(shop, board, told)
    assert (end.state, end.code, end.step) == (SlotState.FAILED, "link.unplugged", step)
    recorded = [issuance.certificate for issuance in unit.issuances] if (unit := history(shop, board)) else []

    end = await run(shop, board, told, slot="2")
    assert (end.state, end.product_serial) == (SlotState.PASSED, "SN000001")
    unit = history(shop, board)
    assert [issuance.certificate for issuance in unit.issuances] == [board.leaf]
    assert recorded in ([], [board.leaf])


@pytest.mark.parametrize("step", STEP_VERBS)
async def test_a_unit_cut_off_in_a_step_ends_with_one_certificate(shop, told, step):
    board = ScriptedBoard()
    asked = silence_once(board, STEP_VERBS[step])
    running = asyncio.create_task(run(shop, board, told))
    await asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert told[-1].state is SlotState.STOPPED

    end = await run(shop, board, told)
    assert end.state is SlotState.PASSED
    assert [issuance.certificate for issuance in history(shop, board).issuances] == [board.leaf]


async def test_a_token_that_fails_once_signs_the_same_bytes_next_time(shop, told, monkeypatch):
    board = ScriptedBoard()

    async def no_token(_draft, **_again):
        raise IssuanceError("the token is asleep", code="token.gone")

    with monkeypatch.context() as patch:
        patch.setattr(shop.authority, "issue", no_token)
        end = await run(shop, board, told)
    assert (end.state, end.code, end.step) == (SlotState.FAILED, "token.gone", "issue")
    intended = history(shop, board).unit.issuance
    assert intended.certificate is None

    end = await run(shop, board, told)
    assert end.state is SlotState.PASSED
    unit = history(shop, board)
    assert [issuance.certificate_serial for issuance in unit.issuances] == [intended.certificate_serial]
    assert x509.load_der_x509_certificate(board.leaf).tbs_certificate_bytes == intended.tbs


async def test_a_board_that_lost_its_key_gets_a_new_certificate_and_the_old_one_is_voided(shop, told):
    board = ScriptedBoard()
    board.unplug_on(Verb.CHAIN_READ)
    await run(shop, board, told)
    old = board.leaf
    board.key = board.csr = board.chain = None

    end = await run(shop, board, told)
    assert (end.state, end.product_serial) == (SlotState.PASSED, "SN000001")
    with ManifestReader(shop.manifest.path) as reader:
        assert [entry.certificate for entry in reader.revocation_list()] == [old]
    assert history(shop, board).unit.issuance.certificate == board.leaf != old


async def test_a_board_that_contradicts_itself_voids_no_certificate(shop, told):
    board = ScriptedBoard()
    board.unplug_on(Verb.CHAIN_READ)
    await run(shop, board, told)
    board.csr = csr_of(ec.generate_private_key(ec.SECP256R1()))
    end = await run(shop, board, told)
    assert (end.state, end.code) == (SlotState.FAILED, "device.key_differs")
    assert [entry.certificate for entry in history(shop, board).issuances] == [board.leaf]


async def test_two_boards_with_one_key_are_refused(shop, told):
    first, clone = ScriptedBoard("A-1"), ScriptedBoard("A-2")
    await run(shop, first, told)
    clone.key = first.key
    end = await run(shop, clone, told)
    assert (end.state, end.code) == (SlotState.FAILED, "manifest.duplicate_key")
    assert "A-1" in end.detail
    assert clone.chain is None


async def test_one_hardware_id_in_two_slots_is_refused(shop, told):
    slow, twin = ScriptedBoard("A-1"), ScriptedBoard("A-1")
    asked = silence_once(slow, Verb.CSR)
    running = asyncio.create_task(run(shop, slow, told, slot="1"))
    await asked.wait()
    end = await run(shop, twin, told, slot="2")
    assert (end.state, end.code) == (SlotState.FAILED, "unit.twice_on_the_line")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await run(shop, slow, told, slot="2")).state is SlotState.PASSED


async def test_a_board_with_an_identity_from_elsewhere_is_refused_before_anything_is_issued(shop, told):
    board = ScriptedBoard()
    board.change(Verb.IDENT, leaf=bytes(32))
    end = await run(shop, board, told)
    assert (end.state, end.code) == (SlotState.FAILED, "unit.foreign_certificate")
    assert not history(shop, board).issuances


async def test_the_unit_after_the_last_of_the_order_is_refused(shop, told):
    ends = [await run(shop, ScriptedBoard(f"A-{number}"), told) for number in range(4)]
    assert [end.state for end in ends] == [SlotState.PASSED] * 3 + [SlotState.FAILED]
    assert ends[-1].code == "manifest.order_exhausted"


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (rsa.generate_private_key(65537, 1024), "csr.key_weak"),  # noqa: S505 - weak on purpose
        (ec.generate_private_key(ec.SECP224R1()), "csr.key_type"),
    ],
    ids=["RSA-1024", "P-224"],
)
async def test_a_key_that_is_too_weak_is_refused(shop, told, key, code):
    board = ScriptedBoard()
    board.key = ec.generate_private_key(ec.SECP256R1())
    board.csr = csr_of(key)
    end = await run(shop, board, told)
    assert (end.state, end.code) == (SlotState.FAILED, code)
    assert not history(shop, board).issuances


async def test_a_csr_that_is_der_and_no_request_is_refused_and_its_cause_noted(shop, told):
    board = ScriptedBoard()
    board.csr = bytes.fromhex("30153003020105300a06082a8648ce3d04030203020000")
    end = await run(shop, board, told)
    assert (end.state, end.code) == (SlotState.FAILED, "csr.malformed")
    (failed,) = [event for event in history(shop, board).events if event.kind == "failed"]
    assert {"cause", "reason"} <= dict(failed.facts).keys()


async def test_a_csr_with_a_broken_signature_is_refused(shop, told):
    board = ScriptedBoard()
    key = board.key = ec.generate_private_key(ec.SECP256R1())
    other = ec.generate_private_key(ec.SECP256R1())
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    board.csr = csr_of(key).replace(key.public_key().public_bytes(*spki), other.public_key().public_bytes(*spki))
    end = await run(shop, board, told)
    assert (end.state, end.code) == (SlotState.FAILED, "csr.signature_invalid")
    assert not history(shop, board).issuances


async def test_a_csr_for_another_boards_key_ends_at_the_board_that_can_not_use_it(shop, told):
    board = ScriptedBoard()
    board.key = ec.generate_private_key(ec.SECP256R1())
    board.csr = csr_of(ec.generate_private_key(ec.SECP256R1()))
    end = await run(shop, board, told)
    assert (end.state, end.code) == (SlotState.FAILED, "device.wrong_key")
    assert board.chain is None


async def test_a_board_that_gives_back_another_certificate_does_not_pass(shop, told, make_chain):
    board = ScriptedBoard()
    other = make_chain(csr_of(ec.generate_private_key(ec.SECP256R1())))[0]

    def lie(request, answer):
        return {**answer, "data": other[: request.get("max", len(other))]}

    board.script(Verb.CHAIN_READ, lie)
    end = await run(shop, board, told)
    assert end.state is SlotState.FAILED
    assert history(shop, board).unit.state is UnitState.FAILED


async def test_a_replayed_proof_does_not_pass(shop, told):
    board = ScriptedBoard()
    await run(shop, board, told)
    cheat = ScriptedBoard("A-2")
    cheat.change(Verb.PROVE, sig=b"\x30\x06\x02\x01\x01\x02\x01\x01")
    end = await run(shop, cheat, told)
    assert (end.state, end.code, end.step) == (SlotState.FAILED, "device.proof_invalid", "prove")
    assert history(shop, cheat).proof is None


async def test_a_lock_that_stays_open_does_not_pass(shop, told):
    board = ScriptedBoard()
    board.change(Verb.LOCK_WRITE, locks=3)
    board.change(Verb.LOCK_READ, locks=1)
    end = await run(shop, board, told)
    assert (end.state, end.code) == (SlotState.FAILED, "device.lock_open")
    assert history(shop, board).unit.state is UnitState.FAILED


async def test_a_refusal_of_the_board_is_told_in_its_own_words(shop, told):
    board = ScriptedBoard()
    board.refuse(Verb.CSR, ProvisioningError.CRYPTO)
    end = await run(shop, board, told)
    assert (end.state, end.code) == (SlotState.FAILED, "device.crypto")


async def test_a_full_disk_stops_the_unit_before_its_certificate_leaves(shop, told):
    board = ScriptedBoard()
    db = shop.manifest._db.conn

    def fill_the_disk(_request, answer):
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
        for size in (1000, 1):  # the pages that are there are filled up as well
            with suppress(sqlite3.OperationalError):
                while True:
                    with db:
                        db.execute(
                            "INSERT INTO event (at, slot, step, kind, facts) "
                            "VALUES (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), '1', 'identify', 'note', ?)",
                            (f'{{"text": "{"x" * size}"}}',),
                        )
        return answer

    board.script(Verb.CSR, fill_the_disk)
    end = await run(shop, board, told)
    assert board.chain is None
    assert end.state is SlotState.FAILED
    db.execute("PRAGMA max_page_count = 1000000")
    board.script(Verb.CSR, lambda _request, answer: answer)
    assert (await run(shop, board, told)).state is SlotState.PASSED
    assert [issuance.certificate for issuance in history(shop, board).issuances] == [board.leaf]


async def test_an_issuer_that_has_expired_signs_nothing(shop, told):
    late = Workshop(
        shop.manifest,
        shop.authority,
        shop.profile,
        shop.product,
        shop.order,
        shop.station_id,
        now=lambda: datetime(2020, 1, 1, tzinfo=UTC) - timedelta(days=1),
    )
    board = ScriptedBoard()
    end = await run(late, board, told)
    assert (end.state, end.code) == (SlotState.FAILED, "issuance.issuer_not_valid")
    assert not history(shop, board).issuances


async def test_terminal_escapes_in_a_serial_reach_nobody(shop, told):
    board = ScriptedBoard()
    board.change(Verb.IDENT, hw="\x1b[2J\x1b]0;owned\x07")
    end = await run(shop, board, told)
    assert end.state is SlotState.FAILED
    assert "\x1b" not in end.detail + end.sentence + end.hardware_id


async def intend(shop, board, told, monkeypatch):
    """Bring a board to its intent, and no further."""

    async def no_token(_draft, **_again):
        raise IssuanceError("the token is asleep", code="token.gone")

    with monkeypatch.context() as patch:
        patch.setattr(shop.authority, "issue", no_token)
        await run(shop, board, told)


async def test_an_intent_that_the_profile_of_today_forbids_is_voided_and_the_board_goes_on(
    shop, told, monkeypatch, tmp_path
):
    board = ScriptedBoard()
    text = (files("hsm") / "profiles" / "idevid.toml").read_text().replace('["digitalSignature"]', '["keyAgreement"]')
    (tmp_path / "idevid.toml").write_text(text)
    await intend(replace(shop, profile=Profile.load(tmp_path / "idevid.toml")), board, told, monkeypatch)
    end = await run(shop, board, told)
    assert (end.state, end.product_serial) == (SlotState.PASSED, "SN000001")
    assert [issuance.state.value for issuance in history(shop, board).issuances] == ["void", "recorded"]
    assert "ku.mismatch" in history(shop, board).issuances[0].void_reason


async def test_an_intent_of_another_issuer_is_voided_and_the_board_goes_on(shop, other_authority, told, monkeypatch):
    board = ScriptedBoard()
    await intend(shop, board, told, monkeypatch)
    end = await run(replace(shop, authority=other_authority), board, told)
    assert end.state is SlotState.PASSED
    assert [issuance.state.value for issuance in history(shop, board).issuances] == ["void", "recorded"]


async def test_a_certificate_of_another_issuer_that_never_arrived_is_listed_for_revocation(shop, other_authority, told):
    board = ScriptedBoard()
    board.unplug_on(Verb.CHAIN_READ)
    await run(shop, board, told)
    old, board.chain = board.leaf, None
    end = await run(replace(shop, authority=other_authority), board, told)
    assert end.state is SlotState.PASSED
    x509.load_der_x509_certificate(board.leaf).verify_directly_issued_by(other_authority.issuer)
    with ManifestReader(shop.manifest.path) as reader:
        assert [entry.certificate for entry in reader.revocation_list()] == [old]


async def test_an_installed_certificate_of_another_issuer_stays(shop, other_authority, told):
    board = ScriptedBoard()
    board.unplug_on(Verb.CHAIN_READ)
    await run(shop, board, told)
    old = board.leaf
    end = await run(replace(shop, authority=other_authority), board, told)
    assert end.state is SlotState.PASSED
    assert [issuance.certificate for issuance in history(shop, board).issuances] == [old]


async def test_an_intent_whose_row_was_altered_is_not_signed(shop, told, monkeypatch):
    board = ScriptedBoard()
    await intend(shop, board, told, monkeypatch)
    unit = history(shop, board).unit
    altered = unit.issuance.tbs.replace(b"SN000001", b"SN000777")
    live = replace(unit.issuance, tbs=altered, tbs_sha256=sha256(altered).digest())

    begin = shop.manifest.begin

    async def altering(**who):
        return replace(await begin(**who), issuance=live)

    signed = []
    issue = shop.authority.issue

    async def watched(draft, *, warrant, **_again):
        signed.append(draft.tbs)
        return await issue(draft, warrant=warrant)

    monkeypatch.setattr(shop.manifest, "begin", altering)
    monkeypatch.setattr(shop.authority, "issue", watched)
    await run(shop, board, told)
    assert signed
    assert not [tbs for tbs in signed if b"SN000777" in tbs]


async def test_a_unit_of_another_order_gets_no_certificate_by_the_profile_of_this_one(shop, told, monkeypatch):
    board = ScriptedBoard()
    await intend(shop, board, told, monkeypatch)
    orders = await open_signed(
        shop.manifest, name="WO-2", profile="tls-client", serial_format="T{number:06d}", station_id=7
    )
    other = replace(shop, order=OrderSection(name="WO-2"), orders=orders, profile=Profile.load("tls-client"))
    end = await run(other, board, told)
    assert (end.state, end.code) == (SlotState.FAILED, "manifest.order_differs")
    assert not any(issuance.certificate for issuance in history(shop, board).issuances)


async def test_a_board_with_a_new_key_at_each_visit_gets_a_bounded_number_of_certificates(shop, told):
    for _ in range(operations.ISSUANCES_LIMIT + 2):
        board = ScriptedBoard("ROGUE")
        board.unplug_on(Verb.PROVE)
        await run(shop, board, told)
    end = await run(shop, ScriptedBoard("ROGUE"), told)
    assert (end.state, end.code) == (SlotState.FAILED, "manifest.issuances_limit")
    assert len(history(shop, board).issuances) == operations.ISSUANCES_LIMIT


async def test_a_copy_of_another_board_under_its_name_does_not_cost_a_board_its_certificate(shop, told):
    board, other = ScriptedBoard("A"), ScriptedBoard("B")
    board.unplug_on(Verb.LOCK_WRITE)
    await run(shop, board, told)
    await run(shop, other, told)
    copy = ScriptedBoard("A")
    copy.key = other.key
    end = await run(shop, copy, told)
    assert (end.state, end.code) == (SlotState.FAILED, "manifest.duplicate_key")
    assert (await run(shop, board, told)).state is SlotState.PASSED
    assert len(history(shop, board).issuances) == 1


async def test_a_clock_that_went_back_is_told_to_the_operator(shop, told, monkeypatch):
    monkeypatch.setattr(shop.manifest._writer._stamps, "_clock", lambda: datetime.now(UTC) - timedelta(hours=1))
    end = await run(shop, ScriptedBoard(), told)
    assert (end.state, end.code) == (SlotState.FAILED, "manifest.clock_went_back")
    assert "clock" in end.sentence
