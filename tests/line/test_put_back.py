"""An older copy of the manifest is put back, by accident or by somebody: no number is given twice, and people decide.

The copies here are younger than the last checkpoint, so that the ledger can't tell; the token's notes of numbers do
(``station.orders.taken``). ``tests/ledger`` has those that lack a checkpoint.
"""

import json
import re
import shutil
import signal
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_tools.build import build_device
from station.events import SlotState
from station.manifest import ManifestReader

LATER = 3600
"""Seconds between two checkpoints: none falls into a test but those of a start and a stop."""

ENDS = {SlotState.PASSED.value, SlotState.DONE_BEFORE.value, SlotState.FAILED.value}

WHO = ("--actor", "R. Vogel", "--reason", "the disk died, ticket 88")


def set_boards(line, boards):
    """Power so many boards from the next start on."""
    text = re.sub(r"boards = \d+", f"boards = {boards}", line.config.read_text())
    line.config.write_text(text if "[ledger]" in text else f"[ledger]\ninterval = {LATER}\n\n{text}")


def copy(line, folder: Path):
    """Copy the manifest as a file manager would, while no station runs."""
    folder.mkdir()
    for path in line.folder.glob("manifest.db*"):
        if not path.is_socket():
            shutil.copy2(path, folder)
    return folder


def put_back(line, folder: Path, keep=("manifest.db.checkpoint",)):
    """Put a copy back in place of what is there."""
    for path in line.folder.glob("manifest.db*"):
        if path.name not in keep:
            path.unlink()
    for path in folder.iterdir():
        if path.name not in keep:
            shutil.copy2(path, line.folder)


def run_and_kill(line):
    """Run until every board has passed, and kill the station before it can seal that."""
    process, ended = line.start("run", "--json"), set()
    wanted = int(re.search(r"boards = (\d+)", line.config.read_text())[1])
    for event in line.events(process):
        if event.get("state") in ENDS:
            ended.add(event["slot"])
        if len(ended) == wanted:
            break
    line.finish(process, signal.SIGKILL)


def serials(line):
    with ManifestReader(line.manifest) as reader:
        return {unit.product_serial for unit in reader.units() if unit.product_serial}


def moved(line, folder: Path):
    """Copy a whole line into another folder: manifest, tokens and boards."""
    shutil.copytree(line.folder, folder, ignore=shutil.ignore_patterns("*.sock", "slot?"))  # and ttys
    for path in (folder / "station.toml", folder / "tokens" / "softhsm2.conf"):  # they name their folder
        path.write_text(path.read_text().replace(str(line.folder), str(folder)))
    return replace(line, folder=folder)


@pytest.fixture(scope="module")
def before_and_after(tmp_path_factory, pristine, device_build, line_folder):
    """A line with two units when it was stopped, and the same with two more when it was killed; each a folder."""
    root = tmp_path_factory.mktemp("put-back")
    line = moved(line_folder(pristine, device_build, 4), root / "line")
    shutil.copytree(device_build, line.slots / "build")
    line = replace(line, program=build_device(line.slots / "build"))
    set_boards(line, 2)
    assert line.station("run", "--once").returncode == 0
    before = copy(line, root / "before")
    set_boards(line, 4)
    run_and_kill(line)
    assert serials(line) == {f"SN{number:06d}" for number in range(1, 5)}
    return before, line


@pytest.fixture
def killed(before_and_after, tmp_path):
    """A line of four units that was killed before they were sealed."""
    return moved(before_and_after[1], tmp_path / "line")


@pytest.fixture
def forgotten(before_and_after, killed):
    """A line whose manifest forgot two units: SN000003 and SN000004 are on boards, and it knows two others."""
    put_back(killed, before_and_after[0])
    assert serials(killed) == {"SN000001", "SN000002"}
    return killed


def test_a_copy_younger_than_the_last_checkpoint_starts_no_line(forgotten):
    done = forgotten.station("run", "--once")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "SN000003 to SN000004" in done.stderr
    assert "station order resume WO-0001" in done.stderr


def test_the_newest_manifest_that_is_put_back_goes_on_without_anybody(before_and_after, killed, tmp_path):
    newest = copy(killed, tmp_path / "newest")
    put_back(killed, before_and_after[0])
    assert killed.station("run", "--once").returncode == 1
    put_back(killed, newest)
    again = killed.station("run", "--once")
    assert again.returncode == 0, again.stdout + again.stderr
    killed.judge()


def test_a_line_that_lost_power_goes_on_with_the_next_number(killed):
    set_boards(killed, 5)
    again = killed.station("run", "--once")
    assert again.returncode == 0, again.stdout + again.stderr
    assert serials(killed) == {f"SN{number:06d}" for number in range(1, 6)}


def test_a_wal_that_is_removed_starts_no_line(killed):
    assert (killed.folder / "manifest.db-wal").stat().st_size
    for name in ("manifest.db-wal", "manifest.db-shm"):
        (killed.folder / name).unlink()
    done = killed.station("run", "--once")
    assert done.returncode == 1
    assert "older copy" in done.stderr


def test_a_person_decides_and_the_numbers_are_burned(forgotten):
    done = forgotten.station("order", "resume", "WO-0001", *WHO)
    assert done.returncode == 0, done.stderr
    assert "burned 2 numbers of WO-0001: SN000003 to SN000004" in done.stdout

    set_boards(forgotten, 5)
    forgotten.station("run", "--once")  # two boards fail: they hold certificates that nobody knows
    assert serials(forgotten) >= {"SN000001", "SN000002", "SN000005"}
    assert not serials(forgotten) & {"SN000003", "SN000004"}

    shown = json.loads(forgotten.station("order", "show", "--json").stdout)
    assert shown["burned"] == 2
    assert [(one["actor"], one["burned"]) for one in shown["resumes"]] == [("R. Vogel", 2)]
    verified = forgotten.station("manifest", "verify", "manifest.db", "--key", "ca/ledger.pem")
    assert verified.returncode == 0, verified.stdout


def test_the_desk_gives_no_forgotten_number_either(forgotten, tmp_path):
    request = tmp_path / "request.csr"
    request.write_bytes(_request())
    done = forgotten.station(
        *("ca", "issue", "--profile", "idevid", "--order", "WO-0001", "--csr", str(request)),
        *("--field", "hardware_id=DESK-1", "--no-pkilint", "--out", str(tmp_path / "cert.pem")),
    )
    assert done.returncode == 1
    assert "station order resume WO-0001" in done.stderr


def test_nothing_is_resumed_where_nothing_was_forgotten(killed):
    done = killed.station("order", "resume", "WO-0001", *WHO)
    assert done.returncode == 1
    assert "nothing is to be decided" in done.stderr


def test_a_number_that_the_token_knows_is_no_place_to_go_on(forgotten):
    done = forgotten.station("order", "resume", "WO-0001", "--next", "SN000004", *WHO)
    assert done.returncode == 1
    assert "SN000005 is the first" in done.stderr


def test_budget_that_was_burned_is_not_given_again(forgotten):
    done = forgotten.station("order", "resume", "WO-0001", "--next", "SN000101", *WHO)
    assert done.returncode == 0, done.stderr
    set_boards(forgotten, 5)
    done = forgotten.station("run", "--once", "--json")
    assert "manifest.order_exhausted" in done.stdout


def test_orders_of_a_manifest_that_was_accepted_wait_for_a_decision(before_and_after, killed):
    assert killed.station("run", "--once").returncode == 0  # seals
    put_back(killed, before_and_after[0])
    assert "manifest accept" in killed.station("order", "resume", "WO-0001", *WHO).stderr

    assert killed.station("manifest", "accept", *WHO).returncode == 0
    closed = killed.station("run", "--once")
    assert closed.returncode == 1
    assert "waits for a decision" in closed.stderr

    done = killed.station("order", "resume", "WO-0001", *WHO)
    assert "burned 2 numbers of WO-0001: SN000003 to SN000004" in done.stdout, done.stderr
    assert killed.station("order", "show").returncode == 0


def test_a_row_whose_decision_was_made_by_hand_starts_no_line(killed):
    with closing(sqlite3.connect(killed.manifest)) as shell:
        rules = shell.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in rules:
            shell.execute(f"DROP TRIGGER {name}")
        shell.execute("UPDATE production_order SET burned = 5")
        for _, sql in rules:
            shell.execute(sql)
        shell.commit()
    done = killed.station("run", "--once")
    assert done.returncode == 1
    assert "the journal tells of" in done.stderr


def _request() -> bytes:
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "DESK-1")])
    signed = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    return signed.public_bytes(Encoding.PEM)
