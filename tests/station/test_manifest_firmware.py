"""Which bundles a line worked by: what the manifest keeps, refuses, and never forgets."""

import contextlib
import itertools
import sqlite3

import pytest

from firmware_tools.version import Version
from station.manifest import FirmwareRelease, Manifest, ManifestReader, RowRefused
from station.manifest.firmware import rank_of
from station.manifest.testing import ORDER, begin

VERSIONS = (
    *("1.0.0-1", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc"),
    *("1.0.0-rc.1", "1.0.0-rc-x", "1.0.0", "1.0.0+1", "1.0.0+10", "1.0.1-a+3", "1.2.0", "10.0.0"),
)


def release(version, product="sensor", digest=b"b"):
    return FirmwareRelease(product, Version.parse(version), digest * 32)


@pytest.fixture
def manifest(tmp_path):
    with Manifest.open(tmp_path / "manifest.db") as manifest:
        yield manifest


def rows(manifest):
    with ManifestReader(manifest.path) as reader:
        return [(row.version, row.reason) for row in reader.firmware()]


def test_ranks_sort_as_versions_do():
    for one, two in itertools.permutations(map(Version.parse, VERSIONS), 2):
        assert (rank_of(one) < rank_of(two)) is (one < two), (one, two)


async def test_a_bundle_is_written_down_once_however_often_the_line_starts(manifest):
    assert await manifest.take_up(release("1.0.0"))
    assert not await manifest.take_up(release("1.0.0"))
    assert rows(manifest) == [("1.0.0", "")]


async def test_an_older_version_is_refused_and_nothing_is_written(manifest):
    await manifest.take_up(release("1.2.0"))
    with pytest.raises(RowRefused) as caught:
        await manifest.take_up(release("1.1.0", digest=b"c"))
    assert caught.value.code == "manifest.rollback"
    assert rows(manifest) == [("1.2.0", "")]


async def test_an_older_version_comes_back_for_a_reason_and_stays_for_it(manifest):
    await manifest.take_up(release("1.2.0"))
    assert await manifest.take_up(release("1.1.0", digest=b"c"), "lost its radio")
    assert not await manifest.take_up(release("1.1.0", digest=b"c"), "lost its radio")
    with pytest.raises(RowRefused):  # the reason was taken out of the configuration
        await manifest.take_up(release("1.1.0", digest=b"c"))
    assert rows(manifest) == [("1.2.0", ""), ("1.1.0", "lost its radio")]


async def test_a_reason_is_kept_only_where_it_was_needed(manifest):
    await manifest.take_up(release("1.2.0"), "just in case")
    assert rows(manifest) == [("1.2.0", "")]


async def test_products_do_not_stand_in_each_others_way(manifest):
    await manifest.take_up(release("2.0.0"))
    await manifest.take_up(release("1.0.0", product="pump", digest=b"c"))
    with ManifestReader(manifest.path) as reader:
        assert reader.newest_firmware("pump") == (rank_of(Version.parse("1.0.0")), "1.0.0")
        assert reader.newest_firmware("lamp") is None


async def test_each_row_is_an_event(manifest):
    await manifest.take_up(release("1.0.0"))
    with ManifestReader(manifest.path) as reader:
        facts = [row[0] for row in reader.rows("SELECT facts FROM event WHERE step = 'firmware'")]
    assert len(facts) == 1
    assert (b"b" * 32).hex() in facts[0]


ATTACKS = {
    "changed": "UPDATE firmware SET version = '9.9.9'",
    "deleted": "DELETE FROM firmware",
    "replaced": "REPLACE INTO firmware SELECT * FROM firmware",
    "an older one without a reason": "INSERT INTO firmware (product, version, rank, bundle_sha256, reason, at) "
    "SELECT product, '0.1.0', '0', zeroblob(32), '', at FROM firmware",
    "no digest": "INSERT INTO firmware (product, version, rank, bundle_sha256, reason, at) "
    "SELECT product, version, rank, x'00', '', at FROM firmware",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_a_row_never_changes_whoever_asks(manifest, attack):
    await manifest.take_up(release("1.0.0"))
    shell = sqlite3.connect(manifest.path, isolation_level=None)
    with contextlib.closing(shell), pytest.raises(sqlite3.IntegrityError):
        shell.execute(attack)
    assert rows(manifest) == [("1.0.0", "")]


async def test_a_known_unit_is_looked_up_in_any_case_without_counting_a_visit(manifest):
    assert await manifest.known("A1") is None
    await manifest.open_order(ORDER)
    await begin(manifest, "a1")
    assert (await manifest.known("A1")).hardware_id == "a1"
    assert (await manifest.known("a1")).attempts == 1
