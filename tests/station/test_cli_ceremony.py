"""``station ca ceremony``, with real tokens."""

import datetime as dt
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from hsm import KeyKind, generate_key
from hsm.key_store import label_taken
from hsm.root_mark import root_in
from hsm.testing import make_csr, open_signer
from softhsm import make_tokens
from station.checks.tokens import examine
from station.cli.root import root
from station.config import load

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
    last = told.splitlines()[-1]
    assert last.startswith("REHEARSED: files made: 2, and removed with the temporary folder")
    assert "check it" not in told
    assert sorted(file.parent.iterdir()) == before


def test_a_rehearsal_can_be_kept(file, tmp_path):
    told = json.loads(station("ca", "ceremony", file, "--rehearse", "--folder", tmp_path / "r", "--json").stdout)
    assert told["rehearsal"] is True
    assert told["files"] == [str(tmp_path / "r" / name) for name in ("root.pem", "line.pem")]
    verified = station("ca", "ceremony", "--verify", told["transcript"], "--certificate", told["verify_with"], "--json")
    assert json.loads(verified.stdout)["rehearsal"] is True


def test_the_check_of_a_kept_rehearsal_can_be_pasted(file, tmp_path):
    told = station("ca", "ceremony", file, "--rehearse", "--folder", tmp_path / "my rehearsal").stdout
    check = shlex.split(told.splitlines()[-1].removeprefix("check it: station "))
    assert station(*check).stdout.startswith("REHEARSAL: ")


def test_nothing_to_undo_is_said(file):
    refused = station("ca", "ceremony", "--undo", file, exit_code=1).stderr
    assert refused.startswith("station: there is nothing to undo: ")
    assert refused.count("\n") == 1


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
    assert "undone; its transcript is" in station("ca", "ceremony", "--undo", "--yes", file).stdout
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


@pytest.mark.parametrize("verb", ["key", "sign"])
def test_a_root_token_takes_no_part_in_orders(file, tokens, tmp_path, verb):
    station("ca", "ceremony", file, "--operator", "Ada")
    order = tmp_path / "wo.order.json"
    terms = ("--name", "WO-1", "--product", "sensor", "--quantity", 9, "--until", "2099-01-01")
    station("order", "create", *terms, "--out", order)
    before = order.read_bytes()
    uri, public = tokens.uri("root"), tmp_path / "oem.pem"
    arguments = ("--token", uri, "--out", public) if verb == "key" else (order, "--key", uri, "--yes")
    refused = station("order", verb, *arguments, exit_code=1)
    assert "root tokens are opened by 'station ca ceremony' only" in refused.stderr
    assert not public.exists()
    assert order.read_bytes() == before
    with open_signer(tokens, "root") as signer:
        assert not label_taken(signer, "order-key")


@pytest.mark.parametrize("command", ["check", "doctor"])
def test_check_and_doctor_say_so_and_leave_the_token_closed(line_on_a_root, command):
    lines = station(command, "--config", line_on_a_root, "--json", exit_code=1).stdout.splitlines()
    found = {entry["check"]: entry for entry in map(json.loads, lines)}
    assert "root tokens are opened by" in found["chain"]["text"]
    assert "pin" not in found.get("token", {}).get("text", "").lower()


@pytest.fixture
def line(file, tmp_path, tokens):
    """A line whose [ca] is sound, and whose folder holds no certificate of the root's own."""
    station("ca", "ceremony", file, "--operator", "Ada")
    station("init", tmp_path / "line", "--rehearsal", "1")
    path = tmp_path / "line" / "station.toml"
    (path.parent / "ca").mkdir()
    (path.parent / "ca" / "intermediate.pem").write_bytes((file.parent / "line.pem").read_bytes())
    (path.parent / "ca" / "root.pem").write_bytes((file.parent / "root.pem").read_bytes())
    (tmp_path / "x.csr").write_bytes(make_csr())
    set_tokens(path, tokens.uri("line"))
    return path


def set_tokens(path, token, more=""):
    text = re.sub(r'^token = ".*"', f'token = "{token}"{more}', path.read_text(), count=1, flags=re.MULTILINE)
    path.write_text(text)


@pytest.fixture
def crossed(line, tokens):
    """A line that signs with a root by the certificate that another root gave it."""
    folder = line.parent / "ca"
    own = x509.load_pem_x509_certificate((folder / "root.pem").read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    other = x509.Name.from_rfc4514_string("CN=Other")
    start, end = own.not_valid_before_utc, own.not_valid_after_utc
    for name, subject, public in (("root", other, key.public_key()), ("intermediate", own.subject, own.public_key())):
        made = x509.CertificateBuilder(other, subject, public, x509.random_serial_number(), start, end)
        for extension in (each for each in own.extensions if each.oid != x509.AuthorityKeyIdentifier.oid):
            made = made.add_extension(extension.value, critical=extension.critical)
        (folder / f"{name}.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    set_tokens(line, tokens.uri("root"))
    return line, own


ISSUE = ("ca", "issue", "--profile", "tls-client", "--field", "product_serial=SN1")


def test_root_does_not_sign_by_a_certificate_below_another_root(crossed, tmp_path):
    """It looks like any issuer's; the key in the token bears the mark of a root's."""
    path, _ = crossed
    asked = (*ISSUE, "--csr", tmp_path / "x.csr", "--config", path)
    assert "the key of a root" in station(*asked, exit_code=1).stderr
    (found,) = examine(load(path))  # no more than that: no probe is signed
    assert "the key of a root" in found.text


def test_root_that_is_known_by_its_certificate_is_not_opened(crossed, tmp_path):
    path, own = crossed
    (path.parent / "ca" / "old-root.pem").write_bytes(own.public_bytes(Encoding.PEM))
    set_tokens(path, "pkcs11:token=root?pin-source=file:/no/such/pin")
    asked = (*ISSUE, "--csr", tmp_path / "x.csr", "--config", path)
    result = station(*asked, exit_code=1)
    assert "root tokens are opened by 'station ca ceremony' only" in result.stderr
    assert "PIN" not in result.stderr


def test_responder_makes_no_key_in_the_token_of_a_root(line, tokens, monkeypatch):
    monkeypatch.setenv("STATION_OCSP_TOKEN", tokens.uri("root"))
    result = station("ca", "ocsp", "init", "--config", line, exit_code=1)
    assert "the key of a root" in result.stderr
    with open_signer(tokens, "root") as signer:
        assert not label_taken(signer, "ocsp")
        assert root_in(signer) is not None


def test_ledger_makes_no_key_in_the_token_of_a_root(crossed):
    path, _ = crossed
    assert "the key of a root" in station("manifest", "ledger-key", "--config", path, exit_code=1).stderr


def test_root_is_no_spare_token(line, tokens, tmp_path):
    set_tokens(line, tokens.uri("line"), f'\ntokens = ["{tokens.uri("root")}"]')
    asked = (*ISSUE, "--csr", tmp_path / "x.csr", "--config", line)
    assert "the key of a root" in station(*asked, exit_code=1).stderr


def test_root_without_a_mark_is_known_by_its_certificate(line, tokens, tmp_path):
    """Another program made its key, or an older version."""
    with open_signer(tokens, "line", writable=True) as signer:
        key = generate_key(signer, KeyKind.P256, f"unmarked-{tmp_path.name}")
        name = x509.Name.from_rfc4514_string("CN=Unmarked")
        start = dt.datetime.now(dt.UTC)
        end = start + dt.timedelta(days=9)
        made = x509.CertificateBuilder(name, name, key.public_key(), 1, start, end).sign(key, hashes.SHA256())
        (line.parent / "ca" / "unmarked.pem").write_bytes(made.public_bytes(Encoding.PEM))
        assert root_in(signer) is None
    try:
        asked = (*ISSUE, "--csr", tmp_path / "x.csr", "--config", line)
        assert "the key of a root" in station(*asked, exit_code=1).stderr
    finally:
        (line.parent / "ca" / "unmarked.pem").unlink()
    station(*asked)


def test_undo_asks_and_leaves_the_keys_where_the_answer_is_no(file, tokens):
    done = json.loads(station("ca", "ceremony", file, "--operator", "Ada", "--json").stdout)
    transcript = Path(done["transcript"])
    lines = transcript.read_bytes().split(b"\n")
    transcript.with_name(transcript.name + ".unfinished").write_bytes(b"\n".join(lines[:-3]) + b"\n")
    transcript.unlink()
    refused = CliRunner().invoke(root, ["ca", "ceremony", "--undo", str(file)], input="n\n")
    assert refused.exit_code == 1
    assert "nothing was removed" in refused.stderr
    assert "SHA-256 of its SPKI" in refused.stderr
    assert (file.parent / "root.pem").exists()
    assert "removed key" in station("ca", "ceremony", "--undo", "--yes", file).stdout
    assert "goes with --undo" in station("ca", "ceremony", "--yes", file, exit_code=2).stderr
