"""Nothing in the way of a unit reads a whole table; ``./run bench scale`` measures what that means for a million."""

import sqlite3

import pytest
from bench.big_manifest import fill

from station.manifest import Manifest, ManifestReader, UnitState
from station.manifest.testing import ORDER, SoftBoard, begin, issue, reserve

FEW = {"production_order", "station_version", "manifest_identity"}
"""Tables that have a handful of rows at the most: reading all of them is reading little."""


async def way_of_units(manifest, first, second):
    """All that the line does to rows: a pass, a failure, a resumption, an issuance given up."""
    board = SoftBoard(first)
    recorded = await issue(manifest, board)
    await manifest.passed(recorded.unit_id, board.proof(recorded.der), 3, 1.5)
    await begin(manifest, first)
    other = SoftBoard(second)
    intent = await reserve(manifest, other, await begin(manifest, second))
    await manifest.attempt(intent.issuance_id)
    await manifest.failed(intent.unit_id, "link.no_answer", "silent", "issue")
    await begin(manifest, second)
    await manifest.void(intent.issuance_id, "the board was erased")
    recorded = await issue(manifest, other)
    await manifest.recorded(recorded.issuance_id)
    manifest.event(recorded.unit_id, "1", "key", "done", {"ms": 3})
    await manifest.answer()


def scans(connection, statement):
    """Return what of a statement's plan reads a whole table, small ones aside."""
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    return [step for step in plan if step.startswith("SCAN") and step.split()[1] not in FEW | {"CONSTANT"}]


async def test_no_statement_in_the_way_of_a_unit_reads_a_whole_table(tmp_path):
    path, statements = tmp_path / "manifest.db", []
    with Manifest.open(path) as manifest:
        await manifest.open_order(ORDER)
        await way_of_units(manifest, "a", "b")  # once unseen, so that nothing of the start is among them
        manifest._db.conn.set_trace_callback(statements.append)
        await way_of_units(manifest, "c", "d")
        manifest._db.conn.set_trace_callback(None)
    asked = {text for text in statements if text.split()[0] in {"SELECT", "INSERT", "UPDATE", "WITH"}}
    assert len(asked) > 20
    with sqlite3.connect(path) as connection:
        found = {text[:120]: scanned for text in asked if (scanned := scans(connection, text))}
    connection.close()
    assert found == {}


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A manifest as the benchmarks make it, and what its units are found by."""
    path = tmp_path_factory.mktemp("big") / "manifest.db"
    units = fill(path, 600)
    with ManifestReader(path) as reader:
        yield reader, units


@pytest.mark.parametrize("number", [0, 499, 599])
def test_a_unit_of_the_big_manifest_is_found_by_each_of_its_identities(big, number):
    reader, units = big
    unit = units(number)
    spelled = [unit.hardware_id, unit.product_serial, unit.spki_sha256.hex(), f"{unit.certificate_serial:x}"]
    assert {reader.unit(identity).unit.hardware_id for identity in spelled} == {unit.hardware_id}


def test_the_big_manifest_is_one_that_a_line_could_have_written(big):
    reader, units = big
    assert reader.counts()[UnitState.PASSED] == units.count
    assert len(list(reader.revocation_list())) == 1
    assert next(reader.rows("PRAGMA integrity_check")) == ("ok",)
    assert list(reader.rows("PRAGMA foreign_key_check")) == []
    assert [event.id for event in reader.events()] == list(range(1, 1 + sum(1 for _ in reader.events())))


def test_names_of_orders_are_read_without_their_units(big):
    reader, _ = big
    assert reader.order_names() == ("BIG",)
