"""Schema 6: burned numbers and suspended orders can't be made up, and a hardware id is one board's in any case."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest
from sqlite_utils import Database

from station.manifest import Manifest, ManifestReader, RowRefused
from station.manifest.order_operations import suspend_orders
from station.manifest.schema import MANIFEST, migrations
from station.manifest.testing import SoftBoard, begin, issue, reserve
from station.testing.orders import open_signed, order_of


@pytest.fixture
async def manifest(tmp_path):
    with Manifest.open(tmp_path / "manifest.db") as opened:
        await open_signed(opened, order_of(quantity=5, scrap_allowance=1))
        yield opened


async def decide(manifest, burned):
    await manifest.resume_order("WO-1", burned=burned, reason="ticket 88", actor="R. Vogel", os_user="root")


async def test_burned_numbers_are_passed_over_and_take_budget(manifest):
    await issue(manifest, SoftBoard("first"), order="WO-1")
    await decide(manifest, 3)
    unit = await begin(manifest, "second", order="WO-1")
    assert (await reserve(manifest, SoftBoard("second"), unit)).product_serial == "SN000005"
    with pytest.raises(Exception, match="would be number 6 of 5, of which 3 were burned"):
        await issue(manifest, SoftBoard("third"), order="WO-1")


async def test_a_suspended_order_gives_no_number_until_somebody_decides(manifest):
    await manifest.perform(partial(suspend_orders, reason="an older copy"))
    unit = await begin(manifest, "first", order="WO-1")
    with pytest.raises(RowRefused) as caught:
        await reserve(manifest, SoftBoard("first"), unit)
    assert caught.value.code == "manifest.order_suspended"
    await decide(manifest, 0)
    assert (await reserve(manifest, SoftBoard("first"), unit)).product_serial == "SN000001"


async def test_an_order_that_nobody_signed_yet_waits_too(tmp_path):
    signed = order_of(quantity=5)
    with Manifest.open(tmp_path / "manifest.db") as manifest:
        terms = signed.terms(next(iter(signed.stations)), jws="{}", payload_sha256=bytes(32))
        await manifest.open_order(replace(terms, seal=None))
        assert await manifest.perform(partial(suspend_orders, reason="an older copy")) == ["WO-1"]
        await open_signed(manifest, signed)
        unit = await begin(manifest, "first", order="WO-1")
        with pytest.raises(RowRefused) as caught:
            await reserve(manifest, SoftBoard("first"), unit)
        assert caught.value.code == "manifest.order_suspended"


@pytest.mark.parametrize("burned", [0, 7])
async def test_nothing_is_decided_that_there_is_not(manifest, burned):
    with pytest.raises(RowRefused) as caught:
        await decide(manifest, burned)
    assert caught.value.code == "manifest.order_resume"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE production_order SET burned = 2",
        "UPDATE production_order SET suspended_at = NULL, suspended_reason = NULL",
        "UPDATE production_order SET suspended_reason = 'x'",
        "DELETE FROM order_resume",
        "UPDATE order_resume SET burned = 0",
        "INSERT OR REPLACE INTO order_resume SELECT * FROM order_resume",
    ],
)
async def test_no_program_decides_by_the_way(manifest, statement):
    await decide(manifest, 1)
    await asyncio.sleep(0.002)  # a decision is for what was suspended before it, or in the same millisecond
    await manifest.perform(partial(suspend_orders, reason="an older copy"))
    with closing(sqlite3.connect(manifest.path)) as shell, pytest.raises(sqlite3.IntegrityError, match="manifest\\."):
        shell.execute(statement)


async def test_the_same_hardware_id_in_another_case_is_the_same_board(manifest):
    first = await begin(manifest, "AB12", order="WO-1")
    again = await begin(manifest, "ab12", order="WO-1")
    assert (again.id, again.hardware_id, again.attempts) == (first.id, "AB12", 2)
    with ManifestReader(manifest.path) as reader:
        assert reader.unit("aB12").unit.id == first.id


async def test_no_program_gives_a_hardware_id_in_another_case_a_row(manifest):
    await begin(manifest, "AB12", order="WO-1")
    with closing(sqlite3.connect(manifest.path)) as shell:
        columns = ", ".join(row[1] for row in shell.execute("PRAGMA table_info(unit)"))
        values = columns.replace("id, hardware_id", "NULL, 'ab12'", 1)
        with pytest.raises(sqlite3.IntegrityError, match="duplicate_hardware"):
            shell.execute(f"INSERT INTO unit ({columns}) SELECT {values} FROM unit")  # noqa: S608


async def test_a_file_from_before_keeps_both_of_a_pair_and_each_goes_on(tmp_path):
    path = tmp_path / "older.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as shell:
        migrations.apply(Database(shell, execute_plugins=False), stop_before="schema_6")
        now = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
        shell.execute(
            "INSERT INTO production_order (name, product, profile, quantity, serial_format, first_number, opened_at) "  # noqa: S608
            f"VALUES ('WO-1', 'm', 'idevid', 5, 'SN{{number}}', 1, {now})"
        )
        for name in ("AB12", "ab12"):
            shell.execute(
                "INSERT INTO unit (hardware_id, order_id, model, firmware_version, firmware_sha256, state, attempts, "  # noqa: S608
                f"slot, first_seen_at, changed_at) VALUES (?, 1, 'm', '1', zeroblob(32), 'open', 1, '1', {now}, {now})",
                (name,),
            )
        shell.execute(f"INSERT INTO station_version (version, schema, since) VALUES ('0', 5, {now})")  # noqa: S608
        shell.execute(f"PRAGMA application_id = {MANIFEST.application_id}")
        shell.execute("PRAGMA user_version = 5")
    with Manifest.open(path) as manifest:
        assert [(await begin(manifest, name, order="WO-1")).hardware_id for name in ("AB12", "ab12")] == [
            "AB12",
            "ab12",
        ]
        with ManifestReader(path) as reader:
            assert [unit.attempts for unit in reader.units()] == [2, 2]
