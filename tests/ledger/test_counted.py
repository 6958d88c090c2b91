"""How far the orders are, as a sealed event: a start goes on from there, and believes no other."""

import sqlite3
from contextlib import closing

import pytest

from station.ledger import counted
from station.ledger import ledger as module
from station.ledger.counted import KIND, STEP, newest_count
from station.ledger.keying import checked_public
from station.manifest import Manifest, ManifestReader
from station.manifest.testing import provision
from station.testing.orders import open_signed, order_of


@pytest.fixture
async def line(tmp_path, ledger_of, monkeypatch, token):
    """A manifest with three units, sealed with a count, and its public key."""
    monkeypatch.setattr(module, "EVERY", 5)
    with closing(Manifest.open(tmp_path / "manifest.db")) as manifest:
        await open_signed(manifest, order_of(quantity=9, scrap_allowance=1))
        ledger = ledger_of(manifest)
        for name in ("first", "second", "third"):
            await provision(manifest, name, order="WO-1")
        ledger.seal("test")
        yield manifest, ledger, checked_public(token.key.public_key())


def count(path, before=None):
    with ManifestReader(path) as reader:
        return reader.count_orders(before)


async def test_a_count_that_goes_on_is_what_counting_all_events_is(line):
    manifest, _, public = line
    await provision(manifest, "fourth", order="WO-1")
    before = newest_count(manifest.path, public)
    assert before.journals["WO-1"].taken == 3
    assert before.through > 0
    assert count(manifest.path, before) == count(manifest.path)
    assert count(manifest.path).journals["WO-1"].taken == 4


async def test_a_unit_that_began_before_the_count_and_took_its_number_after_it_is_counted(line):
    from station.manifest.testing import SoftBoard, begin, reserve  # noqa: PLC0415

    manifest, ledger, public = line
    unit = await begin(manifest, "fourth", order="WO-1")
    for _ in range(6):
        manifest.event(None, "", "open", "note", {})
    ledger.seal("again")
    await reserve(manifest, SoftBoard("fourth"), unit)
    assert newest_count(manifest.path, public).through > 0
    assert count(manifest.path, newest_count(manifest.path, public)).journals["WO-1"].taken == 4


def unguarded(manifest, statement, *parameters):
    manifest.close()
    with closing(sqlite3.connect(manifest.path)) as shell:
        for (name,) in shell.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            shell.execute(f"DROP TRIGGER {name}")
        assert shell.execute(statement, parameters).rowcount
        shell.commit()


def test_a_count_that_was_changed_is_not_believed(line):
    manifest, _, public = line
    unguarded(manifest, "UPDATE event SET facts = replace(facts, '3 0 0', '1 0 0') WHERE kind = ?", KIND)
    assert newest_count(manifest.path, public) is None


def test_a_count_that_nobody_sealed_is_not_believed(line):
    manifest, _, public = line
    sealed = newest_count(manifest.path, public)
    unguarded(
        manifest,
        "INSERT INTO event (at, slot, step, kind, facts) SELECT at, '', ?, ?, replace(facts, '3 0 0', '1 0 0') "
        "FROM event WHERE kind = ?",
        STEP,
        KIND,
        KIND,
    )
    assert newest_count(manifest.path, public) == sealed


def test_a_count_that_another_key_sealed_is_not_believed(line, token):
    manifest, _, _ = line
    from hsm import KeyKind  # noqa: PLC0415

    other = checked_public(token.keys[KeyKind.P256].public_key())
    assert newest_count(manifest.path, other) is None


def test_facts_of_a_count_are_read_as_they_were_written(line):
    found = count(line[0].path)
    assert counted.read_facts(counted.facts_of(found)) == found
