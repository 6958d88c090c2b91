"""A token's note of an order's numbers is damaged: nothing begins, and a person decides which number is the next."""

import contextlib
import json
import resource
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from pkcs11.constants import Attribute

from firmware_tools.build import build_device
from hsm.data_objects import _CHANGING, _of_name, read_marks
from station.config import load
from station.manifest import Manifest, ManifestReader
from station.orders.taken import NAME
from station.signing import open_signer

WHO = ("--actor", "R. Vogel", "--reason", "ticket 91")


@pytest.fixture(scope="module")
def worked(tmp_path_factory, pristine, device_build, line_folder):
    """A line of two units."""
    line = line_folder(pristine, device_build, 2).moved(tmp_path_factory.mktemp("worked") / "line")
    line = replace(line, program=build_device(line.slots / "build"))
    line.set_boards(2)
    done = line.station("run", "--once")
    assert done.returncode == 0, done.stdout + done.stderr
    return line


@pytest.fixture
def line(worked, tmp_path):
    return worked.moved(tmp_path / "line")


@contextlib.contextmanager
def notes(line):
    """Yield the signer of the line's token, and the name of the order's notes."""
    with closing(sqlite3.connect(line.manifest)) as shell:
        (uid,) = shell.execute("SELECT uid FROM production_order").fetchone()
    with contextlib.chdir(line.folder), closing(open_signer(load(line.config).ca)) as signer:
        yield signer, f"{NAME}{uid}"


def labels(line):
    with notes(line) as (signer, name):
        return {mark.label.rpartition(".")[2] for mark in read_marks(signer, name)}


def harm(line, label, value=None, *, beside=False):
    """Put a note into the token that is none of ours, in place of ours or beside them."""
    with notes(line) as (signer, name):
        sound = read_marks(signer, name)[0].value

        def work(session):
            writing = session.token.open(rw=True)
            for found in [] if beside else list(writing.get_objects(_of_name(name))):
                found.destroy()
            said = {Attribute.LABEL: label, Attribute.VALUE: sound if value is None else value}
            writing.create_object({**_of_name(name), **_CHANGING, **said})
            writing.close()

        signer.call_blocking(work)


def resume(line, *arguments):
    return line.typed("order", "resume", "WO-0001", *arguments, *WHO)


def replaced(line, serial, *arguments):
    return resume(line, "--replace-damaged-note", "--next", serial, *arguments)


@pytest.mark.parametrize(
    ("label", "value"),
    [("0badf00d.2", b"\xff\x1b[31m rot"), ("two\nlines", None), ("0badf00d.99999999", None), ("", b"")],
    ids=["value", "label", "too-many", "empty"],
)
def test_a_note_that_nobody_can_believe_begins_nothing_and_is_not_repaired_by_the_way(line, label, value):
    harm(line, label, value, beside=True)
    there = labels(line)
    for done in (line.typed("run", "--once"), resume(line), resume(line, "--next", "SN000050")):
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "--replace-damaged-note --next SERIAL" in done.stderr
    assert labels(line) == there


def test_a_person_replaces_it_and_the_numbers_that_may_be_out_are_burned(line):
    harm(line, "0badf00d.2", b"rot")
    done = replaced(line, "SN000008")
    assert done.returncode == 0, done.stderr
    assert "burned 5 numbers of WO-0001: SN000003 to SN000007" in done.stdout
    line.set_boards(3)
    run = line.station("run", "--once")
    assert run.returncode == 0, run.stdout + run.stderr
    with ManifestReader(line.manifest) as reader:
        assert {unit.product_serial for unit in reader.units()} == {"SN000001", "SN000002", "SN000008"}


def test_what_stood_in_the_note_is_on_record_with_who_decided_and_why(line):
    harm(line, "0badf00d.2", b"rot")
    done = json.loads(replaced(line, "SN000003", "--json").stdout)
    assert (done["burned"], done["serials"]) == (0, None)
    assert b"rot".hex() in done["damaged_notes"][0]
    with closing(sqlite3.connect(line.manifest)) as shell:
        told = shell.execute("SELECT facts FROM event WHERE kind = 'note-damaged'").fetchall()
    assert [b"rot".hex() in facts for (facts,) in told] == [True]
    assert "goes on with SN000003, by R. Vogel" in line.typed("order", "show").stdout
    verified = line.typed("manifest", "verify", "manifest.db", "--key", "ca/ledger.pem")
    assert verified.returncode == 0, verified.stdout
    assert labels(line) == {"2"}


def test_a_number_that_a_sound_note_or_the_manifest_knows_is_no_place_to_go_on(line):
    harm(line, "", b"", beside=True)
    done = replaced(line, "SN000002")
    assert done.returncode == 1
    assert "SN000003 is the first" in done.stderr


def test_nothing_is_replaced_where_nothing_is_damaged_or_no_serial_is_named(line):
    assert "none to replace" in replaced(line, "SN000003").stderr
    harm(line, "", b"", beside=True)
    done = resume(line, "--replace-damaged-note")
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs --next SERIAL" in done.stderr


def test_a_file_in_place_of_notes_that_is_damaged_is_kept_beside_the_new_one(line):
    with notes(line) as (_, name):
        path = line.folder / "ca" / "signatures" / f"{name.removeprefix(NAME)}.taken"
    path.write_bytes(b"0badf00d.2\nrot")
    assert "--replace-damaged-note" in line.typed("run", "--once").stderr
    assert replaced(line, "SN000003").returncode == 0
    assert path.with_name(f"{path.name}.damaged").read_bytes() == b"0badf00d.2\nrot"
    assert resume(line).stderr.startswith("station: nothing is to be decided")


def test_a_decision_that_the_token_could_not_be_told_is_said_again_and_nothing_is_called_replaced(line, monkeypatch):
    harm(line, "0badf00d.2", b"rot")
    decide, room = Manifest.resume_order, resource.getrlimit(resource.RLIMIT_FSIZE)

    async def decided_on_a_disk_that_is_full_then(*arguments, **named):
        await decide(*arguments, **named)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, room[1]))

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "resume_order", decided_on_a_disk_that_is_full_then)
        try:
            done = replaced(line, "SN000008")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, room)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the decision stands" in done.stderr
    assert "say the same again" in done.stderr
    assert "--replace-damaged-note" in line.typed("run", "--once").stderr
    again = replaced(line, "SN000008")
    assert again.returncode == 0, again.stderr
    assert "burned" not in again.stdout
    assert labels(line) == {"7"}
