"""What is opened, what is refused, and that a refusal changes nothing."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hsm.durable import program_version
from station.errors import ManifestError
from station.manifest import (
    Manifest,
    ManifestLocked,
    ManifestReader,
    ManifestUnwritable,
    NewerManifest,
    NotAManifest,
)
from station.manifest.schema import SCHEMA
from station.manifest.testing import ORDER, provision

NOBODY = 65534


@pytest.fixture
async def path(tmp_path):
    """A manifest with one passed unit, closed."""
    file = tmp_path / "manifest.db"
    await fill(file)
    return file


async def fill(file: Path):
    with Manifest.open(file) as manifest:
        await manifest.open_order(ORDER)
        await provision(manifest, "board-1")


@pytest.fixture
def shut():
    """A folder that an ordinary user can read and not write; the test is that user, even where it runs as root."""
    folder = Path(tempfile.mkdtemp(prefix="shut-"))
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@contextlib.contextmanager
def ordinary_user(folder: Path):
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def contents(folder: Path):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def make_newer(path: Path):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
        connection.execute(
            "INSERT INTO station_version (version, schema, since) VALUES ('99.1', 2, '2999-01-01T00:00:00.000Z')"
        )


def one_line(error: ManifestError) -> str:
    line = str(error)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("opened", [Manifest.open, ManifestReader])
def test_manifest_of_a_newer_version_says_which_and_stays_as_it_is(path, opened):
    make_newer(path)
    before = contents(path.parent)
    with pytest.raises(NewerManifest) as refused:
        opened(path)
    assert "written by station 99.1; install that or newer" in one_line(refused.value)
    assert contents(path.parent) == before


@pytest.mark.parametrize("opened", [Manifest.open, ManifestReader])
@pytest.mark.parametrize("content", [b"product_serial,hardware_id\n", b"SQLite format 3\x00" + bytes(84)])
def test_file_that_is_no_manifest_is_refused_and_stays_alone(tmp_path, opened, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(NotAManifest) as refused:
        opened(path)
    assert "give" in one_line(refused.value)
    assert contents(tmp_path) == {"notes.txt": content}


@pytest.mark.parametrize("opened", [Manifest.open, ManifestReader])
def test_database_of_another_program_is_refused(tmp_path, opened):
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipe (name TEXT)")
    with pytest.raises(NotAManifest, match="not a manifest of ours"):
        opened(path)
    assert list(contents(tmp_path)) == ["other.db"]


def test_damaged_manifest_is_refused(path):
    page = 4096
    with path.open("r+b") as file:
        file.seek(page)
        file.write(os.urandom(4 * page))
    with pytest.raises(NotAManifest) as refused:
        Manifest.open(path)
    assert refused.value.code == "manifest.damaged"


def test_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(ManifestUnwritable, match="no such folder; make it first"):
        Manifest.open(tmp_path / "missing" / "manifest.db")


def test_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(ManifestUnwritable, match="can't be read"):
        Manifest.open(tmp_path)


def test_empty_file_becomes_a_manifest(tmp_path):
    path = tmp_path / "manifest.db"
    path.touch()
    Manifest.open(path).close()
    with ManifestReader(path) as reader:
        assert reader.orders() == ()


def test_missing_file_is_not_made_by_a_reader(tmp_path):
    with pytest.raises(NotAManifest, match="no manifest there"):
        ManifestReader(tmp_path / "manifest.db")
    assert contents(tmp_path) == {}


def test_leftover_of_an_interrupted_start_is_no_obstacle(tmp_path):
    (tmp_path / "manifest.db.new").write_bytes(b"half")
    Manifest.open(tmp_path / "manifest.db").close()
    assert sorted(contents(tmp_path)) == ["manifest.db", "manifest.db.lock"]


def test_closed_manifest_is_one_file_and_its_lock(path):
    assert sorted(contents(path.parent)) == ["manifest.db", "manifest.db.lock"]


def test_version_that_wrote_is_noted_once(path):
    Manifest.open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version, schema FROM station_version").fetchall() == [
            (program_version(), SCHEMA)
        ]


def test_commits_are_durable_by_their_settings(path):
    with Manifest.open(path) as manifest:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "recursive_triggers")
        assert [manifest._db.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in pragmas] == ["wal", 2, 1, 1]


def test_second_station_is_refused_and_told_the_process(path):
    code = f"from station.manifest import Manifest; import pathlib; Manifest.open(pathlib.Path({str(path)!r})); input()"
    with subprocess.Popen([sys.executable, "-c", f"{code}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        lock = path.with_name("manifest.db.lock")
        while lock.read_text() != f"{other.pid}\n":
            assert other.poll() is None
        with pytest.raises(ManifestLocked, match=f"process {other.pid} writes to it") as refused:
            Manifest.open(path)
        one_line(refused.value)
        other.communicate(b"\n")
    Manifest.open(path).close()


def test_lock_holds_through_another_name_of_the_file(path, tmp_path):
    (tmp_path / "link.db").symlink_to(path)
    with Manifest.open(path), pytest.raises(ManifestLocked):
        Manifest.open(tmp_path / "link.db")


def test_a_file_with_a_second_name_is_refused_under_either(path, tmp_path):
    (tmp_path / "link.db").hardlink_to(path)
    for name in (path, tmp_path / "link.db"):
        with pytest.raises(ManifestUnwritable, match="second name") as refused:
            Manifest.open(name)
        one_line(refused.value)
        assert refused.value.code == "manifest.linked"
    (tmp_path / "link.db").unlink()
    Manifest.open(path).close()


async def test_a_deleted_lock_stops_the_writer_and_not_the_one_that_came_after(path):
    with Manifest.open(path) as first:
        path.with_name("manifest.db.lock").unlink()
        with Manifest.open(path) as second:
            with pytest.raises(ManifestUnwritable, match="another station may write too") as refused:
                await provision(first, "board-2")
            assert refused.value.code == "manifest.gone"
            await provision(second, "board-3")


async def test_a_lock_that_was_deleted_stops_the_writer_though_nobody_came(path):
    with Manifest.open(path) as manifest:
        path.with_name("manifest.db.lock").unlink()
        with pytest.raises(ManifestUnwritable, match="lock: was deleted"):
            await provision(manifest, "board-2")


def test_refused_open_leaves_no_lock_behind(path):
    make_newer(path)
    for _ in range(2):
        with pytest.raises(NewerManifest):
            Manifest.open(path)


async def test_read_only_folder_is_refused(shut):
    await fill(shut / "manifest.db")
    before = contents(shut)
    with ordinary_user(shut), pytest.raises(ManifestUnwritable, match="is read-only; give write access") as refused:
        Manifest.open(shut / "manifest.db")
    assert refused.value.code == "manifest.read_only"
    assert contents(shut) == before


def test_read_only_folder_without_a_manifest_is_refused(shut):
    with ordinary_user(shut), pytest.raises(ManifestUnwritable, match="is read-only"):
        Manifest.open(shut / "manifest.db")
    assert contents(shut) == {}


async def test_copy_in_a_read_only_folder_is_read(shut):
    await fill(shut / "manifest.db")
    with ordinary_user(shut), ManifestReader(shut / "manifest.db") as reader:
        assert reader.unit("board-1").unit.state == "passed"


async def test_copy_with_pending_rows_in_a_read_only_folder_is_refused(shut, path):
    with Manifest.open(path) as manifest:
        await provision(manifest, "board-2")
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", shut)
    with ordinary_user(shut), pytest.raises(ManifestUnwritable) as refused:
        ManifestReader(shut / "manifest.db")
    assert refused.value.code == "manifest.read_only"
    one_line(refused.value)


async def test_copy_with_pending_rows_is_read_whole(tmp_path, path):
    copy = tmp_path / "copy"
    copy.mkdir()
    with Manifest.open(path) as manifest:
        await provision(manifest, "board-2")
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", copy)
    with ManifestReader(copy / "manifest.db") as reader:
        assert reader.unit("board-2").unit.state == "passed"


def test_reader_makes_no_file(path):
    before = contents(path.parent)
    with ManifestReader(path) as reader:
        reader.counts()
        assert contents(path.parent) == before
    assert contents(path.parent) == before


async def test_reader_sees_what_the_daemon_commits(path):
    with Manifest.open(path) as manifest, ManifestReader(path) as reader:
        assert reader.counts()["passed"] == 1
        await provision(manifest, "board-2")
        assert reader.counts()["passed"] == 2


async def test_reader_of_a_quiet_file_notices_that_a_station_wrote(path):
    with ManifestReader(path) as reader:
        units = reader.units()
        next(units)
        with Manifest.open(path) as manifest:
            await provision(manifest, "board-2")
        with pytest.raises(ManifestUnwritable, match="read it again"):
            list(units)


async def test_reader_does_not_keep_the_station_from_stopping(path):
    with ManifestReader(path):
        manifest = Manifest.open(path)
        with ManifestReader(path) as reader:
            next(reader.units())
            manifest.close()
    Manifest.open(path).close()
