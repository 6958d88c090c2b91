"""An older copy of the manifest is put back, by accident or by somebody: no number is given twice, and people decide.

The copies here are younger than the last checkpoint, so that the ledger can't tell; the token's notes of numbers do
(``station.orders.taken``). ``tests/ledger`` has those that lack a checkpoint.
"""

import contextlib
import json
import re
import shutil
import signal
import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from firmware_tools.build import build_device
from hsm.data_objects import Mark, read_marks, write_mark
from station.config import load
from station.events import SlotState
from station.ledger.store import LedgerReader
from station.manifest import Manifest, ManifestReader
from station.manifest.order_operations import suspend_orders
from station.orders.taken import NAME
from station.signing import open_signer

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


def typed(line, *arguments):
    """Type a command that powers no board; it runs in this process, which saves most of a second each."""
    return line.typed(*arguments)


def resumed(line, *arguments):
    """Decide how the order goes on; returns what is said on stdout."""
    done = typed(line, "order", "resume", "WO-0001", *arguments, *WHO)
    assert done.returncode == 0, done.stderr
    return done.stdout


def not_resumed(line, *arguments):
    """Try to; returns the one line of the refusal."""
    done = typed(line, "order", "resume", "WO-0001", *arguments, *WHO)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    return done.stderr


def add_key(line, section, key):
    text = line.config.read_text()
    line.config.write_text(text.replace(f"[{section}]\n", f"[{section}]\n{key}\n", 1))


def say_in_token(line, taken):
    """Let the token say that so many numbers were taken, and nothing else."""
    (uid,) = sqlite3.connect(line.manifest).execute("SELECT uid FROM production_order").fetchone()
    with contextlib.chdir(line.folder), closing(open_signer(load(line.config).ca)) as signer:
        there = read_marks(signer, f"{NAME}{uid}")
        mark = Mark(f"{0:08x}.{taken}", there[0].value)
        write_mark(signer, f"{NAME}{uid}", mark, own=(), known={one.label for one in there})


def serials(line):
    with ManifestReader(line.manifest) as reader:
        return {unit.product_serial for unit in reader.units() if unit.product_serial}


def events(manifest: Path) -> int:
    with LedgerReader(manifest) as reader:
        return reader.size()


def sealed(line) -> int:
    with LedgerReader(line.manifest) as reader:
        return reader.sealed_size()


def moved(line, folder: Path):
    """Copy a whole line into another folder: manifest, tokens and boards."""
    return line.moved(folder)


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
    for trial in range(10):  # on a busy machine the start seals what the first boards have done
        killed = moved(line, root / f"killed-{trial}")
        run_and_kill(killed)
        if sealed(killed) <= events(before / "manifest.db"):
            break
    else:
        pytest.fail("each start sealed what came after the copy")
    assert serials(killed) == {f"SN{number:06d}" for number in range(1, 5)}
    return before, killed


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
    done = typed(forgotten, "run", "--once")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "SN000003 to SN000004" in done.stderr
    assert "station order resume WO-0001" in done.stderr


def test_the_newest_manifest_that_is_put_back_goes_on_without_anybody(before_and_after, killed, tmp_path):
    newest = copy(killed, tmp_path / "newest")
    put_back(killed, before_and_after[0])
    assert typed(killed, "run", "--once").returncode == 1
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
    done = typed(killed, "run", "--once")
    assert done.returncode == 1
    assert "older copy" in done.stderr


def test_a_person_decides_and_the_numbers_are_burned(forgotten):
    done = typed(forgotten, "order", "resume", "WO-0001", *WHO)
    assert done.returncode == 0, done.stderr
    assert "burned 2 numbers of WO-0001: SN000003 to SN000004" in done.stdout

    set_boards(forgotten, 5)
    forgotten.station("run", "--once")  # two boards fail: they hold certificates that nobody knows
    assert serials(forgotten) >= {"SN000001", "SN000002", "SN000005"}
    assert not serials(forgotten) & {"SN000003", "SN000004"}

    shown = json.loads(typed(forgotten, "order", "show", "--json").stdout)
    assert shown["burned"] == 2
    assert [(one["actor"], one["burned"]) for one in shown["resumes"]] == [("R. Vogel", 2)]
    verified = typed(forgotten, "manifest", "verify", "manifest.db", "--key", "ca/ledger.pem")
    assert verified.returncode == 0, verified.stdout


def test_the_desk_gives_no_forgotten_number_either(forgotten, tmp_path):
    request = tmp_path / "request.csr"
    request.write_bytes(_request())
    done = typed(
        forgotten,
        *("ca", "issue", "--profile", "idevid", "--order", "WO-0001", "--csr", str(request)),
        *("--field", "hardware_id=DESK-1", "--no-pkilint", "--out", str(tmp_path / "cert.pem")),
    )
    assert done.returncode == 1
    assert "station order resume WO-0001" in done.stderr


def test_nothing_is_resumed_where_nothing_was_forgotten(killed):
    done = typed(killed, "order", "resume", "WO-0001", *WHO)
    assert done.returncode == 1
    assert "nothing is to be decided" in done.stderr


def test_a_number_that_the_token_knows_is_no_place_to_go_on(forgotten):
    done = typed(forgotten, "order", "resume", "WO-0001", "--next", "SN000004", *WHO)
    assert done.returncode == 1
    assert "SN000005 is the first" in done.stderr


def test_budget_that_was_burned_is_not_given_again(forgotten):
    done = typed(forgotten, "order", "resume", "WO-0001", "--next", "SN000101", *WHO)
    assert done.returncode == 0, done.stderr
    set_boards(forgotten, 5)
    done = forgotten.station("run", "--once", "--json")
    assert "manifest.order_exhausted" in done.stdout


def test_a_decision_is_not_taken_back_by_a_copy_from_before_it(forgotten, tmp_path):
    earlier = copy(forgotten, tmp_path / "earlier")
    assert "SN000003 to SN000049" in resumed(forgotten, "--next", "SN000050")
    put_back(forgotten, earlier, keep=())
    assert "older copy" in not_resumed(forgotten)  # it is sealed
    assert typed(forgotten, "manifest", "accept", *WHO).returncode == 0
    assert "SN000003 to SN000049" in resumed(forgotten)  # and the token knows


def test_numbers_that_no_note_tells_of_are_burned_too(forgotten):
    add_key(forgotten, "order", "numbers_per_note = 3")
    assert "burned 4 numbers of WO-0001: SN000003 to SN000006" in resumed(forgotten)


def test_nobody_decides_without_all_tokens_unless_a_serial_is_named(forgotten):
    add_key(forgotten, "ca", 'tokens = ["pkcs11:token=away?module-path=/usr/lib/softhsm/libsofthsm2.so"]')
    assert "may remember numbers that the others do not" in not_resumed(forgotten)
    assert "SN000003 to SN000008" in resumed(forgotten, "--next", "SN000009")


def test_a_token_that_knows_less_than_the_manifest_is_no_witness(killed):
    say_in_token(killed, 3)
    with Manifest.open(killed.manifest) as manifest:
        manifest.perform_blocking(partial(suspend_orders, reason="an older manifest was accepted"))
    assert "--next SERIAL" in not_resumed(killed)
    assert "SN000005 to SN000008" in resumed(killed, "--next", "SN000009")


def test_a_note_of_more_numbers_than_the_order_has_is_damaged(killed):
    say_in_token(killed, 10**11)
    assert "Nobody of us wrote that" in not_resumed(killed)
    assert "Nobody of us wrote that" in typed(killed, "run", "--once").stderr


def test_orders_of_a_manifest_that_was_accepted_wait_for_a_decision(before_and_after, killed):
    assert killed.station("run", "--once").returncode == 0  # seals
    put_back(killed, before_and_after[0])
    assert "manifest accept" in typed(killed, "order", "resume", "WO-0001", *WHO).stderr

    assert typed(killed, "manifest", "accept", *WHO).returncode == 0
    closed = typed(killed, "run", "--once")
    assert closed.returncode == 1
    assert "waits for a decision" in closed.stderr

    done = typed(killed, "order", "resume", "WO-0001", *WHO)
    assert "burned 2 numbers of WO-0001: SN000003 to SN000004" in done.stdout, done.stderr
    assert typed(killed, "order", "show").returncode == 0


def test_a_copy_at_another_station_gives_no_board_a_number(killed):
    text = killed.config.read_text()
    killed.config.write_text(re.sub(r"^id = 1 ", "id = 2 ", text, flags=re.MULTILINE))
    set_boards(killed, 5)
    done = killed.station("run", "--once", "--json")
    assert "warrant.wrong_station" in done.stdout
    assert serials(killed) == {f"SN{number:06d}" for number in range(1, 5)}


def test_a_row_whose_decision_was_made_by_hand_starts_no_line(killed):
    with closing(sqlite3.connect(killed.manifest)) as shell:
        rules = shell.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in rules:
            shell.execute(f"DROP TRIGGER {name}")
        shell.execute("UPDATE production_order SET burned = 5")
        for _, sql in rules:
            shell.execute(sql)
        shell.commit()
    done = typed(killed, "run", "--once")
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
