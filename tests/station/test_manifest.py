"""The way of one unit through the manifest, and who is refused."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from station.manifest import (
    DuplicateHardware,
    DuplicateKey,
    IssuanceState,
    Manifest,
    ManifestError,
    ManifestReader,
    RecordedCertificate,
    RowRefused,
    SerialCollision,
    UnitState,
)
from station.manifest.testing import FIRMWARE, ORDER, SoftBoard, begin, issue, provision, reserve


@pytest.fixture
def path(tmp_path):
    return tmp_path / "manifest.db"


@pytest.fixture
async def manifest(path):
    with Manifest.open(path) as opened:
        await opened.open_order(ORDER)
        yield opened


def history(path: Path, identity: str):
    with ManifestReader(path) as reader:
        found = reader.unit(identity)
    assert found is not None
    return found


async def test_unit_passes_with_its_evidence(manifest, path):
    board = SoftBoard("board-1")
    recorded = await issue(manifest, board)
    proof = board.proof(recorded.der)
    await manifest.passed(recorded.unit_id, proof, 3, 12.5)
    found = history(path, "board-1")
    assert found.unit.state is UnitState.PASSED
    assert found.unit.issuance.certificate == recorded.der
    assert (found.proof.challenge, found.proof.signature) == (proof.challenge, proof.signature)
    assert (found.proof.read_back_sha256, found.proof.locks, found.proof.seconds) == (recorded.sha256, 3, 12.5)


async def test_every_change_of_a_row_writes_its_event(manifest, path):
    await provision(manifest, "board-1")
    assert [(event.step, event.kind) for event in history(path, "board-1").events] == [
        ("begin", "journal"),
        ("intent", "journal"),
        ("record", "journal"),
        ("pass", "journal"),
    ]


async def test_product_serials_follow_each_other(manifest):
    serials = [(await provision(manifest, f"board-{number}")).product_serial for number in range(3)]
    assert serials == ["SN000001", "SN000002", "SN000003"]


async def test_board_that_comes_again_is_the_same_unit(manifest):
    first = await begin(manifest, "board-1")
    second = await begin(manifest, "board-1", slot="2")
    assert (second.id, second.attempts, second.slot) == (first.id, 2, "2")


async def test_resume_after_intent_hands_out_the_same_bytes(manifest):
    board = SoftBoard("board-1")
    intent = await reserve(manifest, board, await begin(manifest, "board-1"))
    unit = await begin(manifest, "board-1")
    assert unit.issuance.state is IssuanceState.INTENT
    again = await manifest.attempt(unit.issuance.id)
    assert again == dataclasses.replace(intent, signing_tries=2)


async def test_resume_after_record_hands_out_the_same_certificate(manifest):
    recorded = await issue(manifest, SoftBoard("board-1"))
    unit = await begin(manifest, "board-1")
    assert unit.issuance.state is IssuanceState.RECORDED
    assert await manifest.recorded(unit.issuance.id) == recorded


async def test_signing_tries_are_durable_before_the_token_is_asked(manifest, path):
    board = SoftBoard("board-1")
    intent = await reserve(manifest, board, await begin(manifest, "board-1"))
    assert history(path, "board-1").unit.issuance.signing_tries == 1
    await manifest.attempt(intent.issuance_id)
    assert history(path, "board-1").unit.issuance.signing_tries == 2


async def test_recorded_certificate_is_not_signed_again(manifest):
    recorded = await issue(manifest, SoftBoard("board-1"))
    with pytest.raises(RowRefused) as refused:
        await manifest.attempt(recorded.issuance_id)
    assert refused.value.code == "manifest.issuance_state"


async def test_same_certificate_twice_is_recorded_once(manifest):
    board = SoftBoard("board-1")
    intent = await reserve(manifest, board, await begin(manifest, "board-1"))
    certificate = board.drafts[-1].certificate
    assert await manifest.record(intent, certificate) == await manifest.record(intent, certificate)


async def test_certificate_other_than_intended_is_refused(manifest):
    board = SoftBoard("board-1")
    intent = await reserve(manifest, board, await begin(manifest, "board-1"))
    with pytest.raises(RowRefused) as refused:
        await manifest.record(intent, board.draft("SN000009").certificate)
    assert refused.value.code == "manifest.certificate_differs"


async def test_garbage_is_not_recorded(manifest):
    intent = await reserve(manifest, SoftBoard("board-1"), await begin(manifest, "board-1"))
    with pytest.raises(ManifestError) as refused:
        await manifest.record(intent, b"no certificate")
    assert refused.value.code == "manifest.certificate_malformed"


async def test_recorded_certificate_is_made_by_the_manifest_alone(manifest):
    recorded = await provision(manifest, "board-1")
    with pytest.raises(TypeError):
        RecordedCertificate(1, 1, "SN000001", 1, recorded.der, recorded.sha256, object())
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(recorded, der=b"another")


async def test_void_is_listed_for_revocation_and_the_unit_keeps_its_serial(manifest, path):
    board = SoftBoard("board-1")
    first = await issue(manifest, board)
    await manifest.void(first.issuance_id, "board was erased")
    second = await issue(manifest, SoftBoard("board-1"))
    assert second.product_serial == first.product_serial
    assert second.certificate_serial != first.certificate_serial
    with ManifestReader(path) as reader:
        (entry,) = reader.revocation_list()
        (order,) = reader.orders()
    assert (entry.certificate_serial, entry.certificate) == (first.certificate_serial, first.der)
    assert (entry.hardware_id, entry.reason) == ("board-1", "board was erased")
    assert order.reserved == 1


async def test_same_key_may_be_certified_again_for_its_own_unit(manifest):
    board = SoftBoard("board-1")
    first = await issue(manifest, board)
    await manifest.void(first.issuance_id, "profile changed")
    assert (await issue(manifest, board)).certificate_serial != first.certificate_serial


async def test_key_of_a_void_certificate_stays_with_its_unit(manifest):
    board = SoftBoard("board-1")
    await manifest.void((await issue(manifest, board)).issuance_id, "board was erased")
    clone = SoftBoard("board-2", key=board.key)
    with pytest.raises(DuplicateKey, match="board-2 shows the public key of unit board-1"):
        await issue(manifest, clone)


async def test_void_certificate_is_not_installed(manifest):
    recorded = await issue(manifest, SoftBoard("board-1"))
    await manifest.void(recorded.issuance_id, "board was erased")
    with pytest.raises(RowRefused):
        await manifest.recorded(recorded.issuance_id)


async def test_void_twice_is_void_once(manifest, path):
    recorded = await issue(manifest, SoftBoard("board-1"))
    await manifest.void(recorded.issuance_id, "first reason")
    await manifest.void(recorded.issuance_id, "second reason")
    assert history(path, "board-1").issuances[0].void_reason == "first reason"


async def test_certificate_of_a_passed_unit_is_not_voided(manifest):
    recorded = await provision(manifest, "board-1")
    with pytest.raises(RowRefused) as refused:
        await manifest.void(recorded.issuance_id, "mistake")
    assert refused.value.code == "manifest.already_passed"


async def test_same_key_on_two_boards_is_refused_and_names_the_first(manifest):
    board = SoftBoard("board-1")
    await issue(manifest, board)
    with pytest.raises(DuplicateKey) as refused:
        await issue(manifest, SoftBoard("board-2", key=board.key))
    assert refused.value.facts["holder"] == "board-1"


async def test_refused_reserve_takes_no_budget_and_no_serial(manifest, path):
    board = SoftBoard("board-1")
    await issue(manifest, board)
    with pytest.raises(DuplicateKey):
        await issue(manifest, SoftBoard("board-2", key=board.key))
    with ManifestReader(path) as reader:
        assert reader.orders()[0].reserved == 1
    assert history(path, "board-2").unit.product_serial is None


async def test_hardware_id_with_another_key_is_refused(manifest):
    await issue(manifest, SoftBoard("board-1"))
    with pytest.raises(DuplicateHardware):
        await issue(manifest, SoftBoard("board-1"))


async def test_live_certificate_is_resumed_and_not_reserved_again(manifest):
    board = SoftBoard("board-1")
    await issue(manifest, board)
    with pytest.raises(RowRefused) as refused:
        await issue(manifest, board)
    assert refused.value.code == "manifest.issuance_live"


async def test_certificate_serial_given_before_is_refused_and_another_draft_is_taken(manifest):
    first = await issue(manifest, SoftBoard("board-1"))
    board = SoftBoard("board-2")
    unit = await begin(manifest, "board-2")
    with pytest.raises(SerialCollision):
        await manifest.reserve(
            unit.id,
            spki_sha256=board.spki_sha256,
            draft=lambda product_serial: board.draft(product_serial, serial=first.certificate_serial),
        )
    assert (await reserve(manifest, board, unit)).product_serial == "SN000002"


async def test_what_a_draft_raises_reaches_the_caller_and_undoes_all(manifest, path):
    unit = await begin(manifest, "board-1")

    def draft(_product_serial):
        raise LookupError("no such profile")

    with pytest.raises(LookupError, match="no such profile"):
        await manifest.reserve(unit.id, spki_sha256=bytes(32), draft=draft)
    with ManifestReader(path) as reader:
        assert reader.orders()[0].reserved == 0


async def test_draft_with_a_wrong_digest_is_refused(manifest):
    board, unit = SoftBoard("board-1"), await begin(manifest, "board-1")
    with pytest.raises(ManifestError) as refused:
        await manifest.reserve(
            unit.id,
            spki_sha256=board.spki_sha256,
            draft=lambda product_serial: dataclasses.replace(board.draft(product_serial), tbs_sha256=bytes(32)),
        )
    assert refused.value.code == "manifest.draft_invalid"


async def test_failed_unit_says_why_and_opens_again(manifest, path):
    unit = await begin(manifest, "board-1")
    await manifest.failed(unit.id, "link.no_answer", "no end of key in 5 s", "key")
    failed = history(path, "board-1").unit
    assert (failed.state, failed.failure_code, failed.failure_step) == (UnitState.FAILED, "link.no_answer", "key")
    again = await begin(manifest, "board-1")
    assert (again.state, again.failure_code, again.attempts) == (UnitState.OPEN, None, 2)


async def test_failed_unit_reserves_nothing(manifest):
    unit = await begin(manifest, "board-1")
    await manifest.failed(unit.id, "link.no_answer", "no end of key in 5 s", "key")
    with pytest.raises(RowRefused) as refused:
        await reserve(manifest, SoftBoard("board-1"), unit)
    assert refused.value.code == "manifest.unit_not_open"


async def test_passed_unit_does_not_fail_afterwards(manifest):
    recorded = await provision(manifest, "board-1")
    with pytest.raises(RowRefused) as refused:
        await manifest.failed(recorded.unit_id, "link.unplugged", "gone", "lock")
    assert refused.value.code == "manifest.already_passed"


async def test_passed_unit_that_comes_again_stays_as_it_is(manifest, path):
    await provision(manifest, "board-1")
    before = history(path, "board-1")
    unit = await begin(manifest, "board-1", slot="7")
    assert unit == before.unit
    assert history(path, "board-1") == before


async def test_pass_without_a_certificate_is_refused(manifest):
    board = SoftBoard("board-1")
    unit = await begin(manifest, "board-1")
    with pytest.raises(RowRefused) as refused:
        await manifest.passed(unit.id, board.proof(b"anything"), 3, 1.0)
    assert refused.value.code == "manifest.no_evidence"


async def test_pass_with_another_certificate_than_the_recorded_is_refused(manifest):
    board = SoftBoard("board-1")
    recorded = await issue(manifest, board)
    with pytest.raises(RowRefused) as refused:
        await manifest.passed(recorded.unit_id, board.proof(board.draft("SN000001").certificate), 3, 1.0)
    assert refused.value.code == "manifest.no_evidence"


@pytest.mark.parametrize(
    "wrong",
    [
        {"hardware_id": "board\x1b[2J"},
        {"hardware_id": ""},
        {"hardware_id": "b" * 65},
        {"model": "sensor\n"},
        {"firmware_version": "v" * 33},
        {"firmware_sha256": b"short"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_value_that_does_not_fit_its_column_is_refused(manifest, wrong):
    right = {"hardware_id": "board-1", "model": "m", "firmware_version": "1", "firmware_sha256": FIRMWARE}
    with pytest.raises(RowRefused):
        await manifest.begin(slot="1", order=ORDER.name, **right | wrong)


async def test_event_is_read_back_escaped(manifest, path):
    unit = await begin(manifest, "board-1")
    manifest.event(unit.id, "1", "identify", "retry", {"reason": "\x1b[2Jgarbage", "left": 2})
    await begin(manifest, "board-2")  # its commit takes the event along
    assert dict(history(path, "board-1").events[-1].facts) == {"reason": r"\x1b[2Jgarbage", "left": "2"}


async def test_event_nobody_waits_for_becomes_durable_at_close(path):
    with Manifest.open(path) as manifest:
        manifest.event(None, "", "line", "started", {})
    with ManifestReader(path) as reader:
        assert [event.step for event in reader.events()] == ["version", "line"]


async def test_event_of_the_schemas_kind_is_refused(manifest):
    with pytest.raises(ValueError, match="journal"):
        manifest.event(None, "", "pass", "journal", {})


async def test_event_of_an_unknown_unit_harms_nobody_else(manifest, path):
    manifest.event(4711, "1", "identify", "done", {})
    await provision(manifest, "board-1")
    assert history(path, "board-1").unit.state is UnitState.PASSED


async def test_after_close_nothing_is_taken(path):
    manifest = Manifest.open(path)
    manifest.close()
    manifest.close()
    with pytest.raises(ManifestError) as refused:
        await manifest.open_order(ORDER)
    assert refused.value.code == "manifest.closed"


async def test_64_tasks_at_once_all_pass(manifest, path):
    async def slot(number):
        for turn in range(4):
            await provision(manifest, f"board-{number}-{turn}")

    await asyncio.gather(*(slot(number) for number in range(64)))
    with ManifestReader(path) as reader:
        assert reader.counts() == dict.fromkeys(UnitState, 0) | {UnitState.PASSED: 256}
