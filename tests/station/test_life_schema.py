"""Life after the pass, attacked with plain SQL: what becomes of a unit is an act, and nothing else does it."""
# ruff: noqa: S608  # the statements are put together here, from nothing that comes from outside

import asyncio
import contextlib
import shutil
import sqlite3
from dataclasses import replace
from importlib import resources

import pytest

from station.manifest import Act, LifeRequest, Manifest, reader
from station.manifest.testing import ORDER, SoftBoard, begin, issue, provision

NOW = "'2999-01-01T00:00:00.000Z'"
OF = "(SELECT id FROM unit WHERE hardware_id = '{}')"
LIVE = "(SELECT id FROM issuance WHERE unit_id = (SELECT id FROM unit WHERE hardware_id = '{}') AND state <> 'void')"

TABLES = ("production_order", "unit", "issuance", "proof", "event", "life_act")


def wish(act, unit, by=None):
    return LifeRequest(act, unit, "a reason", "alice", "station", by)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A manifest with a unit in each state after the pass, under the hardware ids ``passed``, ``scrapped``, ….."""
    return asyncio.run(fill(tmp_path_factory.mktemp("made") / "manifest.db"))


@pytest.fixture
def path(made, tmp_path):
    return shutil.copy(made, tmp_path / "manifest.db")


async def fill(file):
    with Manifest.open(file) as manifest:
        await manifest.open_order(ORDER)
        for name in ("passed", "good", "scrapped", "returned", "reworked", "again", "old", "new", "other"):
            await provision(manifest, name)
        await begin(manifest, "open")
        await issue(manifest, SoftBoard("recorded"))
        await manifest.act(wish(Act.SCRAP, "scrapped"))
        await manifest.act(wish(Act.RMA, "returned"))
        await manifest.act(wish(Act.REWORK, "reworked"))
        await manifest.act(wish(Act.REWORK, "again"))
        await issue(manifest, again := SoftBoard("again"))
        recorded = await manifest.recorded((await begin(manifest, "again")).issuance.id)
        await manifest.passed(recorded.unit_id, again.proof(recorded.der), 3, 1.0)
        await manifest.act(wish(Act.REPLACE, "old", "new"))
        await issue(manifest, SoftBoard("dead"))
        await manifest.act(wish(Act.SCRAP, "dead"))
        await manifest.open_order(replace(ORDER, name="generous", serial_format="G{number}", scrap_allowance=2))
        await provision(manifest, "generous", order="generous")
        await begin(manifest, "bare", order="generous")
    return file


@pytest.fixture
def shell(path):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def dump(connection):
    return {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}


def new_act(act, unit, *, issuance=None, other="NULL", returned=0, how="", number="NULL"):
    issuance = LIVE.format(unit) if issuance is None else issuance
    return (
        f"INSERT {how} INTO life_act (id, unit_id, act, reason, actor, os_user, issuance_id, other_unit_id, returned, "
        f"at) VALUES ({number}, {OF.format(unit)}, '{act}', 'r', 'a', 'u', {issuance}, {other}, {returned}, {NOW})"
    )


MOVED = f"changed_at = {NOW}"

ATTACKS = {
    "delete from life_act": "DELETE FROM life_act",
    "replace an act": new_act("rma", "passed", how="OR REPLACE", number=1),
    "an act's reason changed": "UPDATE life_act SET reason = 'other'",
    "an act's actor changed": "UPDATE life_act SET actor = 'bob'",
    "an act without a reason": new_act("rma", "passed").replace("'r'", "''"),
    "an act without an actor": new_act("rma", "passed").replace("'a', 'u'", "'', 'u'"),
    "an unknown act": new_act("bless", "passed"),
    "scrapped twice": new_act("scrap", "scrapped"),
    "scrapped and reworked": new_act("rework", "scrapped"),
    "scrapped and released": new_act("release", "scrapped"),
    "void of a passed unit": new_act("void", "passed"),
    "void of nothing": new_act("void", "open"),
    "rework of an open unit": new_act("rework", "recorded"),
    "rma of an open unit": new_act("rma", "recorded"),
    "rma twice": new_act("rma", "returned"),
    "release of what is not on hold": new_act("release", "passed"),
    "an act about another unit's certificate": new_act("scrap", "passed", issuance=LIVE.format("good")),
    "an act that forgets the certificate": new_act("scrap", "passed", issuance="NULL"),
    "a replacement by nobody": new_act("replace", "passed"),
    "a replacement by itself": new_act("replace", "passed", other=OF.format("passed")),
    "a replacement by scrap": new_act("replace", "passed", other=OF.format("scrapped")),
    "a replacement that never passed": new_act("replace", "passed", other=OF.format("recorded")),
    "a replacement twice": new_act("replace", "old", other=OF.format("other")),
    "a replacement of two": new_act("replace", "passed", other=OF.format("new")),
    "another unit in a scrap": new_act("scrap", "passed", other=OF.format("other")),
    "budget that the order does not give back": new_act("scrap", "passed", returned=1),
    "budget that was never taken": new_act("scrap", "bare", returned=1),
    "budget given back for a hold": new_act("rma", "passed", returned=1),
    # without an act
    "unit that starts scrapped": "INSERT INTO unit (hardware_id, order_id, model, firmware_version, firmware_sha256, "
    f"state, attempts, slot, first_seen_at, changed_at, life) SELECT 'x', order_id, model, firmware_version, "
    f"firmware_sha256, 'open', 1, slot, {NOW}, {NOW}, 'scrapped' FROM unit WHERE hardware_id = 'open'",
    "scrapped without an act": f"UPDATE unit SET life = 'scrapped', {MOVED} WHERE hardware_id = 'open'",
    "passed and scrapped without an act": f"UPDATE unit SET life = 'scrapped', {MOVED} WHERE hardware_id = 'passed'",
    "scrap revived": "UPDATE unit SET life = 'normal' WHERE hardware_id = 'scrapped'",
    "scrap changed": "UPDATE unit SET slot = '9' WHERE hardware_id = 'scrapped'",
    "scrap that never passed changed": "UPDATE unit SET slot = '9' WHERE hardware_id = 'dead'",
    "hold ended without an act": "UPDATE unit SET life = 'normal' WHERE hardware_id = 'returned'",
    "passed unit opened without an act": f"UPDATE unit SET state = 'open', {MOVED} WHERE hardware_id = 'passed'",
    "reworked unit that passed again opened once more": "UPDATE unit SET state = 'open', changed_at = "
    "(SELECT max(at) FROM life_act WHERE unit_id = unit.id) WHERE hardware_id = 'again'",
    "passed unit changed under cover of its act": "UPDATE unit SET firmware_version = '9', changed_at = "
    "(SELECT max(at) FROM life_act WHERE unit_id = unit.id) WHERE hardware_id = 'returned'",
    "certificate of a passed unit voided": f"UPDATE issuance SET state = 'void', void_reason = 'x', {MOVED} "
    f"WHERE id = {LIVE.format('passed')}",
    "certificate of a held unit voided": f"UPDATE issuance SET state = 'void', void_reason = 'x', {MOVED} "
    f"WHERE id = {LIVE.format('returned')}",
    **{
        f"certificate for a {life} unit": "INSERT INTO issuance (unit_id, state, spki_sha256, certificate_serial, tbs, "
        f"tbs_sha256, signing_tries, intended_at, changed_at) SELECT {OF.format(name)}, 'intent', spki_sha256, "
        f"'{'b' * 40}', x'01', zeroblob(32), 1, {NOW}, {NOW} FROM public_key WHERE unit_id = {OF.format(name)}"
        for life, name in (("scrapped", "scrapped"), ("held", "returned"), ("scrapped and open", "dead"))
    },
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_schema_refuses(shell, attack):
    before = dump(shell)
    with pytest.raises(sqlite3.IntegrityError):
        shell.execute(attack)
    assert dump(shell) == before


@pytest.mark.parametrize(
    ("act", "unit", "other"),
    [
        ("scrap", "passed", "NULL"),
        ("scrap", "open", "NULL"),
        ("scrap", "generous", "NULL"),
        ("scrap", "returned", "NULL"),
        ("rma", "passed", "NULL"),
        ("rework", "passed", "NULL"),
        ("rework", "returned", "NULL"),
        ("rework", "again", "NULL"),
        ("release", "returned", "NULL"),
        ("void", "recorded", "NULL"),
        ("replace", "passed", OF.format("other")),
        ("replace", "scrapped", OF.format("other")),
    ],
)
def test_schema_allows(shell, act, unit, other):
    """The templates of the attacks are sound: without the attack they go through."""
    shell.execute(new_act(act, unit, other=other))


def test_every_rule_is_needed(shell):
    """Without any one of schema 4's triggers that refuse, some attack goes through: none is decoration."""
    text = (resources.files("station.manifest") / "schema_4.sql").read_text()
    found = shell.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND sql LIKE '%RAISE%'")
    rules = {name: sql for name, sql in found.fetchall() if f"CREATE TRIGGER {name} " in text}
    idle = set()
    for name, sql in rules.items():
        shell.execute(f"DROP TRIGGER {name}")
        if not any(_goes_through(shell, attack) for attack in ATTACKS.values()):
            idle.add(name)
        shell.execute(sql)
    assert len(rules) > 10
    assert idle == set()


def _goes_through(shell, attack):
    shell.execute("BEGIN")
    try:
        shell.execute(attack)
    except sqlite3.IntegrityError:
        return False
    else:
        return True
    finally:
        shell.execute("ROLLBACK")


@pytest.mark.parametrize(
    "lookup",
    [
        "issuance WHERE certificate_sha256 = x'00'",
        "life_act WHERE unit_id = 1",
        "life_act WHERE other_unit_id = 1",
        "life_act WHERE issuance_id = 1",
    ],
)
def test_every_lookup_is_found_through_an_index(shell, lookup):
    (plan,) = shell.execute(f"EXPLAIN QUERY PLAN SELECT 1 FROM {lookup}").fetchall()
    assert plan[3].startswith("SEARCH")


def test_units_are_counted_from_the_index_alone(shell):
    plan = shell.execute(f"EXPLAIN QUERY PLAN {reader._COUNTS}").fetchall()
    assert any("COVERING INDEX unit_by_order" in row[3] for row in plan)
