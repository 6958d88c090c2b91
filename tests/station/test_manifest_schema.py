"""Whoever opens the file with another program meets the same rules: each is attacked with plain SQL.

``sqlite3`` connects as its shell does: foreign keys and recursive triggers off.
"""
# ruff: noqa: S608  # the statements are put together here, from nothing that comes from outside

import contextlib
import sqlite3
from dataclasses import replace
from importlib import resources

import pytest

from station.manifest import Manifest, ManifestReader
from station.manifest.testing import ORDER, SoftBoard, begin, issue, provision, reserve

BOARDS = ("intended", "recorded", "passed", "open", "failed", "voided")


@pytest.fixture
async def path(tmp_path):
    """A manifest with one unit in each state, under the hardware ids of ``BOARDS``."""
    file = tmp_path / "manifest.db"
    with Manifest.open(file) as manifest:
        await manifest.open_order(ORDER)
        await reserve(manifest, SoftBoard("intended"), await begin(manifest, "intended"))
        await issue(manifest, SoftBoard("recorded"))
        await provision(manifest, "passed")
        await begin(manifest, "open")
        await manifest.failed((await begin(manifest, "failed")).id, "link.no_answer", "silent", "key")
        await manifest.void((await issue(manifest, SoftBoard("voided"))).issuance_id, "board was erased")
        await manifest.open_order(replace(ORDER, name="full", quantity=1, serial_format="F{number}"))
        await provision(manifest, "last", order="full")
    return file


@pytest.fixture
def shell(path):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def dump(connection):
    tables = ("production_order", "unit", "public_key", "issuance", "proof", "event", "station_version")
    return {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}


OF = "(SELECT id FROM unit WHERE hardware_id = '{}')"
ISSUANCE_OF = "(SELECT max(id) FROM issuance WHERE unit_id = (SELECT id FROM unit WHERE hardware_id = '{}'))"
NOW = "'2999-01-01T00:00:00.000Z'"

MOVE = f"signing_tries = signing_tries + 1, changed_at = {NOW}"
"""A change that is allowed for an intent; what rides on it is not."""

VOID = f"state = 'void', void_reason = 'x', changed_at = {NOW}"
"""A change that is allowed for what is recorded; what rides on it is not."""

NEW_UNIT = (
    "INSERT {how} INTO unit (id, hardware_id, order_id, product_serial, model, firmware_version, firmware_sha256, "
    "state, attempts, slot, first_seen_at, changed_at) VALUES "
    "({id}, '{hardware_id}', 1, {product_serial}, 'm', '1', zeroblob(32), '{state}', 1, '1', " + NOW + ", " + NOW + ")"
)
UNIT = {"how": "", "id": "NULL", "hardware_id": "new", "product_serial": "NULL", "state": "open"}

NEW_ISSUANCE = (
    "INSERT {how} INTO issuance (id, unit_id, state, spki_sha256, certificate_serial, tbs, tbs_sha256, signing_tries, "
    "certificate, certificate_sha256, intended_at, changed_at) SELECT {id}, unit_id, '{state}', spki_sha256, {serial}, "
    "x'01', zeroblob(32), {tries}, NULL, NULL, " + NOW + ", " + NOW + " FROM issuance WHERE id = {of}"
)
ISSUANCE = {"how": "", "id": "NULL", "state": "intent", "tries": 1, "of": ISSUANCE_OF.format("voided")}
ISSUANCE["serial"] = "'" + "a" * 40 + "'"

NEW_PROOF = (
    "INSERT {how} INTO proof SELECT {issuance}, zeroblob(32), x'01', x'01', {digest}, {locks}, 1.0, " + NOW + " FROM "
    "issuance WHERE id = {issuance}"
)
PROOF = {"how": "", "issuance": ISSUANCE_OF.format("recorded"), "digest": "certificate_sha256", "locks": "3"}

NEW_EVENT = (
    "INSERT {how} INTO event (id, at, slot, step, kind, facts) VALUES ({id}, {at}, '1', 'step', 'kind', {facts})"
)
EVENT = {"how": "", "id": "NULL", "at": NOW, "facts": "'{}'"}

ORDER_COLUMNS = "id, name, product, profile, quantity, serial_format, first_number, reserved, opened_at"

ATTACKS = {
    # nothing is deleted
    **{
        f"delete from {table}": f"DELETE FROM {table}"
        for table in ("production_order", "unit", "public_key", "issuance", "proof", "event", "station_version")
    },
    # nothing is replaced
    "replace order": f"REPLACE INTO production_order ({ORDER_COLUMNS}) VALUES "
    "(1, 'x', 'p', 'i', 9999, 'S{number}', 1, 0, " + NOW + ")",
    "replace order by name": f"REPLACE INTO production_order ({ORDER_COLUMNS}) VALUES "
    "(9, 'order-1', 'p', 'i', 9999, 'S{number}', 1, 0, " + NOW + ")",
    "replace unit": NEW_UNIT.format(**UNIT | {"how": "OR REPLACE", "id": 1}),
    "replace unit by hardware id": NEW_UNIT.format(**UNIT | {"how": "OR REPLACE", "hardware_id": "passed"}),
    "replace unit through a serial": "UPDATE OR REPLACE unit SET product_serial = 'SN000003' "
    "WHERE hardware_id = 'open'",
    "replace public key": "REPLACE INTO public_key SELECT spki_sha256, unit_id + 1 FROM public_key",
    "replace issuance": NEW_ISSUANCE.format(**ISSUANCE | {"how": "OR REPLACE", "id": 1}),
    "replace issuance by serial": NEW_ISSUANCE.format(
        **ISSUANCE | {"how": "OR REPLACE", "serial": "(SELECT certificate_serial FROM issuance WHERE id = 1)"}
    ),
    "replace live issuance": NEW_ISSUANCE.format(
        **ISSUANCE | {"how": "OR REPLACE", "of": ISSUANCE_OF.format("recorded")}
    ),
    "replace proof": NEW_PROOF.format(**PROOF | {"how": "OR REPLACE", "issuance": ISSUANCE_OF.format("passed")}),
    "replace event": NEW_EVENT.format(**EVENT | {"how": "OR REPLACE", "id": 1}),
    "replace the last event": NEW_EVENT.format(**EVENT | {"how": "OR REPLACE", "id": "(SELECT max(id) FROM event)"}),
    "replace version": "REPLACE INTO station_version VALUES (1, '9', 1, " + NOW + ")",
    # identities are given once
    "hardware id twice": NEW_UNIT.format(**UNIT | {"hardware_id": "passed"}),
    "product serial twice": "UPDATE unit SET product_serial = 'SN000001' WHERE hardware_id = 'open'",
    "public key twice": "INSERT INTO public_key SELECT spki_sha256, " + OF.format("open") + " FROM public_key LIMIT 1",
    "certificate serial twice": NEW_ISSUANCE.format(
        **ISSUANCE | {"serial": "(SELECT certificate_serial FROM issuance WHERE id = 1)"}
    ),
    "two live certificates": NEW_ISSUANCE.format(**ISSUANCE | {"of": ISSUANCE_OF.format("recorded")}),
    "certificate serial in another spelling": NEW_ISSUANCE.format(**ISSUANCE | {"serial": "'" + "A" * 40 + "'"}),
    "another unit's key": "INSERT INTO issuance (unit_id, state, spki_sha256, certificate_serial, tbs, tbs_sha256, "
    "signing_tries, intended_at, changed_at) SELECT "
    + OF.format("voided")
    + ", 'intent', (SELECT spki_sha256 FROM issuance WHERE id = 1), '"
    + "b" * 40
    + "', x'01', zeroblob(32), 1, "
    + NOW
    + ", "
    + NOW,
    # budget
    "more budget": "UPDATE production_order SET quantity = 9999",
    "budget given back": "UPDATE production_order SET reserved = 0",
    "budget overdrawn": "UPDATE production_order SET reserved = quantity + 1",
    "serial beyond the budget, in silence": "UPDATE OR IGNORE unit SET order_id = 2, product_serial = 'SN9' "
    "WHERE hardware_id = 'open'",
    "serial of an order that is not there": "UPDATE unit SET order_id = 9, product_serial = 'SN9' "
    "WHERE hardware_id = 'open'",
    "order that starts with units": f"INSERT INTO production_order ({ORDER_COLUMNS}) VALUES "
    "(NULL, 'x', 'p', 'i', 9, 'S{number}', 1, 1, " + NOW + ")",
    "unit that starts with a serial": NEW_UNIT.format(**UNIT | {"product_serial": "'SN9'"}),
    "serial changed": "UPDATE unit SET product_serial = 'SN9' WHERE hardware_id = 'recorded'",
    "serial dropped": "UPDATE unit SET product_serial = NULL WHERE hardware_id = 'recorded'",
    # units
    "unit that starts passed": NEW_UNIT.format(**UNIT | {"state": "passed"}),
    "pass without a proof": "UPDATE unit SET state = 'passed' WHERE hardware_id = 'recorded'",
    "pass without a certificate": "UPDATE unit SET state = 'passed', product_serial = 'SN9' WHERE hardware_id = 'open'",
    "passed unit opened": "UPDATE unit SET state = 'open' WHERE hardware_id = 'passed'",
    "passed unit changed": "UPDATE unit SET firmware_version = '9' WHERE hardware_id = 'passed'",
    "hardware id changed": "UPDATE unit SET hardware_id = 'other' WHERE hardware_id = 'open'",
    "attempts forgotten": "UPDATE unit SET attempts = 0 WHERE hardware_id = 'open'",
    "failure without a reason": "UPDATE unit SET state = 'failed' WHERE hardware_id = 'open'",
    "unknown state": "UPDATE unit SET state = 'fine' WHERE hardware_id = 'open'",
    # issuances
    "issuance that starts recorded": NEW_ISSUANCE.format(**ISSUANCE | {"state": "recorded"}),
    "issuance that was tried never": NEW_ISSUANCE.format(**ISSUANCE | {"tries": 0}),
    "issuance that starts with tries": NEW_ISSUANCE.format(**ISSUANCE | {"tries": 5}),
    **{
        f"{column} changed": f"UPDATE issuance SET {column} = {value}, {MOVE} WHERE id = 1"
        for column, value in {
            "id": 9,
            "tbs": "x'02'",
            "tbs_sha256": "zeroblob(32)",
            "spki_sha256": "zeroblob(32)",
            "certificate_serial": "'" + "c" * 40 + "'",
            "unit_id": 4,
            "intended_at": NOW,
        }.items()
    },
    "certificate changed": f"UPDATE issuance SET certificate = x'308201' || tbs, {VOID} WHERE id = 2",
    "certificate digest changed": f"UPDATE issuance SET certificate_sha256 = zeroblob(32), {VOID} WHERE id = 2",
    "certificate that holds another tbs": "UPDATE issuance SET state = 'recorded', certificate = x'30820001000203', "
    f"certificate_sha256 = zeroblob(32), changed_at = {NOW} WHERE id = 1",
    "recorded without a certificate": f"UPDATE issuance SET state = 'recorded', changed_at = {NOW} WHERE id = 1",
    "recorded turned back": "UPDATE issuance SET state = 'intent', certificate = NULL, certificate_sha256 = NULL, "
    f"{MOVE} WHERE id = 2",
    "tries forgotten": "UPDATE issuance SET signing_tries = 1 WHERE id = 1",
    "recorded signed again": f"UPDATE issuance SET {MOVE} WHERE id = 2",
    "void without a reason": f"UPDATE issuance SET state = 'void', changed_at = {NOW} WHERE id = 1",
    "void revived": f"UPDATE issuance SET state = 'recorded', void_reason = NULL, changed_at = {NOW} WHERE id = 4",
    "reason of a void changed": "UPDATE issuance SET void_reason = 'other' WHERE id = 4",
    "certificate of a passed unit voided": f"UPDATE issuance SET {VOID} WHERE id = 3",
    # proofs
    "proof of an intent": NEW_PROOF.format(
        **PROOF | {"issuance": ISSUANCE_OF.format("intended"), "digest": "zeroblob(32)"}
    ),
    "proof of a void certificate": NEW_PROOF.format(**PROOF | {"issuance": ISSUANCE_OF.format("voided")}),
    "proof with another certificate": NEW_PROOF.format(**PROOF | {"digest": "zeroblob(32)"}),
    "proof without observed locks": NEW_PROOF.format(**PROOF | {"locks": "NULL"}),
    "proof changed": "UPDATE proof SET locks = 0",
    # public keys, events, versions
    "public key moved": "UPDATE public_key SET unit_id = unit_id + 1",
    "event changed": "UPDATE event SET facts = '{}'",
    "event in the past": NEW_EVENT.format(**EVENT | {"at": "'2001-01-01T00:00:00.000Z'"}),
    "event that leaves a gap": NEW_EVENT.format(**EVENT | {"id": "(SELECT max(id) + 2 FROM event)"}),
    "event before the first": NEW_EVENT.format(**EVENT | {"id": "0"}),
    "event with a time of another form": NEW_EVENT.format(**EVENT | {"at": "'2999-01-01 00:00:00'"}),
    "event whose time is none": NEW_EVENT.format(**EVENT | {"at": "'zebra'"}),
    "change whose event is passed over in silence": "UPDATE OR IGNORE unit SET attempts = attempts + 1, "
    "changed_at = 'zebra' WHERE hardware_id = 'open'",
    "event whose facts are not JSON": NEW_EVENT.format(**EVENT | {"facts": "'{'"}),
    "version changed": "UPDATE station_version SET version = '0'",
    # types
    "text where bytes belong": "UPDATE unit SET firmware_sha256 = 'x' WHERE hardware_id = 'open'",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_schema_refuses(shell, attack):
    before = dump(shell)
    with pytest.raises(sqlite3.IntegrityError):
        shell.execute(attack)
    assert dump(shell) == before


def test_schema_allows_a_new_unit(shell):
    """The templates of the attacks are sound: without the attack they go through."""
    shell.execute(NEW_UNIT.format(**UNIT))


def test_schema_allows_a_new_issuance(shell):
    shell.execute(NEW_ISSUANCE.format(**ISSUANCE))


def test_schema_allows_a_new_event(shell):
    shell.execute(NEW_EVENT.format(**EVENT))


def test_schema_passes_a_unit_with_its_proof(shell, path):
    shell.execute(NEW_PROOF.format(**PROOF))
    with ManifestReader(path) as reader:
        assert reader.unit("recorded").unit.state == "passed"


def test_every_rule_is_needed(shell):
    """Without any one of schema 1's triggers that refuse, some attack goes through: none is decoration."""
    refusing = shell.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND sql LIKE '%RAISE%'")
    of_schema_1 = (resources.files("station.manifest") / "schema_1.sql").read_text()  # later ones: tests of their own
    rules = {name: sql for name, sql in refusing.fetchall() if f"CREATE TRIGGER {name} " in of_schema_1}
    idle = set()
    for name, sql in rules.items():
        shell.execute(f"DROP TRIGGER {name}")
        if not any(_goes_through(shell, attack) for attack in ATTACKS.values()):
            idle.add(name)
        shell.execute(sql)
    assert rules
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
    "identity",
    [
        "unit WHERE hardware_id = 'x'",
        "unit WHERE product_serial = 'x'",
        "public_key WHERE spki_sha256 = x'00'",
        "issuance WHERE certificate_serial = 'x'",
        "issuance WHERE unit_id = 1 AND state <> 'void'",
    ],
)
def test_every_identity_is_found_through_an_index(shell, identity):
    (plan,) = shell.execute(f"EXPLAIN QUERY PLAN SELECT 1 FROM {identity}").fetchall()
    assert plan[3].startswith("SEARCH")
