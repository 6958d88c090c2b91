"""What can be asked of a manifest."""

import dataclasses
import gc

import pytest

from station.manifest import Manifest, ManifestReader, UnitState
from station.manifest.testing import ORDER, SoftBoard, begin, issue, provision

OTHER = dataclasses.replace(ORDER, name="order-2", serial_format="X{number}")


@pytest.fixture
async def reader(tmp_path):
    """Two passed units of order-1, one of order-2, one failed, one that only has its certificate, one voided once."""
    path = tmp_path / "manifest.db"
    with Manifest.open(path) as manifest:
        await manifest.open_order(ORDER)
        await manifest.open_order(OTHER)
        await provision(manifest, "a")
        await provision(manifest, "b")
        await provision(manifest, "c", order=OTHER.name)
        await manifest.failed((await begin(manifest, "d")).id, "link.no_answer", "silent", "key")
        await issue(manifest, SoftBoard("e"))
        await manifest.void((await issue(manifest, SoftBoard("f"))).issuance_id, "board was erased")
        await issue(manifest, SoftBoard("f"))
    with ManifestReader(path) as opened:
        yield opened


def test_counts_of_states(reader):
    some = {UnitState.OPEN: 2, UnitState.PASSED: 3, UnitState.FAILED: 1}
    assert reader.counts() == dict.fromkeys(UnitState, 0) | some


def test_orders_say_how_far_they_are(reader):
    first, second = reader.orders()
    assert (first.terms, first.reserved, second.terms, second.reserved) == (ORDER, 4, OTHER, 1)
    none = dict.fromkeys(UnitState, 0)
    assert first.units == none | {UnitState.OPEN: 2, UnitState.PASSED: 2, UnitState.FAILED: 1}
    assert second.units == none | {UnitState.PASSED: 1}


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        ({}, "abcdef"),
        ({"limit": 2}, "ab"),
        ({"newest_first": True, "limit": 2}, "fe"),
        ({"state": UnitState.PASSED}, "abc"),
        ({"order": OTHER.name}, "c"),
        ({"state": UnitState.FAILED, "order": ORDER.name}, "d"),
        ({"order": "nobody's"}, ""),
    ],
)
def test_units_by_wish(reader, wish, found):
    assert "".join(unit.hardware_id for unit in reader.units(**wish)) == found


def test_unit_is_found_by_any_of_its_four_identities(reader):
    unit = reader.unit("b").unit
    serial = unit.issuance.certificate_serial
    colons = ":".join(f"{octet:02X}" for octet in serial.to_bytes(16, "big"))
    for identity in (unit.product_serial, f"{serial:x}", f"{serial:040X}", colons, unit.issuance.spki_sha256.hex()):
        assert reader.unit(identity).unit == unit


def test_unit_is_found_by_its_void_certificate(reader):
    void, live = reader.unit("f").issuances
    assert (void.state, live.state) == ("void", "recorded")
    assert reader.unit(f"{void.certificate_serial:x}").unit.hardware_id == "f"


def test_unknown_identity_finds_nothing(reader):
    assert reader.unit("'; DROP TABLE unit; --") is None


def test_events_go_on_after_the_last_one_seen(reader):
    events = list(reader.events())
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert list(reader.events(after=events[-3].id)) == events[-2:]


def test_revocation_list_has_what_was_given_up_only(reader):
    (entry,) = reader.revocation_list()
    assert (entry.hardware_id, entry.order, entry.reason) == ("f", ORDER.name, "board was erased")


def test_export_is_of_passed_units_unless_asked_otherwise(reader):
    assert [unit.hardware_id for unit in reader.export()] == ["a", "b", "c"]
    assert [unit.hardware_id for unit in reader.export(state=None, order=ORDER.name)] == ["a", "b", "d", "e", "f"]


def test_an_iterator_that_is_dropped_after_the_file_was_closed_is_silent(reader):
    units = reader.units()
    next(units)
    reader.close()
    del units  # pytest turns what can't be raised here into an error
    gc.collect()


def test_nothing_can_be_written_through_a_reader(reader):
    with pytest.raises(Exception, match="readonly"):
        reader._db.execute("DELETE FROM event")


def test_large_manifest_is_found_through_indexes(reader):
    """No question about one unit reads a whole table, whatever the size."""
    statements = []
    reader._db.conn.set_trace_callback(statements.append)
    for identity in ("b", f"{1:x}", "00" * 32):
        reader.unit(identity)
    list(reader.revocation_list())
    reader._db.conn.set_trace_callback(None)
    plans = [row[3] for sql in statements for row in reader._db.execute(f"EXPLAIN QUERY PLAN {sql}")]
    assert plans
    assert [plan for plan in plans if plan.startswith("SCAN") and "void_issuance" not in plan] == []
