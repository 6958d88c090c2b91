"""``station ca ceremony``, with real tokens."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hsm.testing import make_csr
from softhsm import make_tokens
from station.cli.root import root

FILE = """\
[ceremony]
name = "Test"

[token]
root = {{ uri = "{root}" }}
line = {{ uri = "{line}" }}

[[step]]
mode = "root"
token = "root"
label = "{label}-root"
key = "p256"
subject = {{ CN = "Root" }}
years = 20
certificate = "root.pem"

[[step]]
mode = "intermediate"
issuer = "root.pem"
token = "line"
label = "{label}-line"
key = "p256"
subject = {{ CN = "Line" }}
years = 10
certificate = "line.pem"
"""


def station(*arguments, exit_code=0):
    result = CliRunner().invoke(root, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return make_tokens(tmp_path_factory.mktemp("hsm"), ["root", "line"])


@pytest.fixture(autouse=True)
def environment(tokens, monkeypatch):
    """Set what the module needs, as a security officer does."""
    for name, value in tokens.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def file(tokens, tmp_path, request):
    """A ceremony whose labels are this test's own."""
    path = tmp_path / "x.toml"
    label = f"t{abs(hash(request.node.name)):x}"
    path.write_text(FILE.format(root=tokens.uri("root"), line=tokens.uri("line"), label=label))
    return path


def test_it_is_done_and_verified(file):
    done = station("ca", "ceremony", file, "--operator", "Ada Lovelace")
    assert done.stdout.splitlines()[0] == "step 1 of 2: root"
    check = done.stdout.splitlines()[-1].removeprefix("check it: station ").split()
    told = station(*check).stdout
    assert "chain and seal hold; 'Test' of " in told
    assert told.endswith("by Ada Lovelace\n")


def test_a_changed_transcript_exits_1_with_the_line(file):
    station("ca", "ceremony", file, "--operator", "Ada")
    transcript = file.parent / "x.transcript.jsonl"
    transcript.write_text(transcript.read_text().replace("Ada", "Eve"))
    result = station("ca", "ceremony", "--verify", transcript, "--certificate", file.parent / "root.pem", exit_code=1)
    assert (
        result.stderr
        == f"station: {transcript}:1: line 1 was changed, or lines are missing or were put in before line 2\n"
    )


def test_it_is_rehearsed_and_leaves_nothing(file):
    before = sorted(file.parent.iterdir())
    told = station("ca", "ceremony", file, "--rehearse").stdout
    assert "REHEARSED: 2 files" in told
    assert "its temporary folder is removed" in told
    assert sorted(file.parent.iterdir()) == before


def test_a_rehearsal_can_be_kept(file, tmp_path):
    told = json.loads(station("ca", "ceremony", file, "--rehearse", "--folder", tmp_path / "r", "--json").stdout)
    assert told["rehearsal"] is True
    assert told["files"] == [str(tmp_path / "r" / name) for name in ("root.pem", "line.pem")]
    verified = station("ca", "ceremony", "--verify", told["transcript"], "--certificate", told["verify_with"], "--json")
    assert json.loads(verified.stdout)["rehearsal"] is True


def test_a_rehearsal_wants_an_empty_folder(file, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "mine").touch()
    result = station("ca", "ceremony", file, "--rehearse", "--folder", tmp_path / "r", exit_code=1)
    assert "is not empty: choose a new folder" in result.stderr


def test_json_is_one_object_on_stdout(file):
    told = json.loads(station("ca", "ceremony", file, "--operator", "Ada", "--json").stdout)
    assert [Path(path).name for path in told["files"]] == ["root.pem", "line.pem"]
    assert Path(told["transcript"]).exists()


def test_a_mistake_in_the_file_is_one_line(file):
    file.write_text(file.read_text().replace("label =", "lable =", 1))
    result = station("ca", "ceremony", file, "--operator", "Ada", exit_code=1)
    assert result.stderr.startswith(f"station: {file}:")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--rehearse", "--undo"], "can't be combined"),
        (["--folder", "x"], "--folder goes with --rehearse"),
        (["--verify"], "--verify and --certificate go together"),
        (["--certificate", "x"], "--verify and --certificate go together"),
    ],
)
def test_options_that_do_not_go_together_exit_2(file, options, complaint):
    assert complaint in station("ca", "ceremony", file, *options, exit_code=2).stderr


def started(file, tokens):
    """Start the program on a ceremony that takes long: an RSA-4096 root."""
    file.write_text(file.read_text().replace('"p256"', '"rsa4096"'))
    return subprocess.Popen(
        [Path(sys.executable).parent / "station", "ca", "ceremony", file, "--operator", "Ada"],
        env={**os.environ, **tokens.environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_exits_130_and_undoes(file, tokens):
    with started(file, tokens) as running:
        assert running.stdout.readline() == "step 1 of 2: root\n"
        running.send_signal(signal.SIGINT)
        told, complaint = running.communicate(timeout=60)
    assert running.returncode == 130
    assert complaint == "station: interrupted\n"
    assert "undone: keys and files of this run are removed" in told
    assert not list(file.parent.glob("*.pem"))


def test_kill_9_is_undone_with_undo(file, tokens):
    with started(file, tokens) as running:
        assert running.stdout.readline() == "step 1 of 2: root\n"
        running.kill()
    assert "--undo" in station("ca", "ceremony", file, "--operator", "Ada", exit_code=1).stderr
    assert "undone; its transcript is" in station("ca", "ceremony", "--undo", file).stdout
    file.write_text(file.read_text().replace('"rsa4096"', '"p256"'))
    station("ca", "ceremony", file, "--operator", "Ada")


@pytest.fixture
def line_on_a_root(file, tmp_path, tokens):
    """A line whose configuration signs with a root; its PIN can't be read, so a token that is asked would say so."""
    station("ca", "ceremony", file, "--operator", "Ada")
    station("init", tmp_path / "line", "--rehearsal", "1")
    path = tmp_path / "line" / "station.toml"
    (tmp_path / "x.csr").write_bytes(make_csr())
    ca = path.parent / "ca"
    ca.mkdir()
    for name in ("root.pem", "intermediate.pem"):
        (ca / name).write_bytes((file.parent / "root.pem").read_bytes())
    text = path.read_text()
    uri = f"pkcs11:token=root?module-path={tokens.module}&pin-source=file:/no/such/pin"
    path.write_text(re.sub(r'^token = ".*"', f'token = "{uri}"', text, count=1, flags=re.MULTILINE))
    return path


@pytest.mark.parametrize("command", [("run", "--once"), ("ca", "issue", "--profile", "tls-client", "--csr", "x.csr")])
def test_a_root_token_is_opened_by_ceremonies_only(line_on_a_root, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = station(*command, "--config", line_on_a_root, exit_code=1)
    assert "root tokens are opened by 'station ca ceremony' only" in result.stderr
    assert "PIN" not in result.stderr


@pytest.mark.parametrize("command", ["check", "doctor"])
def test_check_and_doctor_say_so_and_leave_the_token_closed(line_on_a_root, command):
    lines = station(command, "--config", line_on_a_root, "--json", exit_code=1).stdout.splitlines()
    found = {entry["check"]: entry for entry in map(json.loads, lines)}
    assert "root tokens are opened by" in found["chain"]["text"]
    assert "pin" not in found.get("token", {}).get("text", "").lower()
