"""Whoever changes a copy of a manifest is found out, and the row is named: each table, each column, each kind of deed.

The attacker has the file and every tool: the triggers are dropped first.
"""

import contextlib
import shutil
import sqlite3
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hsm import KeyKind
from station.ledger.damage import Kind
from station.ledger.errors import NoteInvalid
from station.ledger.note import VerifierKey
from station.ledger.verify import verify
from station.manifest import Manifest, handing
from station.manifest.testing import ORDER, provision

pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning")


@contextlib.contextmanager
def unguarded(path):
    """Open a copy without its rules; they are put back, so that only the rows tell of the change."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.text_factory = bytes
        rules = shell.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        shell.execute("PRAGMA synchronous = OFF")
        shell.execute("PRAGMA ignore_check_constraints = ON")
        for name, _ in rules:
            shell.execute(f"DROP TRIGGER {name.decode()}")
        yield shell
        for _, sql in rules:
            shell.execute(sql.decode())


def tables(shell):
    names = shell.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    return [name.decode() for (name,) in names if not name.startswith(b"sqlite_")]


def columns(shell, table):
    return [row[1].decode() for row in shell.execute(f"PRAGMA table_info({table})")]


def kinds(verdict):
    return {(damage.kind, damage.table) for damage in verdict.damages}


def test_a_manifest_that_nobody_touched_is_sound(sealed):
    verdict = verify(sealed.path, [sealed.key])
    assert verdict.damages == ()
    assert (verdict.sound, verdict.checkpoints, verdict.events - verdict.sealed) == (True, 3, 1)


def test_every_table_has_a_row_to_be_changed(sealed):
    with contextlib.closing(sqlite3.connect(sealed.path)) as shell:
        shell.text_factory = bytes
        assert [t for t in tables(shell) if not shell.execute(f"SELECT count(*) FROM {t}").fetchone()[0]] == []  # noqa: S608


def spoil(value, byte, mask):
    """Change one byte of a value, or one bit of a number."""
    if isinstance(value, bytes):
        at = byte % len(value) if value else 0
        return value[:at] + bytes([value[at] ^ mask]) + value[at + 1 :] if value else b"x"
    if isinstance(value, float):
        return value + 2.0**-51
    return value ^ (1 << mask % 8)


KEYS = {  # of tables without a rowid
    "desk_serial": ("product_serial",),
    "desk_refusal": ("product_serial",),
    "public_key": ("spki_sha256",),
    "export_unit": ("export_id", "number"),
    "list_row": ("list_id", "number"),
}


def change(path, table, column, *, where, byte=0, mask=1):
    """Spoil one value; returns whether there is one that is covered by a checkpoint."""
    with unguarded(path) as shell:
        last = shell.execute("SELECT max(tree_size) FROM checkpoint").fetchone()[0]
        condition = f"id <= {last}" if table == "event" else "1"
        key = KEYS.get(table, ("rowid",))
        rows = shell.execute(
            f"SELECT {', '.join(key)}, {column}, typeof({column}) FROM {table} "  # noqa: S608
            f"WHERE {column} IS NOT NULL AND {condition}"
        ).fetchall()
        *identity, value, kind = rows[where % len(rows)]
        bad = spoil(value, byte, mask)
        cast = "CAST(? AS TEXT)" if kind == b"text" else "?"
        condition = " AND ".join(f"{name} = ?" for name in key)
        identity = [part.decode() if table.startswith("desk_") else part for part in identity]
        shell.execute(f"UPDATE {table} SET {column} = {cast} WHERE {condition}", (bad, *identity))  # noqa: S608


def every_column():
    """All tables and columns of this version, read off a new manifest."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as shell:
        from sqlite_utils import Database  # noqa: PLC0415

        from station.manifest.schema import migrations  # noqa: PLC0415

        migrations.apply(Database(shell))
        names = [name for (name,) in shell.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return [(table, row[1]) for table in names for row in shell.execute(f"PRAGMA table_info({table})")]


UNSAID = {("_sqlite_migrations", "id"), ("_sqlite_migrations", "migration_set"), ("unit", "order_id")}
"""Of the tool that keeps them, and no record of ours; order_id has a test of its own."""


@pytest.mark.parametrize(("table", "column"), [pair for pair in every_column() if pair not in UNSAID])
def test_a_changed_byte_in_any_column_is_named(sealed, table, column):
    with contextlib.suppress(sqlite3.IntegrityError):  # two rows of one key: that change can't be made
        change(sealed.path, table, column, where=3, byte=5)
        verdict = verify(sealed.path, [sealed.key])
        assert table in {damage.table for damage in verdict.damages}, verdict.damages


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.sampled_from([pair for pair in every_column() if pair not in UNSAID]),
    where=st.integers(0, 1000),
    byte=st.integers(0, 10_000),
    mask=st.integers(1, 255),
)
def test_any_changed_byte_is_found(sealed, tmp_path, place, where, byte, mask):  # noqa: PLR0917 - hypothesis names them
    copy = tmp_path / "spoiled.db"
    shutil.copy(sealed.path, copy)
    with contextlib.suppress(sqlite3.IntegrityError):
        change(copy, *place, where=where, byte=byte, mask=mask)
        assert not verify(copy, [sealed.key]).sound


def test_a_unit_that_is_moved_to_another_order_is_named(sealed):
    with unguarded(sealed.path) as shell:
        shell.execute("UPDATE unit SET order_id = 1 WHERE hardware_id = 'passed'")
    assert (Kind.CHANGED, "unit") in kinds(verify(sealed.path, [sealed.key]))


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ("unit", "hardware_id = 'open'"),
        ("issuance", "state = 'void'"),
        ("proof", "issuance_id = 4"),
        ("life_act", "act = 'scrap'"),
        ("desk_serial", "1"),
        ("desk_refusal", "1"),
        ("order_resume", "1"),
        ("public_key", "unit_id = 1"),
        ("production_order", "name = 'signed'"),
        ("checkpoint", "id = 2"),
        ("ledger_tile", "level = 0"),
        ("ledger_edge", "1"),
        ("station_version", "1"),
        ("export", "recipient = 'nobody'"),
        ("export_unit", "export_id = 2 AND number = 1"),
        ("export_unit", "export_id = 1 AND number = (SELECT units FROM export WHERE id = 1)"),
        ("receipt", "id = 2"),
        ("list", "1"),
        ("list_row", "number = 5"),
    ],
)
def test_a_removed_row_is_named(sealed, table, where):
    with unguarded(sealed.path) as shell:
        assert shell.execute(f"DELETE FROM {table} WHERE {where}").rowcount  # noqa: S608
    assert (Kind.REMOVED, table) in kinds(verify(sealed.path, [sealed.key]))


EXTRA = {
    "unit": "SELECT 999, 'extra', order_id, NULL, model, firmware_version, firmware_sha256, 'open', 1, slot, "
    "first_seen_at, changed_at, NULL, NULL, NULL, NULL, 'normal' FROM unit WHERE id = 1",
    "public_key": "VALUES (zeroblob(32), 1)",
    "proof": "SELECT 1, challenge, message, signature, read_back_sha256, locks, seconds, at FROM proof LIMIT 1",
    "life_act": "SELECT 999, 1, 'scrap', reason, actor, os_user, NULL, NULL, 0, at FROM life_act LIMIT 1",
    "desk_serial": "SELECT 'X1', order_id, zeroblob(32), NULL, at FROM desk_serial",
    "desk_refusal": "SELECT 'X1', code, reason, at FROM desk_refusal",
    "order_resume": "SELECT 99, order_id, taken, burned, reason, actor, os_user, at FROM order_resume",
    "station_version": "SELECT 99, version, schema, since FROM station_version LIMIT 1",
    "ledger_tile": "SELECT 0, 7, root, hashes FROM ledger_tile WHERE level = 0 LIMIT 1",
    "export": "SELECT 99, target, 'new', naming, units, units_sha256, begun_at, NULL, NULL, NULL FROM export LIMIT 1",
    "export_unit": "SELECT 1, 99, 1, 1",
    "receipt": "SELECT 99, 2, unit_id, issuance_id, 'accepted', '', source_sha256, at FROM receipt LIMIT 1",
    "list": "SELECT 99, 'forged', rows, rows_sha256, source_sha256, at FROM list",
    "list_row": "SELECT 1, rows + 1, 'forged', NULL, NULL FROM list",
}


@pytest.mark.parametrize("table", EXTRA)
def test_a_row_that_was_put_in_is_named(sealed, table):
    with unguarded(sealed.path) as shell:
        shell.execute(f"INSERT INTO {table} {EXTRA[table]}")
    assert (Kind.INSERTED, table) in kinds(verify(sealed.path, [sealed.key]))


def test_a_removed_event_is_named(sealed):
    with unguarded(sealed.path) as shell:
        shell.execute("DELETE FROM event WHERE id = 30")
    named = {(damage.kind, damage.row) for damage in verify(sealed.path, [sealed.key]).damages}
    assert (Kind.REMOVED, "30") in named


def test_an_event_taken_out_with_the_later_ones_renumbered_is_named(sealed):
    with unguarded(sealed.path) as shell:
        shell.execute("DELETE FROM event WHERE id = 200")
        shell.execute("UPDATE event SET id = id - 1 WHERE id > 200")
    named = {(damage.kind, damage.row) for damage in verify(sealed.path, [sealed.key]).damages}
    assert (Kind.REMOVED, "200") in named


def test_an_event_put_in_with_the_later_ones_renumbered_is_named(sealed):
    with unguarded(sealed.path) as shell:
        shell.execute("UPDATE event SET id = -id - 1 WHERE id > 200")
        shell.execute("UPDATE event SET id = -id WHERE id < 0")
        shell.execute(
            'INSERT INTO event SELECT 201, at, unit_id, slot, step, kind, \'{"forged":"x"}\' FROM event WHERE id = 200'
        )
    named = {(damage.kind, damage.row) for damage in verify(sealed.path, [sealed.key]).damages}
    assert (Kind.INSERTED, "201") in named


def test_events_that_changed_places_are_named_as_that(sealed):
    with unguarded(sealed.path) as shell:
        for sql in ("= -1 WHERE id = 150", "= 150 WHERE id = 300", "= 300 WHERE id = -1"):
            shell.execute(f"UPDATE event SET id {sql}")  # noqa: S608
    named = {(damage.kind, damage.row) for damage in verify(sealed.path, [sealed.key]).damages}
    assert {(Kind.REORDERED, "150"), (Kind.REORDERED, "300")} <= named


def test_one_changed_event_is_named_and_no_other(sealed):
    with unguarded(sealed.path) as shell:
        shell.execute('UPDATE event SET facts = \'{"number":"x"}\' WHERE id = 250')
    events = [damage for damage in verify(sealed.path, [sealed.key]).damages if damage.table == "event"]
    assert [(damage.kind, damage.row) for damage in events] == [(Kind.CHANGED, "250")]


def test_a_changed_tile_is_not_blamed_on_the_events(sealed):
    change(sealed.path, "ledger_tile", "hashes", where=0)
    assert kinds(verify(sealed.path, [sealed.key])) == {(Kind.CHANGED, "ledger_tile")}


def test_rows_and_events_that_were_forged_together_are_found_by_the_signature(sealed):
    with unguarded(sealed.path) as shell:
        shell.execute("UPDATE unit SET model = 'forged' WHERE hardware_id = 'open'")
        shell.execute(
            "UPDATE event SET facts = json_set(facts, '$.model', 'forged') WHERE step = 'begin' "
            "AND unit_id = (SELECT id FROM unit WHERE hardware_id = 'open')"
        )
    assert (Kind.CHANGED, "event") in kinds(verify(sealed.path, [sealed.key]))


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("DROP TRIGGER event_no_delete", Kind.REMOVED),
        ("CREATE TABLE extra (x)", Kind.INSERTED),
        ("DROP INDEX unit_by_order", Kind.REMOVED),
        ("CREATE TABLE sqlite0extra (x)", Kind.INSERTED),
        (
            "CREATE TRIGGER SQLiteXquiet BEFORE INSERT ON checkpoint BEGIN SELECT raise(IGNORE); END",
            Kind.INSERTED,
        ),
        (
            """PRAGMA writable_schema = ON; INSERT INTO sqlite_master SELECT 'trigger', 'sqlite_quiet', 'unit', 0,
            'CREATE TRIGGER sqlite_quiet BEFORE INSERT ON unit BEGIN SELECT raise(IGNORE); END'""",
            Kind.INSERTED,
        ),
    ],
)
def test_a_schema_that_is_not_this_versions_is_named(sealed, sql, kind):
    with contextlib.closing(sqlite3.connect(sealed.path, isolation_level=None)) as shell:
        shell.executescript(sql)
    assert (kind, "schema") in kinds(verify(sealed.path, [sealed.key]))


def loosened(table):
    """Return what lets a table take any type, and what hides that again; both need a connection of their own."""
    begin = "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = "
    strict = f"replace(sql, ') STRICT', ') ') WHERE name = '{table}';"
    hide = f"sql || 'STRICT' WHERE name = '{table}';"
    return begin + strict, begin + hide


HOSTILE = {"LAST": str((1 << 63) - 1), "HUGE": str(10**30), "DEEP": "[" * 100_000}


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("INSERT INTO event SELECT LAST, at, unit_id, slot, step, kind, facts FROM event WHERE id = 9", "event"),
        ("INSERT INTO event SELECT -7, at, NULL, slot, step, 'note', facts FROM event WHERE id = 9", "event"),
        ("UPDATE checkpoint SET id = LAST WHERE id = 3", "checkpoint"),
        ("UPDATE event SET facts = 'DEEP' WHERE step = 'begin'", "event"),
        ("UPDATE event SET facts = 'DEEP' WHERE step = 'order'", "event"),
        ("UPDATE event SET facts = json_set(facts, '$.order', json('[1]')) WHERE step = 'begin'", "event"),
        ("UPDATE event SET facts = json_set(facts, '$.checkpoint', 'HUGE') WHERE step = 'checkpoint'", "event"),
        ("UPDATE event SET facts = json_set(facts, '$.id', 'HUGE') WHERE step = 'version'", "event"),
        ("UPDATE ledger_edge SET size = LAST", "ledger_edge"),
        ("UPDATE ledger_tile SET level = LAST", "ledger_tile"),
    ],
)
def test_a_hostile_value_is_named_and_the_check_comes_to_its_end(sealed, sql, named):
    with unguarded(sealed.path) as shell:
        shell.execute("PRAGMA foreign_keys = OFF")
        for word, value in HOSTILE.items():
            sql = sql.replace(word, value)
        shell.execute(sql)
    verdict = verify(sealed.path, [sealed.key])
    assert named in {damage.table for damage in verdict.damages}
    assert verdict.units > 0


@pytest.mark.parametrize(
    ("table", "sql"),
    [
        ("ledger_edge", "UPDATE ledger_edge SET size = 'x'"),
        ("ledger_edge", "UPDATE ledger_edge SET hashes = 7"),
        ("ledger_tile", "UPDATE ledger_tile SET level = 'x'"),
        ("checkpoint", "UPDATE checkpoint SET tree_size = 'x' WHERE id = 3"),
        ("manifest_identity", "UPDATE manifest_identity SET uuid = 7"),
        ("production_order", "UPDATE production_order SET jws = 7.5, quantity = 'x'"),
        ("unit", "UPDATE unit SET hardware_id = 7, slot = x'ff', attempts = 'x' WHERE id = 1"),
        ("issuance", "UPDATE issuance SET spki_sha256 = 7, tbs = 'x'"),
    ],
)
def test_a_value_of_another_type_is_named_and_the_check_comes_to_its_end(sealed, table, sql):
    loosen, hide = loosened(table)
    with unguarded(sealed.path) as shell:
        shell.execute("PRAGMA foreign_keys = OFF")
        shell.executescript(loosen)
        with contextlib.closing(sqlite3.connect(sealed.path)) as another:
            another.executescript(f"PRAGMA ignore_check_constraints = ON; {sql}; {hide}")
    verdict = verify(sealed.path, [sealed.key])
    assert table in {damage.table for damage in verdict.damages}


def test_what_stands_in_place_of_a_table_is_not_asked(sealed):
    with contextlib.closing(sqlite3.connect(sealed.path, isolation_level=None)) as shell:
        for (name,) in shell.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            shell.execute(f"DROP TRIGGER {name}")
        shell.executescript(
            "ALTER TABLE checkpoint RENAME TO kept; CREATE VIEW checkpoint AS WITH RECURSIVE n(id) AS (SELECT 1 UNION "
            "ALL SELECT id + 1 FROM n) SELECT id, 1 tree_size, x'' root, '' reason, 1 signing_tries, '' note, '' "
            "changed_at FROM n"
        )
    verdict = verify(sealed.path, [sealed.key])
    assert {(Kind.REMOVED, "schema"), (Kind.INSERTED, "schema"), (Kind.UNPROVEN, "schema")} <= kinds(verdict)
    assert not verdict.sound


def test_statistics_that_somebody_had_sqlite_make_are_no_damage(sealed):
    with contextlib.closing(sqlite3.connect(sealed.path, isolation_level=None)) as shell:
        shell.execute("ANALYZE")
    assert verify(sealed.path, [sealed.key]).sound


def test_a_copy_cut_off_at_an_older_checkpoint_lacks_the_one_that_was_kept_outside(sealed):
    with contextlib.closing(sqlite3.connect(sealed.path)) as shell:
        newest = shell.execute("SELECT note FROM checkpoint ORDER BY id DESC LIMIT 1").fetchone()[0]
    with unguarded(sealed.path) as shell:
        shell.execute("DELETE FROM checkpoint WHERE id = 3")
        size = shell.execute("SELECT max(tree_size) FROM checkpoint").fetchone()[0]
        shell.execute("DELETE FROM event WHERE id > ?", (size,))
    verdict = verify(sealed.path, [sealed.key], outside=newest)
    assert any("kept outside" in damage.detail for damage in verdict.damages)


def test_another_key_vouches_for_nothing(sealed, token):
    other = VerifierKey(sealed.key.name, token.keys[KeyKind.P256].public_key())
    with pytest.raises(NoteInvalid, match="nothing was checked: each checkpoint") as refused:
        verify(sealed.path, [other])
    assert refused.value.code == "ledger.note_unknown_key"


def test_a_checkpoint_of_another_manifest_is_refused(sealed, tmp_path, ledger_of):
    with Manifest.open(tmp_path / "other.db") as manifest:
        note = ledger_of(manifest).seal("other").note
    with pytest.raises(NoteInvalid, match="is of the log"):
        verify(sealed.path, [sealed.key.public], outside=note)


async def test_several_processes_find_what_one_finds(sealed, monkeypatch):
    monkeypatch.setattr("station.ledger.verify.SMALL", 0)
    change(sealed.path, "unit", "model", where=2)
    change(sealed.path, "event", "facts", where=200)
    alone = verify(sealed.path, [sealed.key], jobs=1)
    shared = verify(sealed.path, [sealed.key], jobs=2)
    assert set(map(str, shared.damages)) == set(map(str, alone.damages))
    assert shared.damage_count == alone.damage_count


async def test_an_older_file_is_brought_under_the_ledger_without_loss(tmp_path, ledger_of, schema_1):
    with Manifest.open(schema_1) as manifest:
        await provision(manifest, "new")
        ledger = ledger_of(manifest)
        ledger.seal("first")
    verdict = verify(schema_1, [ledger.key()])
    assert verdict.damages == ()
    change(schema_1, "proof", "signature", where=0)
    assert (Kind.CHANGED, "proof") in kinds(verify(schema_1, [ledger.key()]))


async def test_an_export_that_stopped_half_way_is_sound_and_has_no_statement(tmp_path, ledger_of):
    path = tmp_path / "manifest.db"
    with Manifest.open(path) as manifest:
        await manifest.open_order(ORDER)
        made = [await provision(manifest, name) for name in ("a", "b")]
        about = {"target": "csv", "recipient": "x", "naming": "{hardware_id}", "units": 2, "digest": b"d" * 32}
        manifest.perform_blocking(partial(handing.begin, **about))
        manifest.perform_blocking(
            partial(handing.add, export_id=1, first=1, members=[(made[0].unit_id, made[0].issuance_id)])
        )
        ledger = ledger_of(manifest)
        ledger.seal("first")
    assert verify(path, [ledger.key()]).damages == ()
    with unguarded(path) as shell:
        shell.execute("UPDATE export SET statement = '{}'")
    assert kinds(verify(path, [ledger.key()])) == {(Kind.CHANGED, "export")}


def test_an_identity_that_is_moved_to_another_column_of_a_list_is_named(sealed):
    with unguarded(sealed.path) as shell:
        shell.execute("UPDATE list_row SET product_serial = product_serial || ',' || mac, mac = NULL WHERE number = 2")
    assert (Kind.CHANGED, "list_row") in kinds(verify(sealed.path, [sealed.key]))
