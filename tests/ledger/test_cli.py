"""The ledger's commands as people type them, on a line with a real token and virtual boards' manifest."""

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from station.cli.root import root
from station.config import load
from station.config.folder import make_line
from station.manifest import Manifest
from station.manifest.testing import ORDER, provision


@pytest.fixture(scope="module")
def made_line(tmp_path_factory):
    """The folder of a line, made once."""
    folder = tmp_path_factory.mktemp("ledger-line") / "line"
    make_line(folder, ca_name="DEVELOPMENT ONLY", boards=1)
    return folder


@pytest.fixture
async def line(made_line):
    """A line with a board that passed; returns its folder."""
    for path in made_line.glob("manifest.db*"):
        path.unlink()
    with contextlib.closing(Manifest.open(made_line / "manifest.db")) as manifest:
        await manifest.open_order(ORDER)
        await provision(manifest, "board-1")
    return made_line


@pytest.fixture
def station(line, capfd, monkeypatch):
    """Type a command in the line's folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(line)

    def call(*words):
        with pytest.raises(SystemExit) as left:
            root.main(list(words), prog_name="station")
        out, err = capfd.readouterr()
        return left.value.code, out, err

    return call


def test_a_line_that_was_just_made_has_a_ledger_key(line):
    assert load(line / "station.toml").ledger.key.read_bytes().startswith(b"-----BEGIN PUBLIC KEY")


def test_a_proof_is_written_and_checked_with_nothing_but_the_key(station, line, tmp_path, monkeypatch):
    assert station("manifest", "checkpoint")[0] == 0
    assert station("manifest", "prove", "SN000001")[0] == 0
    _, leaf, _ = station("unit", "show", "SN000001", "--certificate")
    _, vkey, _ = station("manifest", "checkpoint", "--vkey")
    for name, text in (("leaf.pem", leaf), ("line.vkey", vkey)):
        (tmp_path / name).write_text(text)
    shutil.move(line / "SN000001.tlog-proof", tmp_path)
    monkeypatch.chdir(tmp_path)
    words = ("--key", "line.vkey", "--certificate", "leaf.pem", "--json")
    code, out, _ = station("manifest", "check-proof", "SN000001.tlog-proof", *words)
    facts = json.loads(out)
    assert (code, facts["product_serial"], facts["certificate_matches"]) == (0, "SN000001", True)


def test_a_copy_is_verified_offline(station, line, tmp_path):
    station("manifest", "checkpoint")
    shutil.copy(line / "manifest.db", tmp_path / "copy.db")
    code, out, _ = station("manifest", "verify", str(tmp_path / "copy.db"), "--key", "ca/ledger.pem")
    assert (code, out.split(":")[0]) == (0, "sound")


def test_a_spoiled_copy_names_the_row_and_ends_with_1(station, line, tmp_path):
    station("manifest", "checkpoint")
    copy = tmp_path / "copy.db"
    shutil.copy(line / "manifest.db", copy)
    with contextlib.closing(sqlite3.connect(copy)) as shell:
        shell.executescript("DROP TRIGGER unit_passed_is_final; UPDATE unit SET model = 'forged';")
    code, out, _ = station("manifest", "verify", str(copy), "--key", "ca/ledger.pem", "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert {"kind": "changed", "table": "unit", "row": "1"}.items() <= found[1].items()
    assert found[-1]["sound"] is False


def test_a_manifest_that_nobody_sealed_proves_nothing(station):
    code, out, _ = station("manifest", "verify", "manifest.db", "--key", "ca/ledger.pem")
    assert (code, out.split(":")[0]) == (1, "NOT PROVEN")


def test_only_those_whom_the_configuration_names_accept_an_older_copy(station, line):
    text = (line / "station.toml").read_text()
    (line / "other.toml").write_text(text + '\n[life]\nactors = ["R. Vogel"]\n')
    code, _, err = station("manifest", "accept", "--actor", "mallory", "--reason", "x", "--config", "other.toml")
    assert (code, "'mallory' may not do this here" in err) == (1, True)


def test_an_older_copy_is_refused_until_somebody_answers_for_it(station, line):
    station("manifest", "checkpoint")
    shutil.copy(line / "manifest.db", line / "older")
    station("manifest", "checkpoint")  # its own opening is news: one more event
    with contextlib.closing(Manifest.open(line / "manifest.db")) as manifest:
        manifest.event(None, "", "x", "note", {})
    station("manifest", "checkpoint")
    shutil.move(line / "older", line / "manifest.db")
    code, _, err = station("manifest", "checkpoint")
    assert (code, "older copy" in err) == (1, True)
    assert station("manifest", "accept", "--actor", "R. Vogel", "--reason", "the disk died")[0] == 0
    assert station("manifest", "checkpoint")[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("verify", "nowhere.db", "--key", "ca/ledger.pem"), "no manifest there"),
        (("verify", "station.toml", "--key", "ca/ledger.pem"), "not a SQLite file"),
        (("verify", "manifest.db", "--key", "nowhere.vkey"), "No such file"),
        (("verify", "manifest.db", "--key", "station.toml"), "not a verifier key"),
        (("verify", "manifest.db", "--key", "manifest.db"), "not a text file"),
        (("verify", "manifest.db", "--key", "ca/root.pem"), "not a public key"),
        (("verify", "manifest.db", "--key", "ca/ledger.pem", "--checkpoint", "station.toml"), "not a signed note"),
        (("check-proof", "station.toml", "--key", "ca/ledger.pem"), "not a proof"),
        (("check-proof", "manifest.db", "--key", "ca/ledger.pem"), "not a text file"),
        (("prove", "SN999999"), "no unit is known"),
        (("prove", "SN000001"), "after the last checkpoint"),
        (("checkpoint", "--show"), "there is no checkpoint yet"),
        (("ledger-key",), "never overwritten"),
        (("accept", "--actor", "x", "--reason", "y"), "nothing is to be accepted"),
    ],
)
def test_wrong_input_is_one_clear_line(station, words, says):
    code, _, err = station("manifest", *words)
    assert code == 1
    assert says.lower() in err.lower()
    assert err.count("\n") == 1


def test_a_line_without_a_ledger_key_says_how_to_make_one(station, line):
    key = line / "ca" / "ledger.pem"
    moved = key.rename(key.with_suffix(".away"))
    try:
        code, _, err = station("manifest", "checkpoint")
        assert (code, "station manifest ledger-key" in err) == (1, True)
        assert station("manifest", "ledger-key")[0] == 0
        assert key.read_bytes() == moved.read_bytes()  # the key that the token holds, not another one
    finally:
        moved.replace(key)


def test_the_audit_counts_the_checkpoints(station):
    station("manifest", "checkpoint")
    _, out, _ = station("ca", "audit")
    assert "the ledger key: asked for" in out


def test_every_command_is_told_of_in_the_documentation(station):
    page = Path(__file__).parents[2].joinpath("docs/commands.md").read_text()
    names = ("verify", "prove", "check-proof", "checkpoint", "accept", "ledger-key")
    assert [name for name in names if f"station manifest {name}" not in page] == []
