"""Backups, drills and the doctor of the manifest: what harms a file is found and named."""

import asyncio
import shutil
import sqlite3
from contextlib import closing

import pytest
from sqlite_utils import Database

from station.checks.findings import Level
from station.checks.manifest_file import compare, examine, examine_backup
from station.errors import ManifestError
from station.manifest import Act, LifeRequest, Manifest, ManifestReader
from station.manifest.backup import back_up
from station.manifest.schema import MANIFEST, migrations
from station.manifest.testing import ORDER, SoftBoard, begin, issue, provision


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A manifest with thirty units; its ``-wal`` is folded in."""
    path = tmp_path_factory.mktemp("sound") / "manifest.db"

    async def fill():
        with Manifest.open(path) as manifest:
            await manifest.open_order(ORDER)
            for number in range(30):
                await provision(manifest, f"B-{number}")

    asyncio.run(fill())
    return path


@pytest.fixture
def copy(sound, tmp_path):
    return shutil.copy(sound, tmp_path / "copy.db")


def bad(path, **options):
    return {finding.check: finding.text for finding in examine(path, **options) if finding.level is Level.FAIL}


def test_a_sound_manifest_has_nothing_to_find(sound):
    assert {finding.level for finding in examine(sound)} == {Level.OK}


async def test_a_backup_is_made_while_the_station_writes(tmp_path):
    with Manifest.open(tmp_path / "manifest.db") as manifest:
        await manifest.open_order(ORDER)
        await provision(manifest, "before")
        writing = asyncio.create_task(_provision_many(manifest))
        made = await asyncio.to_thread(back_up, tmp_path / "manifest.db", tmp_path / "backup.db")
        await writing
    assert not bad(made.path)
    with ManifestReader(made.path) as reader:
        assert reader.unit("before").proof is not None
        assert max(event.id for event in reader.events()) == made.events


async def _provision_many(manifest):
    for number in range(20):
        await provision(manifest, f"during-{number}")


async def test_a_backup_has_what_only_the_wal_has(tmp_path):
    with Manifest.open(tmp_path / "manifest.db") as manifest:
        await manifest.open_order(ORDER)
        await provision(manifest, "A")
        assert (tmp_path / "manifest.db-wal").stat().st_size
        back_up(tmp_path / "manifest.db", tmp_path / "backup.db")
    with ManifestReader(tmp_path / "backup.db") as reader:
        assert reader.unit("A").proof is not None


def test_a_backup_is_never_overwritten(sound, tmp_path):
    (tmp_path / "backup.db").write_text("mine")
    with pytest.raises(ManifestError) as refused:
        back_up(sound, tmp_path / "backup.db")
    assert refused.value.code == "manifest.backup_exists"
    assert (tmp_path / "backup.db").read_text() == "mine"


def test_a_backup_that_fails_leaves_nothing_behind(sound, tmp_path):
    with pytest.raises(ManifestError) as refused:
        back_up(sound, tmp_path / "nowhere" / "backup.db")
    assert refused.value.code == "manifest.backup_unwritable"
    broken = tmp_path / "broken.db"
    content = bytearray(sound.read_bytes())
    content[4096 * 3 : 4096 * 4] = bytes(4096)
    broken.write_bytes(content)
    with pytest.raises(ManifestError) as refused:
        back_up(broken, tmp_path / "backup.db")
    assert refused.value.code == "manifest.damaged"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.db"]


def test_a_file_that_was_cut_off_is_named(copy):
    copy.write_bytes(copy.read_bytes()[:-8192])
    assert "cut off" in bad(copy)["length"]


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("x" * 500)
    assert "first bytes" in bad(tmp_path / "notes.txt")["file"]


def test_a_page_of_zeros_is_named(copy):
    content = bytearray(copy.read_bytes())
    content[4096 * 3 : 4096 * 4] = bytes(4096)
    copy.write_bytes(content)
    assert "pages" in bad(copy)


def test_flipped_bits_of_a_certificate_are_named(copy, sound):
    with ManifestReader(sound) as reader:
        certificate = reader.unit("B-7").unit.issuance.certificate
    content = copy.read_bytes()
    place = content.index(certificate[-40:])
    copy.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert set(bad(copy)) & {"certificates", "pages"}


@pytest.mark.parametrize(
    ("statement", "check", "says"),
    [
        ("DROP TRIGGER unit_no_delete", "rules", "unit_no_delete is missing"),
        ("DROP INDEX void_issuance", "rules", "void_issuance is missing"),
        ("CREATE TRIGGER spy AFTER INSERT ON unit BEGIN SELECT 1; END", "rules", "spy is not ours"),
        ("CREATE TRIGGER sqlite0 AFTER INSERT ON unit BEGIN SELECT 1; END", "rules", "sqlite0 is not ours"),
        ("DROP TRIGGER event_no_delete; DELETE FROM event WHERE id = 5", "events", "1 of"),
        (
            "DROP TRIGGER event_no_update; UPDATE event SET at = '2001-01-01T00:00:00.000Z' WHERE id = 9",
            "events",
            "event 9",
        ),
        (
            "DROP TRIGGER order_budget_only_falls; UPDATE production_order SET reserved = 3",
            "orders",
            "its row says 3 serials, and 30 are held",
        ),
        ("PRAGMA foreign_keys = OFF; DROP TRIGGER unit_no_delete; DELETE FROM unit WHERE id = 4", "pages", "not there"),
    ],
)
def test_what_a_program_did_to_the_file_is_named(copy, statement, check, says):
    with closing(sqlite3.connect(copy)) as connection:
        connection.executescript(statement)
    assert says in bad(copy)[check]


def test_a_wal_that_is_none_is_named(copy):
    copy.with_name("copy.db-wal").write_bytes(b"garbage" * 100)
    assert "first bytes" in bad(copy)["wal"]


async def test_a_removed_wal_is_seen_by_the_checkpoint_beside_the_file(tmp_path):
    path = tmp_path / "manifest.db"
    with Manifest.open(path) as manifest:
        await manifest.open_order(ORDER)
    with Manifest.open(path) as manifest:
        await provision(manifest, "A")
        with ManifestReader(path) as reader:
            size = max(event.id for event in reader.events())
        shutil.copy(path, tmp_path / "without.db")
    (tmp_path / "without.db.checkpoint").write_text(f"log\n{size}\nroot\n")
    assert "were sealed" in bad(tmp_path / "without.db")["checkpoint"]
    (tmp_path / "manifest.db.checkpoint").write_text(f"log\n{size}\nroot\n")
    assert not bad(path)


async def test_a_file_from_another_station_is_told(tmp_path, sound):
    with closing(sqlite3.connect(shutil.copy(sound, tmp_path / "moved.db"))) as connection:
        connection.execute(
            "UPDATE production_order SET uid = '" + "0" * 32 + "', jws = '{}', jws_sha256 = zeroblob(32), "
            "payload_sha256 = zeroblob(32), station_id = 9, not_before = '2026', not_after = '2027', "
            "signed_at = '2999-01-01T00:00:00.000Z'"
        )
        connection.commit()
    told = [finding for finding in examine(tmp_path / "moved.db", station_id=1) if finding.check == "station"]
    assert told[0].level is Level.WARN
    assert "station 9" in told[0].text


async def test_a_drill_says_what_a_restore_would_lose(tmp_path):
    path = tmp_path / "manifest.db"
    with Manifest.open(path) as manifest:
        await manifest.open_order(ORDER)
        await provision(manifest, "A")
        back_up(path, tmp_path / "backup.db")
        assert [finding.level for finding in compare(tmp_path / "backup.db", path)] == [Level.OK]
        await provision(manifest, "B")
        await issue(manifest, SoftBoard("C"))
        await manifest.act(LifeRequest(Act.SCRAP, "A", "r", "a", "u"))
    texts = [finding.text for finding in compare(tmp_path / "backup.db", path)]
    assert "2 units that were seen for the first time" in texts
    assert "1 units that passed" in texts
    assert "2 certificates, which would be out there and not on record" in texts
    assert "1 units that were scrapped, held or replaced" in texts


async def test_a_backup_of_another_manifest_is_refused(tmp_path, sound):
    with Manifest.open(tmp_path / "manifest.db") as manifest:
        await manifest.open_order(ORDER)
    (finding,) = compare(sound, tmp_path / "manifest.db")
    assert (finding.level, "another manifest" in finding.text) == (Level.FAIL, True)


async def test_a_backup_that_went_another_way_is_refused(tmp_path):
    path = tmp_path / "manifest.db"
    with Manifest.open(path) as manifest:
        await manifest.open_order(ORDER)
        back_up(path, tmp_path / "backup.db")
        await begin(manifest, "A")
    with Manifest.open(tmp_path / "backup.db") as manifest:
        await begin(manifest, "B")
    (finding,) = compare(tmp_path / "backup.db", path)
    assert (finding.level, "different ways" in finding.text) == (Level.FAIL, True)


@pytest.mark.parametrize("look", [examine, examine_backup])
def test_a_file_of_an_older_version_is_not_called_damaged(tmp_path, look):
    path = tmp_path / "older.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        migrations.apply(Database(shell, execute_plugins=False), stop_before="schema_6")
        now = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
        shell.execute(f"INSERT INTO station_version (version, schema, since) VALUES ('0', 5, {now})")  # noqa: S608
        shell.execute(f"PRAGMA application_id = {MANIFEST.application_id}")
        shell.execute("PRAGMA user_version = 5")
    *_, last = look(path)
    assert last.level is Level.FAIL  # nobody has looked into it
    assert "written by an older station" in last.text
    assert "nothing says that it is damaged" in last.advice
