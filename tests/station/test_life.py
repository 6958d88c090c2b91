"""What becomes of units after they passed: scrap, rework, RMA, release, replace, and what each leaves on record."""

from dataclasses import replace

import pytest

from station.errors import ManifestError
from station.manifest import Act, LifeRequest, Manifest, ManifestReader, RowRefused, UnitState
from station.manifest.life import check_actor
from station.manifest.testing import ORDER, SoftBoard, begin, issue, provision, reserve

GENEROUS = replace(ORDER, name="generous", quantity=2, serial_format="G{number:03d}", scrap_allowance=1)


@pytest.fixture
async def manifest(tmp_path):
    with Manifest.open(tmp_path / "manifest.db") as opened:
        await opened.open_order(ORDER)
        await opened.open_order(GENEROUS)
        yield opened


async def do(manifest, act, unit, by=None):
    return await manifest.act(LifeRequest(act, unit, "a reason", "alice", "station", by))


def history(manifest, unit):
    with ManifestReader(manifest.path) as reader:
        return reader.unit(unit)


def order(manifest, name):
    with ManifestReader(manifest.path) as reader:
        return next(one for one in reader.orders() if one.terms.name == name)


async def test_scrap_gives_the_certificate_up_and_keeps_everything(manifest):
    await provision(manifest, "A")
    await do(manifest, Act.SCRAP, "A")
    found = history(manifest, "A")
    assert found.unit.state is UnitState.SCRAPPED
    assert found.unit.product_serial == "SN000001"
    assert [one.state for one in found.issuances] == ["void"]
    assert found.issuances[0].certificate is not None
    with ManifestReader(manifest.path) as reader:
        assert [entry.hardware_id for entry in reader.revocation_list()] == ["A"]


async def test_an_act_has_its_reason_its_actor_and_its_user_on_record(manifest):
    await provision(manifest, "A")
    done = await do(manifest, Act.SCRAP, "A")
    assert history(manifest, "A").life == (done,)
    assert (done.reason, done.actor, done.os_user) == ("a reason", "alice", "station")
    event = next(event for event in history(manifest, "A").events if event.step == "scrap")
    assert event.kind == "journal"
    assert (event.facts["reason"], event.facts["actor"], event.facts["os_user"]) == ("a reason", "alice", "station")


@pytest.mark.parametrize("name", ["serial", "hardware", "certificate", "key"])
async def test_a_unit_is_found_by_each_of_its_names(manifest, name):
    board = SoftBoard("A")
    recorded = await issue(manifest, board)
    names = {
        "serial": recorded.product_serial,
        "hardware": "A",
        "certificate": f"{recorded.certificate_serial:x}",
        "key": board.spki_sha256.hex(),
    }
    assert (await do(manifest, Act.SCRAP, names[name])).hardware_id == "A"


async def test_an_unknown_unit_is_refused(manifest):
    with pytest.raises(ManifestError, match="no unit is known as 'nobody'") as refused:
        await do(manifest, Act.SCRAP, "nobody")
    assert refused.value.code == "manifest.unit_unknown"


@pytest.mark.parametrize("act", [act for act in Act if act is not Act.REPLACE])
async def test_nothing_is_done_to_a_scrapped_unit(manifest, act):
    await provision(manifest, "A")
    await do(manifest, Act.SCRAP, "A")
    with pytest.raises(RowRefused, match="scrapped already") as refused:
        await do(manifest, act, "A")
    assert refused.value.code == "manifest.unit_scrapped"


@pytest.mark.parametrize(
    ("act", "says"),
    [(Act.RELEASE, "not on hold"), (Act.VOID, "rework"), (Act.REPLACE, "own place")],
)
async def test_what_does_not_fit_a_passed_unit_is_refused(manifest, act, says):
    await provision(manifest, "A")
    with pytest.raises(RowRefused, match=says):
        await do(manifest, act, "A", "A" if act is Act.REPLACE else None)


@pytest.mark.parametrize("act", [Act.REWORK, Act.RMA])
async def test_what_never_passed_is_neither_reworked_nor_sent_back(manifest, act):
    await issue(manifest, SoftBoard("A"))
    with pytest.raises(RowRefused, match="never passed"):
        await do(manifest, act, "A")


async def test_a_scrapped_board_is_refused_at_the_line_and_not_counted(manifest):
    await provision(manifest, "A")
    await do(manifest, Act.SCRAP, "A")
    with pytest.raises(RowRefused) as refused:
        await begin(manifest, "A")
    assert refused.value.code == "manifest.unit_scrapped"
    assert "red bin" in refused.value.operator
    assert history(manifest, "A").unit.attempts == 1


async def test_a_board_from_the_field_is_refused_at_the_line_until_somebody_decides(manifest):
    recorded = await provision(manifest, "A")
    await do(manifest, Act.RMA, "A")
    with pytest.raises(RowRefused) as refused:
        await begin(manifest, "A")
    assert refused.value.code == "manifest.unit_returned"
    await do(manifest, Act.RELEASE, "A")
    unit = await begin(manifest, "A")
    assert (unit.state, unit.issuance.certificate) == (UnitState.PASSED, recorded.der)


async def test_a_reworked_board_keeps_its_serial_and_gets_another_certificate(manifest):
    first = await provision(manifest, "A")
    await do(manifest, Act.REWORK, "A")
    board = SoftBoard("A")
    second = await issue(manifest, board)
    await manifest.passed(second.unit_id, board.proof(second.der), 3, 1.0)
    found = history(manifest, "A")
    assert found.unit.state is UnitState.PASSED
    assert (first.product_serial, second.product_serial) == ("SN000001", "SN000001")
    assert [one.state for one in found.issuances] == ["void", "recorded"]
    assert order(manifest, ORDER.name).reserved == 1


async def test_a_reworked_board_may_come_with_the_key_it_had(manifest):
    board = SoftBoard("A")
    recorded = await issue(manifest, board)
    await manifest.passed(recorded.unit_id, board.proof(recorded.der), 3, 1.0)
    await do(manifest, Act.REWORK, "A")
    assert (await issue(manifest, board)).certificate_serial != recorded.certificate_serial


async def test_reworks_do_not_count_as_a_board_that_invents_keys(manifest):
    for _ in range(7):
        board = SoftBoard("A")
        recorded = await issue(manifest, board)
        await manifest.passed(recorded.unit_id, board.proof(recorded.der), 3, 1.0)
        await do(manifest, Act.REWORK, "A")
    assert len(history(manifest, "A").issuances) == 7


async def test_a_replacement_links_both_rows_and_scraps_the_old_one(manifest):
    await provision(manifest, "old")
    await provision(manifest, "new")
    done = await do(manifest, Act.REPLACE, "old", "new")
    old, new = history(manifest, "old"), history(manifest, "new")
    assert (old.life, new.life) == ((done,), (done,))
    assert (done.hardware_id, done.other_hardware_id) == ("old", "new")
    assert (old.unit.state, new.unit.state) == (UnitState.SCRAPPED, UnitState.PASSED)
    assert [event.facts["other_hardware_id"] for event in new.events if event.step == "replaces"] == ["old"]


async def test_a_unit_that_was_scrapped_can_be_replaced_later(manifest):
    await provision(manifest, "old")
    await provision(manifest, "new")
    await do(manifest, Act.SCRAP, "old")
    await do(manifest, Act.REPLACE, "old", "new")
    assert [act.act for act in history(manifest, "old").life] == [Act.SCRAP, Act.REPLACE]


async def test_one_unit_takes_one_place(manifest):
    for name in ("old", "older", "new", "newer"):
        await provision(manifest, name)
    await do(manifest, Act.REPLACE, "old", "new")
    with pytest.raises(RowRefused, match="was replaced by new already"):
        await do(manifest, Act.REPLACE, "old", "newer")
    with pytest.raises(RowRefused, match="took the place of old already"):
        await do(manifest, Act.REPLACE, "older", "new")


async def test_only_a_unit_that_passed_takes_a_place(manifest):
    await provision(manifest, "old")
    await begin(manifest, "new")
    with pytest.raises(RowRefused, match="unit new is open"):
        await do(manifest, Act.REPLACE, "old", "new")


async def test_an_open_certificate_is_given_up_by_a_person_and_the_unit_stays(manifest):
    board = SoftBoard("A")
    await reserve(manifest, board, await begin(manifest, "A"))
    await do(manifest, Act.VOID, "A")
    found = history(manifest, "A")
    assert (found.unit.state, found.unit.issuance) == (UnitState.OPEN, None)
    assert found.issuances[0].void_reason == "void: a reason"


async def test_budget_comes_back_within_the_allowance_and_never_the_serial(manifest):
    await provision(manifest, "A", order="generous")
    await provision(manifest, "B", order="generous")
    assert (await do(manifest, Act.SCRAP, "A")).returned
    third = await provision(manifest, "C", order="generous")
    assert third.product_serial == "G003"
    assert not (await do(manifest, Act.SCRAP, "B")).returned, "the allowance is one"
    with pytest.raises(ManifestError) as refused:
        await provision(manifest, "D", order="generous")
    assert refused.value.code == "manifest.order_exhausted"
    assert (order(manifest, "generous").reserved, order(manifest, "generous").returned) == (2, 1)


async def test_a_unit_that_took_no_serial_gives_no_budget_back(manifest):
    await begin(manifest, "A", order="generous")
    assert not (await do(manifest, Act.SCRAP, "A")).returned


async def test_an_order_without_an_allowance_gets_nothing_back(manifest):
    await provision(manifest, "A")
    await do(manifest, Act.SCRAP, "A")
    assert order(manifest, ORDER.name).reserved == 1


async def test_exports_have_units_in_service_only(manifest):
    for name in "ABCD":
        await provision(manifest, name)
    await do(manifest, Act.SCRAP, "A")
    await do(manifest, Act.RMA, "B")
    await do(manifest, Act.REWORK, "C")
    with ManifestReader(manifest.path) as reader:
        assert [unit.hardware_id for unit in reader.export()] == ["D"]
        assert [unit.hardware_id for unit in reader.export(state=UnitState.SCRAPPED)] == ["A"]
        assert [unit.hardware_id for unit in reader.units(state=UnitState.RMA)] == ["B"]
        counts = {state: count for state, count in reader.counts().items() if count}
    assert counts == {UnitState.SCRAPPED: 1, UnitState.RMA: 1, UnitState.OPEN: 1, UnitState.PASSED: 1}


@pytest.mark.parametrize("reason", ["", "   ", "x" * 201])
async def test_an_act_needs_a_reason_that_can_be_read(manifest, reason):
    await provision(manifest, "A")
    with pytest.raises(ManifestError, match="reason"):
        await manifest.act(LifeRequest(Act.SCRAP, "A", reason, "alice", "station"))


async def test_control_characters_of_a_reason_reach_no_terminal(manifest):
    await provision(manifest, "A")
    done = await manifest.act(LifeRequest(Act.SCRAP, "A", "fell\x1b[2J\noff", "alice", "station"))
    assert done.reason.isprintable()


def test_who_is_not_named_may_not_act():
    check_actor("anybody", ())
    check_actor("alice", ("alice", "bob"))
    with pytest.raises(RowRefused, match=r"\[life\] actors") as refused:
        check_actor("mallory", ("alice", "bob"))
    assert refused.value.code == "manifest.not_allowed"


async def test_a_certificate_is_known_by_its_digest(manifest):
    recorded = await provision(manifest, "A")
    holder = await manifest.holder(recorded.sha256)
    assert (holder.hardware_id, holder.product_serial, holder.is_void) == ("A", "SN000001", False)
    await do(manifest, Act.REWORK, "A")
    assert (await manifest.holder(recorded.sha256)).is_void
    assert await manifest.holder(bytes(32)) is None
