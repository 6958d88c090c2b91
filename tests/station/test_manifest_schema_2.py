"""Rules of schema 2, attacked with plain SQL, and files of schema 1 that are brought up to it."""
# ruff: noqa: S608  # the statements are put together here, from nothing that comes from outside

import asyncio
import contextlib
import shutil
import sqlite3
from dataclasses import replace
from importlib.resources import files

import pytest

from station.manifest import Manifest, ManifestReader, OrderDiffers
from station.manifest.testing import ORDER, SoftBoard, begin, issue, provision
from station.testing.orders import APPROVER, open_signed, order_of, trust_of

NOW = "'2999-01-01T00:00:00.000Z'"
SEAL = "uid = '{uid}', jws = '{{}}', jws_sha256 = zeroblob(32), payload_sha256 = zeroblob(32), station_id = 1, "
SEAL += "not_before = '2026', not_after = '2027', signed_at = " + NOW
SEAL = SEAL.format(uid="a" * 32)

NEW_ORDER = (
    "INSERT INTO production_order (name, product, profile, quantity, serial_format, first_number, opened_at, "
    "{columns}) SELECT 'new', 'p', 'i', 9, 'N{{number}}', 1, " + NOW + ", {values}"
)
SEALED = "uid, jws, jws_sha256, payload_sha256, station_id, not_before, not_after, signed_at"
SEALED_VALUES = "'{uid}', 'x', zeroblob(32), zeroblob(32), 1, '2026', '2027', " + NOW

DESK = "INSERT {how} INTO desk_serial VALUES ('{serial}', {order}, {key}, NULL, " + NOW + ")"
WO_1 = "(SELECT id FROM production_order WHERE name = 'WO-1')"
DESK_ROW = {"how": "", "serial": "D1", "order": WO_1, "key": "zeroblob(32)"}
FULL = "(SELECT id FROM production_order WHERE name = 'full')"
CLOSED = "(SELECT id FROM production_order WHERE name = 'closed')"


async def fill(file):
    with Manifest.open(file) as manifest:
        await open_signed(manifest, name="WO-1", scrap_allowance=2)
        await issue(manifest, SoftBoard("recorded"), order="WO-1")
        await begin(manifest, "open", order="WO-1")
        await manifest.open_order(replace(ORDER, name="unsigned", serial_format="U{number}"))
        await manifest.open_order(replace(ORDER, name="full", quantity=1, serial_format="F{number}"))
        await provision(manifest, "last", order="full")
        await manifest.open_order(replace(ORDER, name="closed", serial_format="C{number}"))
        await manifest.close_order("closed", "done")
        with ManifestReader(file) as reader:
            terms = reader.orders()[0].terms
        manifest.take_desk_serial(terms, b"k" * 32)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A manifest with an order of each kind, to be copied."""
    file = tmp_path_factory.mktemp("filled") / "manifest.db"
    asyncio.run(fill(file))
    return file


@pytest.fixture
def path(filled, tmp_path):
    return shutil.copy(filled, tmp_path / "manifest.db")


@pytest.fixture
def shell(path):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


ATTACKS = {
    # who this is
    "a second identity": "REPLACE INTO manifest_identity VALUES (1, '" + "0" * 32 + "')",
    "another identity": "UPDATE manifest_identity SET uuid = '" + "0" * 32 + "'",
    "no identity": "DELETE FROM manifest_identity",
    # terms that were signed
    **{
        f"{column} changed": f"UPDATE production_order SET {column} = {value} WHERE name = 'WO-1'"
        for column, value in {
            "jws": "'x'",
            "uid": "'" + "f" * 32 + "'",
            "jws_sha256": "zeroblob(32)",
            "payload_sha256": "zeroblob(32)",
            "station_id": "2",
            "not_before": "'2001'",
            "not_after": "'2999'",
            "signed_at": "'2999'",
            "mac_first": "'02:00:00:00:00:00'",
            "scrap_allowance": "99",
            "check_scheme": "'luhn'",
        }.items()
    },
    "signature dropped": "UPDATE production_order SET uid = NULL, jws = NULL, jws_sha256 = NULL, "
    "payload_sha256 = NULL, station_id = NULL, not_before = NULL, not_after = NULL, signed_at = NULL "
    "WHERE name = 'WO-1'",
    "half a signature": "UPDATE production_order SET jws = 'x' WHERE name = 'unsigned'",
    "terms that change with the signature": f"UPDATE production_order SET {SEAL}, quantity = 9 WHERE name = 'unsigned'",
    "an allowance without a signature": "UPDATE production_order SET scrap_allowance = 9 WHERE name = 'unsigned'",
    "an order id twice": NEW_ORDER.format(
        columns=SEALED, values=SEALED_VALUES.replace("'{uid}'", "(SELECT uid FROM production_order WHERE uid NOT NULL)")
    ).replace("INSERT INTO", "INSERT OR REPLACE INTO"),
    "a window that ends first": NEW_ORDER.format(
        columns=SEALED, values=SEALED_VALUES.format(uid="b" * 32).replace("'2027'", "'2025'")
    ),
    "an unknown check scheme": NEW_ORDER.format(columns="check_scheme", values="'md5'"),
    # closing
    "an order that starts closed": NEW_ORDER.format(columns="closed_at, closed_reason", values=NOW + ", 'x'"),
    "closing without a reason": f"UPDATE production_order SET closed_at = {NOW} WHERE name = 'WO-1'",
    "opening again": "UPDATE production_order SET closed_at = NULL, closed_reason = NULL WHERE name = 'closed'",
    "another reason": "UPDATE production_order SET closed_reason = 'y' WHERE name = 'closed'",
    "a unit of a closed order": f"UPDATE unit SET order_id = {CLOSED}, product_serial = 'C1' "
    "WHERE hardware_id = 'open'",
    "a desk's serial of a closed order": DESK.format(**DESK_ROW | {"order": CLOSED}),
    # budget that comes back
    "a return that takes nothing back": "UPDATE production_order SET returned = 1 WHERE name = 'WO-1'",
    "two returns at once": "UPDATE production_order SET returned = 2, reserved = 0 WHERE name = 'WO-1'",
    "a return beyond the allowance": "UPDATE production_order SET returned = 1, reserved = 0 WHERE name = 'full'",
    "budget that falls by itself": "UPDATE production_order SET reserved = 0 WHERE name = 'full'",
    "an order that starts with a return": NEW_ORDER.format(columns="scrap_allowance, returned", values="1, 1"),
    # addresses
    "a unit that starts with an address": "INSERT INTO unit (hardware_id, order_id, model, firmware_version, "
    "firmware_sha256, state, attempts, slot, first_seen_at, changed_at, mac) VALUES ('new', 1, 'm', '1', zeroblob(32), "
    "'open', 1, '1', " + NOW + ", " + NOW + ", '02:00:00:00:00:01')",
    "an address without a serial": "UPDATE unit SET mac = '02:00:00:00:00:01' WHERE hardware_id = 'open'",
    "an address that changes": "UPDATE unit SET mac = '02:00:00:00:00:01' WHERE hardware_id = 'recorded'",
    # the desk
    "a desk's serial replaced": DESK.format(**DESK_ROW | {"how": "OR REPLACE", "serial": "SN000002"}),
    "a key at the desk twice": DESK.format(**DESK_ROW | {"how": "OR REPLACE", "key": "x'" + "6b" * 32 + "'"}),
    "a unit's serial at the desk": DESK.format(**DESK_ROW | {"serial": "SN000001"}),
    "a unit's key at the desk": DESK.format(**DESK_ROW | {"key": "(SELECT spki_sha256 FROM public_key LIMIT 1)"}),
    "the desk beyond the budget": DESK.format(**DESK_ROW | {"order": FULL}),
    "the desk beyond the budget, in silence": DESK.format(**DESK_ROW | {"how": "OR IGNORE", "order": FULL}),
    "a desk's serial changed": "UPDATE desk_serial SET mac = NULL",
    "a desk's serial deleted": "DELETE FROM desk_serial",
    "a desk's serial for a unit": "UPDATE unit SET product_serial = 'SN000002' WHERE hardware_id = 'open'",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_schema_2_refuses(shell, attack):
    with pytest.raises(sqlite3.IntegrityError):
        shell.execute(attack)


@pytest.mark.parametrize(
    "allowed",
    [
        NEW_ORDER.format(columns=SEALED, values=SEALED_VALUES.format(uid="b" * 32)),
        f"UPDATE production_order SET {SEAL} WHERE name = 'unsigned'",
        "UPDATE production_order SET returned = 1, reserved = reserved - 1 WHERE name = 'WO-1'",
        DESK.format(**DESK_ROW),
        f"UPDATE production_order SET closed_at = {NOW}, closed_reason = 'x' WHERE name = 'WO-1'",
    ],
)
def test_without_the_attack_it_goes_through(shell, allowed):
    shell.execute(allowed)


def test_every_rule_of_schema_2_is_needed(shell):
    """Without any one of its triggers that refuse, some attack goes through: none is decoration."""
    text = (files("station.manifest") / "schema_2.sql").read_text()
    triggers = shell.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND sql LIKE '%RAISE%'"
    ).fetchall()
    rules = {name: sql for name, sql in triggers if f"CREATE TRIGGER {name} " in text}
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


# -- a file of schema 1


@pytest.fixture
def old(tmp_path):
    """A manifest of schema 1 with units in it, as the version before wrote it."""
    path = tmp_path / "old.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript((files("station.manifest") / "schema_1.sql").read_text())
        connection.execute("CREATE TABLE _sqlite_migrations (migration_set TEXT, name TEXT, applied_at TEXT)")
        connection.execute("INSERT INTO _sqlite_migrations VALUES ('station.manifest', 'schema_1', '2026')")
        connection.execute("INSERT INTO station_version (version, schema, since) VALUES ('0.1.0', 1, '2026')")
        connection.execute(
            "INSERT INTO production_order (name, product, profile, quantity, serial_format, first_number, opened_at) "
            "VALUES ('WO-1', 'reference-device', 'idevid', 5000, 'SN{number:06d}', 1, '2026-01-01T00:00:00.000Z')"
        )
        connection.execute("BEGIN")
        for number in range(1, 3001):
            at = f"2026-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}.000Z"
            connection.execute(
                "INSERT INTO unit (hardware_id, order_id, model, firmware_version, firmware_sha256, state, attempts, "
                "slot, first_seen_at, changed_at) VALUES (?, 1, 'm', '1', zeroblob(32), 'open', 1, '1', ?, ?)",
                (f"H{number}", at, at),
            )
            connection.execute("UPDATE unit SET product_serial = ? WHERE id = ?", (f"SN{number:06d}", number))
        connection.execute("COMMIT")
        connection.execute(f"PRAGMA application_id = {int.from_bytes(b'PSTM', 'big')}")
        connection.execute("PRAGMA user_version = 1")
    return path


def rows(path, table):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        return columns, connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


async def test_a_file_of_schema_1_loses_nothing(old):
    tables = ("production_order", "unit", "public_key", "issuance", "proof", "event")
    before = {table: rows(old, table) for table in tables}
    Manifest.open(old).close()
    for table, (columns, content) in before.items():
        now_columns, now = rows(old, table)
        places = [now_columns.index(column) for column in columns]
        assert [tuple(row[place] for place in places) for row in now][: len(content)] == content


async def test_an_unsigned_order_is_signed_afterwards_and_its_units_go_on(old):
    order = order_of("WO-1", quantity=5000)
    terms = trust_of(APPROVER).verified(APPROVER.sign(order).text()).terms(1)
    with Manifest.open(old) as manifest:
        assert await manifest.open_order(terms)
        assert not await manifest.open_order(terms)
        with ManifestReader(old) as reader:
            (record,) = reader.orders()
            *_, event = reader.events()
        assert (record.terms, record.taken, record.holders) == (terms, 3000, 3000)
        assert (event.step, event.facts["uid"]) == ("order-signed", order.id)


async def test_an_unsigned_order_is_not_signed_with_other_terms(old):
    terms = trust_of(APPROVER).verified(APPROVER.sign(order_of("WO-1", quantity=9000)).text()).terms(1)
    with Manifest.open(old) as manifest, pytest.raises(OrderDiffers):
        await manifest.open_order(terms)


async def test_each_manifest_is_another_one(tmp_path):
    made = []
    for name in ("a", "b"):
        with Manifest.open(tmp_path / name) as manifest:
            made.append(manifest.identity)
        with Manifest.open(tmp_path / name) as manifest:
            assert manifest.identity == made[-1]
    assert made[0] != made[1]
