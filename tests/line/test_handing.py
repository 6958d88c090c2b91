"""Handing units out, and taking receipts and lists, beside a station that runs on the same manifest."""

import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from station.cli.root import root
from station.errors import ManifestError, StationError
from station.line.asked_book import LIST_ROWS, keep, opened_book
from station.manifest import Manifest, ManifestReader, UnitState
from station.manifest.handing import Lacking


@contextmanager
def at_work(line, *, units):
    """Run a station until so many boards have passed, and go on with it running."""
    process = line.start("run", "--json")
    try:
        passed = 0
        for event in line.events(process):
            passed += event.get("state") == "passed"
            if passed == units:
                break
        yield process
    finally:
        status, stderr = line.finish(process, signal.SIGTERM)
    assert status in {0, -signal.SIGKILL}, stderr


@pytest.fixture(scope="module")
def running(shared_line):
    """A line that has finished its four boards and goes on, for all tests that leave it so."""
    with at_work(shared_line, units=4):
        yield shared_line


def do(line, *arguments):
    """Type a command that needs no token; it has to succeed."""
    config = [] if "verify" in arguments else ["--config", str(line.config)]
    result = CliRunner().invoke(root, [*arguments, *config])
    assert result.exit_code == 0, result.output
    return result.output


def done(process, status=0):
    assert process.returncode == status, process.stdout + process.stderr
    return process.stdout + process.stderr


def test_units_are_handed_out_and_receipts_and_lists_taken_while_the_line_runs(running, monkeypatch):
    monkeypatch.chdir(running.folder)
    export = ("manifest", "export", "aws", "--policy", "devices", "--to", "acme")
    assert "4 units, not signed; export 1 to acme" in do(running, *export, "-o", "one")
    assert "nothing for acme" in do(running, *export, "-o", "two")
    Path("said.csv").write_text("product_serial,result,reason\nSN000001,rejected,no quota\n")
    receipt = ("manifest", "import-receipt", "said.csv", "--export", "1", "--rest", "accepted")
    assert "3 accepted, 1 rejected; 4 new" in do(running, *receipt)
    assert "3 accepted, 1 rejected; 0 new" in do(running, *receipt)
    assert "1 units, not signed; export 2" in do(running, *export, "--which", "rejected", "-o", "two")
    Path("roll.csv").write_text("product_serial,mac\nA1,02:00:00:00:00:01\nA2,02:00:00:00:00:02\n")
    do(running, "manifest", "import-list", "roll.csv", "--name", "ROLL")
    assert "ROLL" in do(running, "manifest", "lists")
    assert "no quota" in do(running, "unit", "show", "SN000001")


def test_the_ledger_verifies_what_the_station_wrote_down_for_others(line):
    with at_work(line, units=1):
        do(line, "manifest", "export", "table", "--to", "erp", "-o", str(line.folder / "out"))
    assert "sound: " in do(
        line, "manifest", "verify", str(line.manifest), "--key", str(line.folder / "ca" / "ledger.pem")
    )


def test_two_exports_at_once_are_not_made(running):
    """Each would draw another passcode for the same units."""
    with opened_book(running.manifest):
        refused = running.station("manifest", "export", "table", "--to", "bank", "-o", "bank")
    assert "stop that command first" in done(refused, 1)
    assert not (running.folder / "bank").exists()


def test_a_station_that_ends_in_the_middle_leaves_an_export_that_does_not_count(line):
    with at_work(line, units=4) as process, opened_book(line.manifest) as book:
        number = book.begin(target="csv", recipient="erp", naming="{product_serial}", units=2, digest=bytes(32))
        process.kill()
        process.wait()
        with pytest.raises(StationError, match="no station runs with"):
            book.hand_out(export_id=number, statement="{}")
    with ManifestReader(line.manifest) as reader:
        assert len(list(reader.export(state=UnitState.PASSED, lacking=Lacking("csv", "erp")))) == 4


def test_a_list_that_would_keep_the_line_waiting_is_refused_with_what_to_do(running):
    rows = "".join(f"S{number}\n" for number in range(LIST_ROWS + 1))
    (running.folder / "roll.csv").write_text(f"product_serial\n{rows}")
    refused = running.station("manifest", "import-list", "roll.csv", "--name", "LONG")
    assert "cut it into several" in done(refused, 1)


def test_a_list_of_the_most_rows_fits_into_one_request(running):
    rows = "".join(f"{'S' * 58}{number:06d},02:00:01:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}\n"
                   for number in range(LIST_ROWS))  # fmt: skip
    (running.folder / "roll.csv").write_text(f"product_serial,mac\n{rows}")
    assert f"{LIST_ROWS} good rows" in done(running.station("manifest", "import-list", "roll.csv", "--name", "MOST"))


def test_a_manifest_that_another_program_has_is_still_refused_with_its_name(line):
    done(line.station("run", "--once"))
    with Manifest.open(line.manifest) as manifest:
        assert manifest.path == line.manifest
        refused = line.station("manifest", "export", "table", "--to", "erp", "-o", "out")
    assert "if another command has the manifest, wait for its end" in done(refused, 1)


WRONG = [
    {"do": "export-begin"},
    {"do": "export-begin", "target": "x", "recipient": "y", "naming": "z", "units": "8", "digest": "00" * 32},
    {"do": "export-begin", "target": "x", "recipient": "y", "naming": "z", "units": 8, "digest": "00"},
    {"do": "export-add", "export": 1, "first": 1, "members": [[1]]},
    {"do": "export-add", "export": True, "first": 1, "members": []},
    {"do": "export-add", "export": 99, "first": 1, "members": [[1, 1]]},
    {"do": "receive", "export": 1, "verdicts": [[1, 1, "perhaps", ""]], "source": "00" * 32},
    {"do": "receive", "export": 1, "verdicts": {}, "source": "00" * 32},
    {"do": "add-list", "name": "x", "rows": [["a"]], "source": "00" * 32},
    {"do": "add-list", "name": 7, "rows": [], "source": "00" * 32},
]


async def test_requests_that_are_wrong_are_refused_and_change_nothing(tmp_path):
    with Manifest.open(tmp_path / "manifest.db") as manifest:
        for wrong in WRONG:
            with pytest.raises((KeyError, TypeError, ValueError, ManifestError)):
                await keep(manifest, wrong)
        assert await keep(manifest, {"do": "dance"}) is None
        with ManifestReader(manifest.path) as reader:
            for table in ("export", "export_unit", "receipt", "list", "list_row"):
                assert list(reader.rows(f"SELECT count(*) FROM {table}")) == [(0,)]  # noqa: S608 - five names
