"""``station ca intents`` and ``give-up``: what a killed program left, and how it ends."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from hsm.journal import CaJournal
from hsm.testing import make_csr
from station.cli import ca_journal as station_ca_journal
from station.cli.root import root

DIES = """
import os
from hsm import Authority
from station.cli import main
Authority.issue = lambda *_, **__: os._exit(9)
main()
"""
"""A station that dies where the token would be asked: the intent is durable, and that is all."""

CLIENT = ("--profile", "tls-client", "--field", "product_serial=x")


def station(*arguments, exit_code=0):
    result = CliRunner().invoke(root, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """Make the folder of a line with a CA on SoftHSM."""
    folder = tmp_path_factory.mktemp("line") / "line"
    station("init", folder, "--softhsm", "--rehearsal", "1")
    return folder


@pytest.fixture
def ca(line, tmp_path):
    """Run commands of ``station ca`` with a journal of the test's own."""
    path = line / f"{tmp_path.name}.toml"
    (tmp_path / "ca").mkdir()
    text = (line / "station.toml").read_text()
    path.write_text(text.replace("[ca]\n", f'[ca]\njournal = "{tmp_path}/ca/ca.db"\n'))

    def run(command, *arguments, exit_code=0):
        return station("ca", command, "--config", path, *arguments, exit_code=exit_code)

    run.config = path
    return run


@pytest.fixture
def leave(ca, tmp_path):
    """Leave an intent; returns its serial and its request."""

    def die(*more):
        csr = tmp_path / f"{len([*tmp_path.glob('*.csr')])}.csr"
        csr.write_bytes(make_csr())
        command = [sys.executable, "-c", DIES, "ca", "issue", "--config", ca.config, *CLIENT, "--csr", csr, *more]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 9
        return unfinished(ca)[-1]["serial"], csr

    return die


def unfinished(ca, *more):
    return [json.loads(text) for text in ca("intents", "--json", *more).stdout.splitlines()]


def test_nothing_is_unfinished_in_a_ca_that_signed_nothing(ca):
    assert ca("intents").stdout == "nothing is left unfinished\n"


def test_what_a_killed_program_left_is_listed(ca, leave):
    serial, _ = leave("--batch", "2026-07")
    (one,) = unfinished(ca)
    assert (one["serial"], one["tries"], one["profile"], one["batch"]) == (serial, 1, "tls-client", "2026-07")
    assert serial in ca("intents").stdout
    assert unfinished(ca, "--batch", "2026-07") == [one]


def test_batch_that_there_is_not_is_one_line(ca, leave):
    leave()
    assert "no batch 'x'" in ca("intents", "--batch", "x", exit_code=1).stderr


def test_what_is_asked_for_again_is_finished_and_not_listed_any_more(ca, leave, tmp_path):
    _, csr = leave()
    ca("issue", *CLIENT, "--csr", csr, "--out", tmp_path / "x.pem")
    assert unfinished(ca) == []


def test_given_up_is_on_record_pending_for_revocation_and_its_key_is_free(ca, leave, tmp_path):
    serial, csr = leave()
    said = ca("give-up", serial, "--reason", "the board was scrapped").stdout
    assert said.startswith(f"given up: {serial} (CN=x)")
    assert "station ca revoke --void" in said
    assert unfinished(ca) == []
    pending = [json.loads(text) for text in ca("revoked", "--pending", "--json", exit_code=1).stdout.splitlines()]
    assert [one["serial"] for one in pending] == [serial]
    ca("issue", *CLIENT, "--csr", csr, "--out", tmp_path / "x.pem")


def test_audit_stays_right(ca, leave):
    serial, _ = leave()
    ca("give-up", serial, "--reason", "the board was scrapped")
    key, _ledger = map(json.loads, ca("audit", "--json").stdout.splitlines())
    assert (key["tries"], key["asked"], key["unasked"], key["differences"]) == (1, 0, 1, [])


def test_all_of_a_batch_is_given_up_after_a_question(ca, leave):
    serials = {leave("--batch", "b")[0], leave("--batch", "b")[0]}
    kept, _ = leave()
    assert "add --yes" in ca("give-up", "--batch", "b", "--reason", "cancelled", exit_code=1).stderr
    done = json.loads(ca("give-up", "--batch", "b", "--reason", "cancelled", "--yes", "--json").stdout)
    assert set(done["given_up"]) == serials
    assert [one["serial"] for one in unfinished(ca)] == [kept]


def test_what_is_signed_is_not_given_up_but_revoked(ca, tmp_path):
    csr = tmp_path / "x.csr"
    csr.write_bytes(make_csr())
    made = json.loads(ca("issue", *CLIENT, "--csr", csr, "--out", tmp_path / "x.pem", "--json").stdout)
    said = ca("give-up", made["serial"], "--reason", "why not", exit_code=1).stderr
    assert "is signed and on record; revoke it" in said


def test_twice_given_up_says_when_and_why(ca, leave):
    serial, _ = leave()
    ca("give-up", serial, "--reason", "scrapped")
    assert ": scrapped\n" in ca("give-up", serial, "--reason", "again", exit_code=1).stderr


def test_serial_that_is_not_on_record_is_one_line(ca):
    assert "'station ca intents' lists" in ca("give-up", "abc", "--reason", "x", exit_code=1).stderr


@pytest.mark.parametrize("arguments", [[], ["abc", "--batch", "b"], ["abc", "--reason", " "]])
def test_half_a_command_is_refused(ca, arguments):
    more = [] if "--reason" in arguments else ["--reason", "x"]
    assert ca("give-up", *arguments, *more, exit_code=2).stderr.count("\n") == 1


def test_work_of_a_program_that_runs_is_not_taken_from_it(ca, leave, tmp_path, monkeypatch):
    serial, _ = leave()
    monkeypatch.setattr(station_ca_journal.open_journal.__wrapped__, "__kwdefaults__", {"patience": 0})
    with CaJournal.open(tmp_path / "ca" / "ca.db"):
        assert "stop that program first" in ca("give-up", serial, "--reason", "x", exit_code=1).stderr
    assert [one["serial"] for one in unfinished(ca)] == [serial]
