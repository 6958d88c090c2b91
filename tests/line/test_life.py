"""Life after the pass on a whole line: commands beside the running station, CRLs, real boards, and a second station."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509

from hsm.revocation import read_crl
from station.cli.root import root
from station.config import load
from station.events import SlotState
from station.line.daemon import run_line
from station.manifest import ManifestReader, UnitState

STATION = Path(sys.executable).with_name("station")


def units(line):
    with ManifestReader(line.manifest) as reader:
        return {unit.product_serial: reader.unit(unit.hardware_id) for unit in reader.units()}


def on_list(line):
    """Publish, and return the reasons by certificate serial."""
    assert line.station("ca", "crl", "publish", "crl").returncode == 0
    found = read_crl(line.folder / "crl" / "full.crl")
    return {
        entry.serial_number: entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
        for entry in found
    }


def done(process):
    assert process.returncode == 0, process.stderr
    return process.stdout


def do(line, *arguments):
    """Type a command that needs no token; it has to succeed."""
    result = CliRunner().invoke(root, [*arguments, "--config", str(line.config)])
    assert result.exit_code == 0, result.output
    return result.stdout


async def cut_off_at(line, board, step):
    """Serve one board until it comes to a step, pull its cable there, and return its unit."""
    line.name_slots([board.port])

    def pull(event):
        if getattr(event, "step", "") == step:
            board.unplug()

    await run_line(load(line.config), once=True, watch=pull)
    (begun,) = units(line).values()
    return begun


@pytest.fixture(scope="module")
def finished_folder(tmp_path_factory, pristine, device_build):
    """A line whose four boards passed; nobody changes it."""
    folder = tmp_path_factory.mktemp("finished") / "line"
    copy_line(pristine, folder)
    shutil.copytree(device_build, folder / "boards" / "build")
    subprocess.run([STATION, "run", "--once"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def finished(line, finished_folder):
    """A line of its own whose four boards passed."""
    shutil.rmtree(line.folder)
    copy_line(finished_folder, line.folder)
    return line


def copy_line(source, target):
    shutil.copytree(source, target, symlinks=True)
    for path in (target / "station.toml", target / "tokens" / "softhsm2.conf"):  # they name their folder
        path.write_text(path.read_text().replace(str(source), str(target)))


def test_each_act_reaches_the_revocation_list(finished):
    serials = {name: history.unit.issuance.certificate_serial for name, history in units(finished).items()}
    do(finished, "unit", "scrap", "SN000001", "--reason", "fell")
    do(finished, "unit", "rma", "SN000002", "--reason", "customer")
    do(finished, "unit", "replace", "SN000003", "--by", "SN000004", "--reason", "dead flash")
    assert on_list(finished) == {
        serials["SN000001"]: "cessationOfOperation",
        serials["SN000002"]: "certificateHold",
        serials["SN000003"]: "superseded",
    }
    do(finished, "unit", "release", "SN000002", "--reason", "nothing found")
    assert serials["SN000002"] not in on_list(finished)
    assert "SN000002" in do(finished, "manifest", "export", "csv")


def test_an_act_that_could_not_reach_the_journal_reaches_it_with_the_next_list(finished):
    serial = units(finished)["SN000001"].unit.issuance.certificate_serial
    journal = finished.folder / "ca" / "ca.db"
    journal.unlink(missing_ok=True)
    journal.write_bytes(b"something else")
    cut = finished.station("unit", "scrap", "SN000001", "--reason", "fell")
    assert (cut.returncode, "on record in the manifest" in cut.stderr) == (1, True)
    assert "Traceback" not in cut.stderr
    journal.unlink()
    assert on_list(finished) == {serial: "cessationOfOperation"}


def test_acts_go_through_the_station_that_runs(line):
    with line.start("run", "--json") as process:
        passed = set()
        for event in line.events(process):
            if event.get("state") == "passed":
                passed.add(event["product_serial"])
            if len(passed) == 4:
                break
        told = json.loads(
            done(line.station("unit", "scrap", "SN000002", "--reason", "fell", "--actor", "alice", "--json"))
        )
        refused = line.station("unit", "scrap", "SN000002", "--reason", "again")
        closed = done(line.station("order", "close", "WO-0001", "--reason", "delivered", "--actor", "alice"))
        again = done(line.station("order", "close", "WO-0001", "--reason", "delivered"))
        mode = (line.folder / "manifest.db.sock").stat().st_mode & 0o777
        code, _ = line.finish(process, 15)
    assert (told["act"], told["actor"], told["certificate"]) == ("scrap", "alice", "revoke")
    assert (refused.returncode, "scrapped already" in refused.stderr) == (1, True)
    assert (closed, again) == ("closed WO-0001\n", "WO-0001 was closed before; nothing changed\n")
    with ManifestReader(line.manifest) as reader:
        (order,) = reader.orders()
    assert order.closed_reason.startswith("alice (")
    assert mode == 0o600
    assert code == 0
    assert not (line.folder / "manifest.db.sock").exists()
    assert units(line)["SN000002"].unit.state is UnitState.SCRAPPED


def test_only_who_is_named_may_act(finished):
    finished.config.write_text(finished.config.read_text() + '\n[life]\nactors = ["alice"]\n')
    refused = finished.station("unit", "scrap", "SN000001", "--reason", "fell", "--actor", "mallory")
    assert (refused.returncode, "[life] actors" in refused.stderr) == (1, True)
    do(finished, "unit", "scrap", "SN000001", "--reason", "fell", "--actor", "alice")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["unit", "scrap", "nobody", "--reason", "x"], "no unit is known as 'nobody'"),
        (["unit", "rma", "SN000001"], "missing option '--reason'"),
        (["unit", "release", "SN000001", "--reason", "x"], "not on hold"),
        (["unit", "replace", "SN000001", "--by", "SN000001", "--reason", "x"], "its own place"),
        (["unit", "resume", "nobody"], "no slot and no unit 'nobody'"),
        (["unit", "resume", "SN000001", "--void"], "--void needs a --reason"),
        (["unit", "resume", "SN000001", "--void", "--reason", "x"], "passed with its certificate"),
        (["slots", "release"], "no station runs here, so no slot is stopped"),
    ],
)
def test_what_can_not_be_done_is_one_clear_line(finished_folder, arguments, says):
    config = ["--config", str(finished_folder / "station.toml")]
    refused = CliRunner().invoke(root, [*arguments, *config])
    assert refused.exit_code != 0
    assert says in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


async def test_a_reworked_board_that_was_erased_gets_another_certificate_under_its_serial(line):
    async with line.virtual_line() as boards:
        board = boards.boards[0]
        line.name_slots([board.port])
        first = await serve_once(line)
        assert first.passed == 1
        (before,) = units(line).values()
        await asyncio.to_thread(do, line, "unit", "rework", "SN000001", "--reason", "new radio")
        refused = await serve_once(line)
        assert refused.failed == 1
        assert units(line)["SN000001"].unit.failure_code == "unit.not_erased"
        await asyncio.to_thread(board.power_off)
        erase(board)
        await asyncio.to_thread(board.power_on)
        assert (await serve_once(line)).passed == 1
    after = units(line)["SN000001"]
    assert after.unit.hardware_id == before.unit.hardware_id
    assert after.unit.issuance.certificate_serial != before.unit.issuance.certificate_serial
    assert [one.state.value for one in after.issuances] == ["void", "recorded"]


async def serve_once(line):
    return await run_line(load(line.config), once=True)


def erase(board):
    """Do what a mass erase does: everything but what the board was born with."""
    for path in board.storage.iterdir():
        if path.is_file():
            path.unlink()


async def test_a_scrapped_board_that_comes_back_gets_nothing(line):
    async with line.virtual_line() as boards:
        line.name_slots([boards.boards[0].port])
        assert (await serve_once(line)).passed == 1
        await asyncio.to_thread(do, line, "unit", "scrap", "SN000001", "--reason", "fell")
        told = []
        await run_line(load(line.config), once=True, watch=told.append)
    end = next(event for event in told if event.state is SlotState.FAILED)
    assert (end.code, "red bin" in end.sentence) == ("manifest.unit_scrapped", True)


async def test_a_board_that_was_begun_is_finished_by_another_station_with_a_copy_of_the_manifest(line, tmp_path):
    async with line.virtual_line() as boards:
        board = boards.boards[0]
        begun = await cut_off_at(line, board, "install")
        assert begun.unit.issuance.certificate is not None
        assert begun.unit.state is UnitState.FAILED
        done(await asyncio.to_thread(line.station, "manifest", "backup", str(tmp_path / "backup.db")))

        other = tmp_path / "other"
        await asyncio.to_thread(
            shutil.copytree, line.folder, other, ignore=shutil.ignore_patterns("manifest.db*", "boards")
        )
        shutil.copy(tmp_path / "backup.db", other / "manifest.db")
        shutil.copy(line.folder / "manifest.db.checkpoint", other / "manifest.db.checkpoint")
        for path in (other / "station.toml", other / "tokens" / "softhsm2.conf"):
            path.write_text(path.read_text().replace(f"{line.folder}/tokens", f"{other}/tokens"))
        config = other / "station.toml"
        config.write_text(re.sub(r"(?m)^id = \d+", "id = 2", config.read_text(), count=1))
        told = await asyncio.to_thread(line.station, "unit", "resume", "SN000001", "--json", "--config", str(config))
        assert json.loads(done(told))["next"] == "installs"
        await asyncio.to_thread(board.plug)
        summary = await run_line(load(config), once=True)
        assert summary.passed == 1
    with ManifestReader(other / "manifest.db") as reader:
        finished = reader.unit("SN000001")
    assert finished.unit.issuance.certificate == begun.unit.issuance.certificate
    assert len(finished.issuances) == 1


async def test_a_board_that_was_begun_goes_on_in_another_slot(line):
    async with line.virtual_line() as boards:
        board = boards.boards[0]
        begun = await cut_off_at(line, board, "prove")
        elsewhere = line.folder / "elsewhere"
        line.name_slots([line.slots / "nobody", elsewhere])
        await asyncio.to_thread(board.plug)
        elsewhere.symlink_to(board.port.readlink())
        assert (await serve_once(line)).passed == 1
    (after,) = units(line).values()
    assert (begun.unit.slot, after.unit.slot) == ("1", "2")
    assert after.unit.issuance.certificate == begun.unit.issuance.certificate


def test_an_open_certificate_that_a_person_gives_up_is_revoked_and_another_one_is_made(line):
    async def cut():
        async with line.virtual_line() as boards:
            board = boards.boards[0]
            return await cut_off_at(line, board, "install")

    begun = asyncio.run(cut())
    do(line, "unit", "resume", "SN000001", "--void", "--reason", "wrong label", "--actor", "alice")
    assert on_list(line) == {begun.unit.issuance.certificate_serial: "superseded"}
    assert json.loads(do(line, "unit", "resume", "SN000001", "--json"))["next"] == "issues"


async def test_a_certificate_that_the_line_gives_up_by_itself_is_revoked_with_the_next_list(line):
    async with line.virtual_line() as boards:
        board = boards.boards[0]
        begun = await cut_off_at(line, board, "install")
        await asyncio.to_thread(board.plug)
        await asyncio.to_thread(board.power_off)
        erase(board)
        await asyncio.to_thread(board.power_on)
        assert (await serve_once(line)).passed == 1
    (after,) = units(line).values()
    assert [one.state.value for one in after.issuances] == ["void", "recorded"]
    listed = await asyncio.to_thread(on_list, line)
    assert listed == {begun.unit.issuance.certificate_serial: "superseded"}
