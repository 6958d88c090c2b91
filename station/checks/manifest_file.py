"""What ``station manifest doctor`` and ``restore-drill`` look at: a manifest's file, and what a backup of it has.

Everything here reads. ``doctor`` finds what a disk, a person or a program did to the file; what it can't find (a value
changed by somebody who knows the rules) the ledger does, with its public key: ``station manifest verify``.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from sqlite_utils import Database

from hsm.durable.opening import open_for_reading
from station.checks.findings import Finding, Level, fail, ok, warn
from station.errors import ManifestError
from station.ledger.errors import LedgerError
from station.ledger.verify import SCHEMA_ROWS, Keys, verify
from station.manifest.schema import MANIFEST, migrations

_MAGIC: Final = b"SQLite format 3\x00"
_HEADER: Final = 100
_WAL_MAGICS: Final = (0x377F0682, 0x377F0683)
"""First four bytes of a ``-wal`` (https://www.sqlite.org/fileformat2.html, 4.1)."""

_OLDER: Final = "not examined, and nothing says that it is damaged: a station that starts on it brings it up to date"
_RESTORE: Final = "stop the line, keep the file and its -wal, try the newest backup ('station manifest restore-drill')"
_NOT_THIS: Final = (
    "this backup can't be restored: take an older one, and make a new one now ('station manifest backup')"
)
_FAULTS: Final = 5
"""Lines of one kind that are shown."""


def examine_backup(path: Path, *, station_id: int | None = None, keys: Keys = ()) -> Iterator[Finding]:
    """Examine a copy as ``examine`` does; what is to be done about damage is another matter than with the manifest."""
    for finding in examine(path, station_id=station_id, keys=keys):
        is_damage = finding.level is Level.FAIL and finding.advice == _RESTORE
        yield replace(finding, advice=_NOT_THIS) if is_damage else finding


def examine(path: Path, *, station_id: int | None = None, keys: Keys = ()) -> Iterator[Finding]:
    """Examine the file of a manifest, in the order in which one finding makes the next ones worthless.

    Args:
        path: the manifest; a station may be at work with it.
        station_id: of the station that should have written it; None: not compared.
        keys: who may have signed its checkpoints; none: the ledger is not verified.
    """
    findings = list(_file(path))
    yield from findings
    if any(finding.advice for finding in findings):
        return
    try:
        database, _ = open_for_reading(MANIFEST, path)
    except (ManifestError, sqlite3.Error) as error:
        is_older = isinstance(error, ManifestError) and error.code == "manifest.older"
        yield fail("file", str(error), _OLDER if is_older else _RESTORE)
        return
    with closing(database):
        checks = (_pages, _rules, _events, _digests, _budgets)
        for check in checks:
            try:
                findings = list(check(database.conn))
            except sqlite3.Error as error:
                findings = [fail("pages", f"{path}: can't be read to the end ({error})", _RESTORE)]
            yield from findings
            if check is _pages and any(finding.advice for finding in findings):
                return
        yield from _outside(database.conn, path)
        if station_id is not None:
            yield from _station(database.conn, station_id)
    yield from _ledger(path, keys)


def compare(backup: Path, live: Path) -> Iterator[Finding]:
    """Tell what restoring a backup would lose.

    Args:
        backup: a copy; it was examined before.
        live: the manifest that it would replace.
    """
    if not live.exists():
        yield ok("loss", f"there is no {live} to compare with: the backup loses nothing that is there")
        return
    with ExitStack() as opened:
        files: list[Database] = []
        for path, name in ((backup, "the backup"), (live, str(live))):
            try:
                files.append(opened.enter_context(closing(_reading(path))))
            except (ManifestError, sqlite3.Error) as error:
                why = "" if path == backup else f" ({error})"  # what ails the backup stands above
                yield warn("loss", f"{name} can't be read{why}, so it is not known what the backup lacks", "")
                return
        try:
            yield from _loss(files[0].conn, files[1].conn)
        except sqlite3.Error as error:
            yield warn("loss", f"the two can't be compared to the end ({error})", "")


def _reading(path: Path) -> Database:
    return open_for_reading(MANIFEST, path)[0]


def _file(path: Path) -> Iterator[Finding]:
    """Look at the first bytes, the length, and the files beside it."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
        size = path.stat().st_size
    except OSError as error:
        yield fail("file", f"{path}: {error.strerror}", "check the path, owner and mode")
        return
    if not header.startswith(_MAGIC) or len(header) < _HEADER:
        yield fail("file", f"{path}: its first bytes are not those of a SQLite file", _RESTORE)
        return
    page = int.from_bytes(header[16:18], "big") or 0
    page = 65536 if page == 1 else page
    pages, is_current = int.from_bytes(header[28:32], "big"), header[24:28] == header[92:96]
    wal = path.with_name(path.name + "-wal")
    if page and is_current and pages * page > size and not (wal.exists() and wal.stat().st_size):
        text = f"{path}: {size} bytes, and its header says {pages * page}: it is cut off"
        yield fail("length", text, _RESTORE)
        return
    yield ok("file", f"{path}: {size} bytes, {pages} pages")
    if wal.exists() and wal.stat().st_size:
        with wal.open("rb") as file:
            begin = file.read(4)
        if int.from_bytes(begin, "big") not in _WAL_MAGICS:
            yield fail("wal", f"{wal}: its first bytes are not those of a -wal; rows that lay in it are lost", _RESTORE)
        else:
            yield ok("wal", f"{wal.stat().st_size} bytes wait in -wal; it is part of the manifest")


def _pages(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Let SQLite look at each page, index and constraint."""
    faults = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({_FAULTS})")]
    orphans = list(connection.execute("PRAGMA foreign_key_check"))[:_FAULTS]
    faults += [f"row {row[1]} of {row[0]} names a row of {row[2]} that is not there" for row in orphans]
    if faults != ["ok"]:
        for fault in faults:
            if fault != "ok":
                yield fail("pages", fault, _RESTORE)
    else:
        yield ok("pages", "every page, index and constraint is sound")


def _rules(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Compare tables, indexes and triggers with those that this version makes."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        migrations.apply(Database(fresh, execute_plugins=False))
        expected = {f"{kind} {name}": sql for kind, name, sql in fresh.execute(SCHEMA_ROWS)}
    found = {f"{kind} {name}": sql for kind, name, sql in connection.execute(SCHEMA_ROWS)}
    for what, names in (
        ("is missing", expected.keys() - found.keys()),
        ("is not ours", found.keys() - expected.keys()),
        ("is not as this version makes it", {name for name in found if found[name] != expected.get(name, found[name])}),
    ):
        for name in sorted(names):
            yield fail("rules", f"{name} {what}: some program changed the rules of this file", _RESTORE)
    if found == expected:
        yield ok("rules", f"all {sum(name.startswith('trigger') for name in expected)} rules are in place")


def _events(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Look for gaps, and for times that go back."""
    count, last = connection.execute("SELECT count(*), coalesce(max(id), 0) FROM event").fetchone()
    if count != last:
        yield fail("events", f"{last - count} of {last} events are missing", _RESTORE)
        return
    sql = "SELECT id FROM (SELECT id, at, lag(at) OVER (ORDER BY id) AS before FROM event) WHERE at < before LIMIT 1"
    back = connection.execute(sql).fetchone()
    if back is not None:
        yield fail("events", f"event {back[0]} is older than the one before it", _RESTORE)
    else:
        yield ok("events", f"{count} without a gap, in the order of time")


def _digests(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Compare what was signed, and what came of it, with their digests."""
    count = faults = 0
    for number, tbs, tbs_sha256, certificate, sha256 in connection.execute(
        "SELECT id, tbs, tbs_sha256, certificate, certificate_sha256 FROM issuance"
    ):
        count += 1
        is_whole = hashlib.sha256(tbs).digest() == tbs_sha256
        is_whole = is_whole and (certificate is None or hashlib.sha256(certificate).digest() == sha256)
        if not is_whole:
            faults += 1
            if faults <= _FAULTS:
                yield fail("certificates", f"issuance {number} is not what its digests say", _RESTORE)
    if not faults:
        yield ok("certificates", f"{count} issuances are what their digests say")


def _budgets(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Count what orders gave."""
    faults = 0
    for name, taken, holders in connection.execute(
        "SELECT name, reserved + returned, (SELECT count(*) FROM unit WHERE order_id = production_order.id AND "
        "product_serial IS NOT NULL) + (SELECT count(*) FROM desk_serial WHERE order_id = production_order.id) "
        "FROM production_order ORDER BY id"
    ):
        if taken != holders:
            faults += 1
            yield fail("orders", f"{name}: its row says {taken} serials, and {holders} are held", _RESTORE)
    if not faults:
        yield ok("orders", "each order gave as many serials as are held")


def _outside(connection: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    """Compare with the checkpoint that lies beside the file: a ``-wal`` that was removed took its rows along."""
    note = path.with_name(path.name + ".checkpoint")
    try:
        size = int(note.read_text("utf-8").split("\n")[1])
    except FileNotFoundError:
        yield ok("checkpoint", f"no {note.name} beside it to compare with")
        return
    except (OSError, ValueError, IndexError):
        yield warn("checkpoint", f"{note} can't be read as a checkpoint", "see docs/ledger.md")
        return
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()
    if last < size:
        yield fail(
            "checkpoint",
            f"{size - last} events are gone that were sealed: {note.name} tells of {size}, and there are {last}. The"
            " -wal was removed, or this is an older copy",
            "put the -wal back, or the newest copy; see docs/ledger.md on accepting a loss",
        )
    else:
        yield ok("checkpoint", f"all {size} events that {note.name} tells of are there")


def _station(connection: sqlite3.Connection, station_id: int) -> Iterator[Finding]:
    """Tell whose it is."""
    orders = connection.execute(
        "SELECT name, station_id FROM production_order WHERE station_id IS NOT NULL AND station_id <> ?", (station_id,)
    ).fetchall()
    for name, other in orders[:_FAULTS]:
        yield warn(
            "station",
            f"order {name} here is the share of station {other}, and this is station {station_id}: the file was copied"
            " from there",
            "units that were begun are finished here; new ones need an order for this station",
        )
    if not orders:
        yield ok("station", f"its orders are those of station {station_id}")


def _ledger(path: Path, keys: Keys) -> Iterator[Finding]:
    if not keys:
        yield ok("ledger", "not verified: no key was named ('station manifest verify' does it)")
        return
    try:
        verdict = verify(path, keys)
    except (LedgerError, ManifestError) as error:
        is_key = error.code == "ledger.note_unknown_key"  # the text says what to do
        yield fail("ledger", str(error), "" if is_key else _RESTORE)
        return
    for damage in verdict.damages[:_FAULTS]:
        yield fail("ledger", str(damage), _RESTORE)
    if verdict.damage_count > _FAULTS:
        yield fail("ledger", f"{verdict.damage_count} differences in all", "'station manifest verify' lists them")
    if not verdict.damage_count:
        text = f"{verdict.sealed} of {verdict.events} events are sealed by {verdict.checkpoints} checkpoints"
        yield ok("ledger", text) if verdict.checkpoints else warn("ledger", text, "name the right key")


def _loss(copy: sqlite3.Connection, now: sqlite3.Connection) -> Iterator[Finding]:
    (mine,) = copy.execute("SELECT uuid FROM manifest_identity").fetchone()
    (theirs,) = now.execute("SELECT uuid FROM manifest_identity").fetchone()
    if mine != theirs:
        yield fail("loss", "the backup is of another manifest", "take a backup of this one")
        return
    last = "SELECT id, at, step, kind, facts FROM event ORDER BY id DESC LIMIT 1"
    same = "SELECT id, at, step, kind, facts FROM event WHERE id = ?"
    mine, theirs = copy.execute(last).fetchone() or (0, ""), now.execute(last).fetchone() or (0, "")
    if mine[0] and now.execute(same, (mine[0],)).fetchone() != mine:
        yield fail(
            "loss",
            "backup and manifest went different ways: their events differ",
            "one of them was written after a restore; keep both, and call the security officer",
        )
        return
    if mine[0] >= theirs[0]:
        yield ok("loss", "nothing: the backup has every event of the manifest")
        return
    yield warn("loss", f"{theirs[0] - mine[0]} events, from {mine[1] or 'the beginning'} to {theirs[1]}", "")
    for what, sql in _COUNTED.items():
        (before,), (after,) = copy.execute(sql).fetchone(), now.execute(sql).fetchone()
        if after > before:
            yield warn("loss", f"{after - before} {what}", "")


_COUNTED: Final = {
    "units that were seen for the first time": "SELECT count(*) FROM unit",
    "units that passed": "SELECT count(*) FROM proof",
    "certificates, which would be out there and not on record": "SELECT count(*) FROM issuance",
    "units that were scrapped, held or replaced": "SELECT count(*) FROM life_act",
}
