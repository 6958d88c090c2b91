"""Exports that are recorded: whole or not at all, incremental, signed, and with their receipts."""
# ruff: noqa: S608  # statements are put together here, from nothing that comes from outside

import contextlib
import errno
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import tracemalloc
from functools import partial

import pytest

from hsm.testing import make_tokens, open_signer
from station.exports.handover import Terms, check_parcel, hand_over
from station.exports.naming import Naming
from station.exports.signature import make_export_key, open_seal, read_export_key
from station.exports.tables import Form, Table
from station.exports.target import ExportError
from station.manifest import Manifest, ManifestError, ManifestReader
from station.manifest.book import OwnBook
from station.manifest.handing import (
    Lacking,
    Outcome,
    Verdict,
    Which,
    add,
    begin,
    export_of,
    exports,
    hand_out,
    handed,
    members,
    receive,
)
from station.manifest.testing import ORDER, SoftBoard, issue, provision

JSONL = Table(Form.JSONL, Naming.parse("{product_serial}"))
DIGEST = bytes(32)


@pytest.fixture
async def path(tmp_path):
    """A manifest with three units that passed."""
    path = tmp_path / "manifest.db"
    with Manifest.open(path) as manifest:
        await manifest.open_order(ORDER)
        for name in ("a", "b", "c"):
            await provision(manifest, name)
    return path


@pytest.fixture(scope="module")
def seal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seal")
    with open_signer(make_tokens(folder / "tokens", ["export"]), "export", writable=True) as signer:
        make_export_key(signer, folder / "export.pem")
        yield open_seal(signer, folder / "export.pem"), read_export_key(folder / "export.pem"), signer


def export(path, out, recipient="cloud", *, which=Which.NEW, target=JSONL, seal=None):
    with Manifest.open(path) as book, ManifestReader(path) as reader:
        units = reader.export(lacking=Lacking(target.name, recipient, which))
        return hand_over(target, units, out, Terms(recipient, 1), book=OwnBook(book), seal=seal)


def serials(folder):
    return [json.loads(line)["product_serial"] for line in (folder / "units.jsonl").read_text().splitlines()]


def receipt(path, export_id, **outcomes):
    with ManifestReader(path) as reader:
        verdicts = [
            Verdict(member, Outcome(outcomes[member.hardware_id]), "because")
            for member in members(reader, export_id)
            if member.hardware_id in outcomes
        ]
    with Manifest.open(path) as manifest:
        return manifest.perform_blocking(partial(receive, export_id=export_id, verdicts=verdicts, source=DIGEST))


def begun(path):
    """Begin an export of all three, and hand nothing out."""
    with ManifestReader(path) as reader:
        units = [(unit.unit_id, unit.issuance_id) for unit in reader.export()]
    manifest = Manifest.open(path)
    number = manifest.perform_blocking(
        partial(begin, target="jsonl", recipient="cloud", naming="{product_serial}", units=3, digest=DIGEST)
    )
    return manifest, number, units


async def test_the_second_export_holds_what_is_new_since_the_first(path, tmp_path):
    assert export(path, tmp_path / "one").units == 3
    with Manifest.open(path) as manifest:
        await provision(manifest, "d")
    assert export(path, tmp_path / "two").units == 1
    assert serials(tmp_path / "two") == ["SN000004"]


def test_where_nothing_is_new_no_folder_is_made(path, tmp_path):
    export(path, tmp_path / "one")
    assert export(path, tmp_path / "two").path is None
    assert not (tmp_path / "two").exists()


def test_each_recipient_and_each_target_has_a_record_of_its_own(path, tmp_path):
    export(path, tmp_path / "one")
    assert export(path, tmp_path / "two", "another cloud").units == 3
    assert export(path, tmp_path / "three", target=Table(Form.CSV, JSONL.naming)).units == 3


def test_which_all_hands_everything_out_again(path, tmp_path):
    export(path, tmp_path / "one")
    assert export(path, tmp_path / "two", which=Which.ALL).units == 3


async def test_a_unit_that_did_not_pass_waits_for_the_next_export(path, tmp_path):
    with Manifest.open(path) as manifest:
        await issue(manifest, SoftBoard("open"))
    assert export(path, tmp_path / "one").units == 3


def test_rejected_units_are_handed_out_again_until_an_answer_comes(path, tmp_path):
    export(path, tmp_path / "one")
    assert receipt(path, 1, a="accepted", b="rejected") == 2
    assert export(path, tmp_path / "two", which=Which.REJECTED).units == 1
    assert serials(tmp_path / "two") == ["SN000002"]
    assert export(path, tmp_path / "three", which=Which.REJECTED).path is None
    receipt(path, 2, b="accepted")
    with ManifestReader(path) as reader:
        assert [(one.accepted, one.rejected) for one in exports(reader)] == [(1, 1), (1, 0)]


def test_a_receipt_stands_in_the_history_of_its_unit(path, tmp_path):
    export(path, tmp_path / "one")
    receipt(path, 1, b="rejected")
    with ManifestReader(path) as reader:
        history = reader.unit("b")
        assert (history.events[-1].step, history.events[-1].facts["outcome"]) == ("receipt", "rejected")
        (one,) = handed(reader, history.unit.id)
    assert (one.recipient, one.outcome, one.reason) == ("cloud", Outcome.REJECTED, "because")


def test_the_same_receipt_twice_is_stored_once_and_the_newest_counts(path, tmp_path):
    export(path, tmp_path / "one")
    assert receipt(path, 1, a="rejected") == 1
    assert receipt(path, 1, a="rejected") == 0
    assert receipt(path, 1, a="accepted") == 1
    with ManifestReader(path) as reader:
        assert (export_of(reader, 1).accepted, export_of(reader, 1).rejected) == (1, 0)


def test_an_export_is_begun_and_handed_out_with_an_event_each(path, tmp_path):
    export(path, tmp_path / "one")
    with ManifestReader(path) as reader:
        first, last = (event for event in reader.events() if event.step.startswith("export"))
        rows = list(reader.rows("SELECT unit_id, issuance_id FROM export_unit ORDER BY number"))
        ((statement,),) = reader.rows("SELECT statement FROM export")
    lines = "".join(f"{unit} {issuance}\n" for unit, issuance in rows).encode()
    assert first.facts["units_sha256"] == hashlib.sha256(lines).hexdigest()
    assert last.facts["statement_sha256"] == hashlib.sha256((tmp_path / "one/export.json").read_bytes()).hexdigest()
    assert statement == (tmp_path / "one/export.json").read_text()


def test_an_export_that_was_begun_and_never_handed_out_counts_for_nothing(path, tmp_path):
    manifest, number, units = begun(path)
    with manifest:
        manifest.perform_blocking(partial(add, export_id=number, first=1, members=units))
    assert export(path, tmp_path / "one").units == 3


def test_a_full_disk_leaves_no_folder_and_no_export_that_counts(path, tmp_path):
    """A limit on the size of files stands for the disk: the kernel refuses in the same place."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import test_handover as t\n"
        "from station.exports.target import ExportError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from station.exports.handover import Terms, hand_over\n"
        "with t.ManifestReader(Path(sys.argv[2])) as reader:\n"
        "    try:\n"
        "        hand_over(t.JSONL, reader.export(), Path(sys.argv[3]), Terms())\n"
        "    except ExportError as error:\n"
        "        print(error)\n"
    )
    command = [sys.executable, "-c", code, os.path.dirname(__file__), path, tmp_path / "out"]  # noqa: PTH120
    before = sorted(entry.name for entry in tmp_path.iterdir())
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"can't be written ({os.strerror(errno.EFBIG)})" in done.stdout
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before
    assert export(path, tmp_path / "out").units == 3


def test_a_folder_that_is_there_is_never_touched(path, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ExportError, match="is there already"):
        export(path, tmp_path / "out")


def test_a_manifest_that_refuses_leaves_no_folder(path, tmp_path):
    class Refusing:
        def begin(self, **_content):
            raise ManifestError("the disk is full", code="manifest.disk_full")

    with ManifestReader(path) as reader, pytest.raises(ManifestError, match="full"):
        hand_over(JSONL, reader.export(), tmp_path / "out", Terms("cloud"), book=Refusing())
    assert not [entry for entry in tmp_path.iterdir() if "out" in entry.name]


def test_a_signed_parcel_is_checked_with_the_public_key_alone(path, tmp_path, seal):
    export(path, tmp_path / "one", seal=seal[0])
    statement = check_parcel(tmp_path / "one", seal[1])
    assert (statement["recipient"], statement["export"], statement["units"]) == ("cloud", 1, 3)


@pytest.mark.parametrize("name", ["units.jsonl", "export.json", "export.jws"])
def test_a_changed_byte_in_any_file_of_a_parcel_is_found(path, tmp_path, seal, name):
    export(path, tmp_path / "one", seal=seal[0])
    file = tmp_path / "one" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ExportError):
        check_parcel(tmp_path / "one", seal[1])


def test_a_file_too_many_in_a_parcel_is_found(path, tmp_path, seal):
    export(path, tmp_path / "one", seal=seal[0])
    (tmp_path / "one" / "more.csv").touch()
    with pytest.raises(ExportError, match=r"more\.csv is not in the statement"):
        check_parcel(tmp_path / "one", seal[1])


def test_the_export_key_is_found_again_in_its_token(tmp_path, seal):
    _, public, signer = seal
    assert make_export_key(signer, tmp_path / "again.pem") == public
    with pytest.raises(ExportError, match="never overwritten"):
        make_export_key(signer, tmp_path / "again.pem")


def test_memory_does_not_grow_with_the_units(path, tmp_path):
    with ManifestReader(path) as reader:
        (unit, *_) = reader.export()

    def peak(count):
        tracemalloc.start()
        hand_over(JSONL, (unit for _ in range(count)), tmp_path / f"out-{count}", Terms())
        _, found = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return found

    peak(10)
    small, large = peak(2000), peak(8000)
    assert large < small + 200_000


# What no program can do to the rows. Export 1 is handed out, with a receipt about unit a; export 2 is begun and holds
# one unit of three; list 1 has one row of three.

NOW = "'2999-01-01T00:00:00.000Z'"
NEW_EXPORT = (
    "INSERT {how} INTO export (id, target, recipient, naming, units, units_sha256, begun_at, statement, "
    "statement_sha256, handed_at) VALUES ({id}, 't', 'r', 'n', 1, zeroblob(32), " + NOW + ", {handed})"
)
NEW_RECEIPT = (
    "INSERT {how} INTO receipt (id, export_id, unit_id, issuance_id, outcome, reason, source_sha256, at) "
    "VALUES ({id}, {export}, {unit}, 1, 'accepted', '', zeroblob(32), " + NOW + ")"
)
NEW_LIST = (
    "INSERT OR REPLACE INTO list (id, name, rows, rows_sha256, source_sha256, at) "
    "VALUES ({id}, '{name}', 1, zeroblob(32), zeroblob(32), " + NOW + ")"
)
HANDED = f"handed_at = {NOW}, statement = 's', statement_sha256 = zeroblob(32)"

REFUSED = {
    "replaced export": NEW_EXPORT.format(how="OR REPLACE", id=2, handed="NULL, NULL, NULL"),
    "export that starts handed out": NEW_EXPORT.format(how="", id=9, handed=f"'s', zeroblob(32), {NOW}"),
    "export handed out again": "UPDATE export SET handed_at = " + NOW + " WHERE id = 1",
    "export with another count": f"UPDATE export SET units = 1, {HANDED} WHERE id = 2",
    "export handed out before it is full": f"UPDATE export SET {HANDED} WHERE id = 2",
    "deleted export": "DELETE FROM export WHERE id = 2",
    "unit too many": "INSERT INTO export_unit VALUES (2, 4, 3, 3)",
    "gap in an export": "INSERT INTO export_unit VALUES (2, 3, 3, 3)",
    "unit replaced in an export": "INSERT OR REPLACE INTO export_unit VALUES (2, 1, 2, 2)",
    "unit added to what is handed out": "INSERT INTO export_unit VALUES (1, 4, 1, 1)",
    "certificate of another unit": "INSERT INTO export_unit VALUES (2, 2, 3, 2)",
    "unit twice in an export": "INSERT OR REPLACE INTO export_unit VALUES (2, 2, 1, 1)",
    "unit changed in an export": "UPDATE export_unit SET unit_id = 2 WHERE export_id = 2",
    "unit deleted from an export": "DELETE FROM export_unit WHERE export_id = 2",
    "replaced receipt": NEW_RECEIPT.format(how="OR REPLACE", id=1, export=1, unit=1),
    "receipt before it is handed out": NEW_RECEIPT.format(how="", id=9, export=2, unit=1),
    "receipt about another unit": NEW_RECEIPT.format(how="", id=9, export=1, unit=2),
    "changed receipt": "UPDATE receipt SET outcome = 'accepted'",
    "deleted receipt": "DELETE FROM receipt",
    "replaced list": NEW_LIST.format(id=1, name="other"),
    "list of the same name": NEW_LIST.format(id=9, name="roll"),
    "changed list": "UPDATE list SET name = 'x'",
    "deleted list": "DELETE FROM list",
    "gap in a list": "INSERT INTO list_row VALUES (1, 3, 'S3', NULL, NULL)",
    "row too many": "INSERT INTO list_row VALUES (1, 4, 'S4', NULL, NULL)",
    "identity in two rows": "INSERT OR REPLACE INTO list_row VALUES (1, 2, 'S1', NULL, NULL)",
    "changed row": "UPDATE list_row SET product_serial = 'S2'",
    "deleted row": "DELETE FROM list_row",
}


@pytest.fixture
def shell(path, tmp_path):
    export(path, tmp_path / "one")
    receipt(path, 1, a="rejected")
    manifest, number, units = begun(path)
    with manifest:
        manifest.perform_blocking(partial(add, export_id=number, first=1, members=units[:1]))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            f"INSERT INTO list (name, rows, rows_sha256, source_sha256, at) VALUES ('roll', 3, zeroblob(32), "
            f"zeroblob(32), {NOW})"
        )
        connection.execute("INSERT INTO list_row VALUES (1, 1, 'S1', '02:00:00:00:00:01', NULL)")
        yield connection


@pytest.mark.parametrize("sql", REFUSED.values(), ids=REFUSED)
def test_the_schema_refuses(shell, sql):
    with pytest.raises(sqlite3.IntegrityError, match=r"^manifest\."):
        shell.execute(sql)


def test_every_rule_is_needed(shell):
    """Without any one of the triggers that refuse, something goes through: none is decoration."""
    rules = dict(
        shell.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND sql LIKE '%RAISE%' "
            "AND tbl_name IN ('export', 'export_unit', 'receipt', 'list', 'list_row')"
        ).fetchall()
    )
    idle = set()
    for name, sql in rules.items():
        shell.execute(f"DROP TRIGGER {name}")
        if not any(goes_through(shell, attack) for attack in REFUSED.values()):
            idle.add(name)
        shell.execute(sql)
    assert len(rules) == 20
    assert idle == set()


def goes_through(shell, sql):
    shell.execute("BEGIN")
    try:
        shell.execute(sql)
    except sqlite3.IntegrityError:
        return False
    else:
        return True
    finally:
        shell.execute("ROLLBACK")


def test_an_export_can_be_handed_out_once(path):
    manifest, number, units = begun(path)
    with manifest:
        manifest.perform_blocking(partial(add, export_id=number, first=1, members=units))
        manifest.perform_blocking(partial(hand_out, export_id=number, statement="{}"))
        with pytest.raises(ManifestError, match="never changes"):
            manifest.perform_blocking(partial(hand_out, export_id=number, statement="{ }"))


def test_an_older_manifest_gets_the_tables(path, tmp_path):
    """A file of schema 1, as the last release wrote it."""
    old = tmp_path / "old.db"
    with sqlite3.connect(path) as source, sqlite3.connect(old) as copy:
        source.backup(copy)
        for table in ("list_row", "list", "receipt", "export_unit", "export"):
            copy.execute(f"DROP TABLE {table}")
        copy.execute("DROP INDEX desk_serial_by_mac")
        copy.execute("DELETE FROM _sqlite_migrations WHERE name = 'schema_5'")
        copy.execute("INSERT INTO station_version (version, \"schema\", since) VALUES ('0.0', 1, '2026')")
        copy.execute("PRAGMA user_version = 1")
    source.close()
    copy.close()
    assert export(old, tmp_path / "one").units == 3
