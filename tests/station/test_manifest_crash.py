"""``kill -9`` at random moments: what was reported is there, whatever else is lost (I1, I5)."""

import contextlib
import random
import subprocess
import sys

import pytest

from station.manifest import Manifest, ManifestReader
from station.manifest.testing import ORDER, begin

PROVISION = """
import asyncio, pathlib, sys
from station.manifest import Manifest
from station.manifest.testing import ORDER, SoftBoard, begin, reserve

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

async def slot(manifest, name):
    for turn in range(1000):
        board = SoftBoard(f"{name}-{turn}")
        unit = await begin(manifest, board.hardware_id)
        intent = await reserve(manifest, board, unit)
        say("reserved", board.hardware_id, intent.product_serial, intent.certificate_serial)
        manifest.event(unit.id, "1", "sign", "done", {})
        recorded = await manifest.record(intent, board.drafts[-1].certificate)
        say("recorded", board.hardware_id, recorded.sha256.hex())
        await manifest.passed(unit.id, board.proof(recorded.der), 3, 1.0)
        say("passed", board.hardware_id)

async def main():
    with Manifest.open(pathlib.Path(sys.argv[1])) as manifest:
        await manifest.open_order(ORDER)
        say("ready")
        await asyncio.gather(*(slot(manifest, f"{sys.argv[2]}-{number}") for number in range(8)))

asyncio.run(main())
"""


def run_and_kill(path, name, lines):
    """Let a station work until it has said so many lines, kill it, and return all it said."""
    with subprocess.Popen(
        [sys.executable, "-c", PROVISION, str(path), name], stdout=subprocess.PIPE, text=True
    ) as station:
        said = [station.stdout.readline() for _ in range(lines)]
        station.kill()
        said += station.stdout.readlines()
    assert said[0] == "ready\n"
    return [line.split() for line in said[1:] if line.endswith("\n")]


def check(path, claims):
    with ManifestReader(path) as reader:
        assert reader._db.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        assert reader._db.execute("PRAGMA foreign_key_check").fetchall() == []
        for verb, hardware_id, *facts in claims:
            found = reader.unit(hardware_id)
            if verb == "reserved":
                serials = [found.unit.product_serial, str(found.unit.issuance.certificate_serial)]
                assert serials == facts
            elif verb == "recorded":
                assert [found.unit.issuance.certificate_sha256.hex()] == facts
            else:
                assert found.unit.state == "passed"
        units = list(reader.units())
        assert reader.orders()[0].reserved == sum(unit.product_serial is not None for unit in units)


@pytest.mark.parametrize("seed", range(3))
async def test_kill_at_random_moments_loses_nothing_that_was_reported(tmp_path, seed):
    path = tmp_path / "manifest.db"
    moments = random.Random(seed)  # noqa: S311  # repeatable, not secret
    claims = []
    for kill in range(4):
        claims += run_and_kill(path, f"run{kill}", moments.randint(2, 300))
        check(path, claims)
    with Manifest.open(path) as manifest:
        await manifest.open_order(ORDER)
        for verb, hardware_id, *_ in claims:
            if verb == "reserved":
                assert (await begin(manifest, hardware_id)).issuance is not None


START = """
import pathlib, sys
from station.manifest import Manifest
print(flush=True)
sys.stdin.read(1)
Manifest.open(pathlib.Path(sys.argv[1])).close()
"""


def test_kill_during_the_first_start_leaves_a_manifest_or_none(tmp_path):
    moments = random.Random(7)  # noqa: S311  # repeatable, not secret
    for kill in range(8):
        path = tmp_path / f"{kill}.db"
        with subprocess.Popen(
            [sys.executable, "-c", START, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, bufsize=0
        ) as station:
            station.stdout.readline()
            station.stdin.write(b"x")
            with contextlib.suppress(subprocess.TimeoutExpired):
                station.wait(moments.uniform(0, 0.02))
            station.kill()
        assert not path.exists() or is_whole(path)
        Manifest.open(path).close()
        assert is_whole(path)


def is_whole(path):
    with ManifestReader(path) as reader:
        return reader.orders() == ()
