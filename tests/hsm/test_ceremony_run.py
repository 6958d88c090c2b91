"""A ceremony is done whole, or not at all; on real tokens, with failures where they hurt."""

import datetime as dt
import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from hsm import CeremonyError, KeyMissing, KeyUnfit, Signer, TokenUri, find_key, read_counts, read_facts
from hsm.ceremony import TokenChoice, load_plan, run_ceremony, undo_killed, verify_transcript
from hsm.ceremony.transcript import Transcript
from hsm.key_store import BACKED_UP, label_taken
from hsm.root_mark import root_in
from hsm.testing import ceremony_tokens, open_signer
from softhsm import make_tokens

TOKENS = ("root", "line", "safe")

HEAD = """\
[ceremony]
name = "Test"
operators = ["Ada"]
[token]
root = { uri = "pkcs11:token=root" }
line = { uri = "pkcs11:token=line" }
safe = { uri = "pkcs11:token=safe" }
"""

ROOT = """
[[step]]
mode = "root"
token = "root"
label = "root-1"
key = "p256"
subject = { O = "Acme", CN = "Root" }
years = 20
certificate = "root.pem"
"""

KEPT_ROOT = ROOT + "backup = true\n"

LINE = """
[[step]]
mode = "intermediate"
issuer = "root.pem"
token = "line"
label = "line-1"
key = "p256"
subject = { O = "Acme", CN = "Line" }
years = 10
certificate = "line.pem"
"""

BACKUP = """
[[step]]
mode = "backup"
of = "root.pem"
to = "safe"
"""

DRILL = """
[[step]]
mode = "restore-drill"
of = "root.pem"
token = "safe"
"""


REQUEST = """
[[step]]
mode = "request"
token = "line"
label = "line-2"
key = "p256"
subject = { O = "Acme", CN = "Line 2" }
request = "line-2.csr"
"""

CRL = """
[[step]]
mode = "crl"
issuer = "root.pem"
days = 180
crl = "root.crl"
"""


@pytest.fixture
def tokens(tmp_path):
    return make_tokens(tmp_path / "hsm", TOKENS)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "work"
    made.mkdir()
    return made


def plan_of(tokens, folder, *parts, name="x"):
    path = folder / f"{name}.toml"
    path.write_text("".join((HEAD, *parts)))
    plan = load_plan(path, now=dt.datetime.now(dt.UTC))
    choices = {token: TokenChoice(TokenUri.parse(tokens.uri(token)), tokens.environment) for token in TOKENS}
    return replace(plan, tokens=choices)


def labels(tokens, *wanted):
    """Return which (token, label) there are."""
    found = []
    for token in TOKENS:
        with open_signer(tokens, token) as signer:
            found += [(token, label) for label in wanted if label_taken(signer, label)]
    return found


def entries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def read(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_it_leaves_certificates_and_a_transcript_and_nothing_else(tokens, folder):
    done = run_ceremony(plan_of(tokens, folder, ROOT, LINE))
    assert [path.name for path in done.files] == ["root.pem", "line.pem"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "line.pem",
        "root.pem",
        "x.toml",
        "x.transcript.jsonl",
    ]
    read(folder / "line.pem").verify_directly_issued_by(read(folder / "root.pem"))


def test_each_signature_of_a_ceremony_is_one_line_of_its_transcript(tokens, folder, tmp_path, monkeypatch):
    """Ceremonies are not counted with the line's signatures; this is what stands in for the count."""
    login = Signer.open
    monkeypatch.setattr(Signer, "open", lambda *uri, **options: login(*uri, **options, counts=tmp_path / "counts"))
    done = run_ceremony(plan_of(tokens, folder, KEPT_ROOT, LINE, BACKUP, DRILL, REQUEST, CRL))
    said = [line["what"] for line in entries(done.transcript) if line["event"] == "sign"]
    counts = read_counts(tmp_path / "counts").values()
    assert sum(one.signatures for one in counts) == len([what for what in said if what != "challenge"]) == 5
    assert sum(one.probes for one in counts) == said.count("challenge") == 2


def test_the_transcript_says_who_what_and_where(tokens, folder):
    plan = plan_of(tokens, folder, ROOT, LINE)
    done = run_ceremony(plan, operators=["Grace"])
    lines = entries(done.transcript)
    assert lines[0]["operators"] == ["Ada", "Grace"]
    assert lines[0]["file_sha256"] == plan.sha256.hex()
    assert lines[0]["rehearsal"] is False
    with open_signer(tokens, "root") as signer:
        facts = read_facts(find_key(signer, read(folder / "root.pem").public_key()))
        serial = signer.token.serial
    key = next(line for line in lines if line["event"] == "key")
    assert (key["token"], key["label"], key["id"]) == (serial, "root-1", facts.key_id.hex())
    assert key["attributes"] == dict(facts.attributes)
    assert serial in {line["serial"] for line in lines if line["event"] == "token"}
    assert [line["what"] for line in lines if line["event"] == "sign"] == ["certificate", "certificate", "transcript"]
    assert lines[-1]["verify_with"] == "root.pem"


def test_no_pin_and_no_pin_file_is_in_the_transcript(tokens, folder):
    done = run_ceremony(plan_of(tokens, folder, ROOT))
    text = done.transcript.read_text()
    assert "pin" not in text.lower()
    assert all((tokens.directory / "pins" / token).read_text().strip() not in text for token in TOKENS)


def test_without_an_operator_nothing_is_done(tokens, folder):
    plan = replace(plan_of(tokens, folder, ROOT), operators=())
    with pytest.raises(CeremonyError, match="--operator NAME") as caught:
        run_ceremony(plan)
    assert caught.value.code == "ceremony.no_operator"
    assert labels(tokens, "root-1") == []


@pytest.mark.parametrize("file", ["root.pem", "line.pem", "x.transcript.jsonl"])
def test_a_file_that_is_there_stops_it_before_the_first_step(tokens, folder, file):
    plan = plan_of(tokens, folder, ROOT, LINE)
    (folder / file).write_text("mine")
    with pytest.raises(CeremonyError, match=f"{file} is there already") as caught:
        run_ceremony(plan)
    assert caught.value.code == "ceremony.file_exists"
    assert (folder / file).read_text() == "mine"
    assert labels(tokens, "root-1", "line-1") == []


def test_a_label_that_is_there_stops_it_before_the_first_step(tokens, folder):
    run_ceremony(plan_of(tokens, folder, ROOT))
    again = plan_of(tokens, folder, ROOT.replace("root.pem", "root-2.pem"), name="y")
    with pytest.raises(CeremonyError, match="holds a key called 'root-1' already") as caught:
        run_ceremony(again)
    assert caught.value.code == "ceremony.label_taken"
    assert not list(folder.glob("*y.transcript*"))


def test_a_step_that_fails_undoes_those_before_it(tokens, folder):
    """The last step wants the key of the root in a token that does not hold it."""
    plan = plan_of(tokens, folder, ROOT, LINE, DRILL)
    with pytest.raises(CeremonyError, match=r"step 3 \(restore-drill, line 29\).*does not hold") as caught:
        run_ceremony(plan)
    assert caught.value.code == "key.missing"
    assert labels(tokens, "root-1", "line-1") == []
    assert sorted(path.suffix for path in folder.iterdir() if not path.name.startswith("x.transcript")) == [".toml"]
    (kept,) = folder.glob("x.transcript.jsonl.undone-*")
    last = entries(kept)[-1]
    assert last["event"] == "undone"
    assert len(last["removed"]) == 4
    assert last["left"] == []
    assert run_ceremony(plan_of(tokens, folder, ROOT, LINE)).files


def test_a_disk_that_fails_undoes_all(tokens, folder, monkeypatch):
    def fail(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("hsm.ceremony.bench.write_new", fail)
    with pytest.raises(CeremonyError, match=r"root\.pem can't be read or written: No space left on device"):
        run_ceremony(plan_of(tokens, folder, ROOT))
    monkeypatch.undo()
    assert labels(tokens, "root-1") == []
    assert run_ceremony(plan_of(tokens, folder, ROOT)).files


def test_a_certificate_that_breaks_a_rule_is_not_signed(tokens, folder):
    """The plan was loaded ten years ago, and by now the intermediate would outlive its root."""
    run_ceremony(plan_of(tokens, folder, ROOT))
    late = plan_of(tokens, folder, LINE.replace("years = 10", 'years = 10\nissuer_token = "root"'), name="y")
    future = dt.datetime.now(dt.UTC) + dt.timedelta(days=3653 * 2 - 100)
    with pytest.raises(CeremonyError, match=r"validity\.outside_issuer") as caught:
        run_ceremony(late, clock=lambda: future)
    assert caught.value.code == "validity.outside_issuer"
    (kept,) = folder.glob("y.transcript.jsonl.undone-*")
    assert not [line for line in entries(kept) if line["event"] == "sign"]
    assert labels(tokens, "line-1") == []


def test_ctrl_c_waits_for_the_act_and_undoes_all(tokens, folder):
    said = []

    def press(line):
        said.append(line)
        if line.startswith("made the p256 key 'line-1'"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_ceremony(plan_of(tokens, folder, ROOT, LINE), report=press)
    assert said[-1].startswith("undone: keys and files of this run are removed")
    assert labels(tokens, "root-1", "line-1") == []
    assert not list(folder.glob("*.pem"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_stop_the_undoing(tokens, folder):
    def press(_):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run_ceremony(plan_of(tokens, folder, ROOT, LINE), report=press)
    assert labels(tokens, "root-1", "line-1") == []


KILLED = """
import datetime as dt, os, signal, sys
from dataclasses import replace
from pathlib import Path
from hsm import TokenUri
from hsm.ceremony import TokenChoice, load_plan, run_ceremony
path, conf, at, *uris = sys.argv[1:]
plan = load_plan(Path(path), now=dt.datetime.now(dt.UTC))
choices = {n: TokenChoice(TokenUri.parse(u), {"SOFTHSM2_CONF": conf}) for n, u in zip(("root", "line", "safe"), uris)}
def report(line):
    if line.startswith(at):
        os.kill(os.getpid(), signal.SIGKILL)
run_ceremony(replace(plan, tokens=choices), report=report)
"""


@pytest.mark.parametrize(
    ("at", "left"),
    [
        ("step 1", []),
        ("made the p256 key 'root-1'", [("root", "root-1")]),
        ("signed CN=Root", [("root", "root-1")]),
        ("closed", [("root", "root-1"), ("safe", "root-1")]),
        ("signed CN=Line", [("root", "root-1"), ("line", "line-1"), ("safe", "root-1")]),
    ],
)
def test_kill_9_is_undone_by_name(tokens, folder, at, left):
    plan = plan_of(tokens, folder, KEPT_ROOT, BACKUP, LINE)
    command = [sys.executable, "-c", KILLED, plan.path, tokens.conf, at, *(tokens.uri(token) for token in TOKENS)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert labels(tokens, "root-1", "line-1") == left
    with pytest.raises(CeremonyError, match=r"--undo .*x\.toml' removes what it made") as caught:
        run_ceremony(plan)
    assert caught.value.code == "ceremony.unfinished"
    undone = undo_killed(plan, confirm=lambda _: True)
    assert entries(undone)[-1]["event"] == "undone"
    assert labels(tokens, "root-1", "line-1") == []
    assert not list(folder.glob("*.pem"))
    assert run_ceremony(plan).files


def killed(plan, folder, *, sha256=None):
    """Return the transcript of a ceremony that was killed right after it began."""
    digest = sha256 or plan.sha256.hex()
    return Transcript.begin(folder / plan.transcript, lambda: dt.datetime.now(dt.UTC), file_sha256=digest)


def test_undo_leaves_files_of_others_alone(tokens, folder):
    """A killed ceremony had announced a file; somebody wrote another one there since."""
    plan = plan_of(tokens, folder, ROOT)
    with closing(killed(plan, folder)) as transcript:
        transcript.add("output", file="root.pem", size=3, sha256="00" * 32)
    (folder / "root.pem").write_text("somebody else's")
    undo_killed(plan, confirm=lambda _: True)
    assert (folder / "root.pem").read_text() == "somebody else's"


def test_undo_removes_no_key_that_the_file_does_not_make(tokens, folder):
    """A transcript that somebody made up can't be used to destroy a key."""
    run_ceremony(plan_of(tokens, folder, ROOT, LINE))
    plan = plan_of(tokens, folder, ROOT.replace("root-1", "root-2").replace("root.pem", "root-2.pem"), name="y")
    with open_signer(tokens, "root") as signer:
        serial = signer.token.serial
    with closing(killed(plan, folder)) as transcript:
        transcript.add("make-key", token=serial, label="root-1")
    with pytest.raises(CeremonyError, match="the file makes no key 'root-1'"):
        undo_killed(plan, confirm=lambda _: True)
    assert labels(tokens, "root-1") == [("root", "root-1")]


def forged(plan, folder, tokens, **facts):
    """Write what a killed ceremony would leave in the place of the transcript of one that was done."""
    (folder / plan.transcript).rename(folder / "moved.jsonl")
    with open_signer(tokens, "root") as signer:
        serial = signer.token.serial
    with closing(killed(plan, folder)) as transcript:
        transcript.add("make-key", token=serial, label="root-1", **facts)


@pytest.mark.parametrize("facts", [{}, {"id": None}, {"id": "xx"}])
def test_undo_wants_to_be_told_which_key(tokens, folder, facts):
    plan = plan_of(tokens, folder, ROOT)
    run_ceremony(plan)
    forged(plan, folder, tokens, **facts)
    with pytest.raises(CeremonyError) as caught:
        undo_killed(plan, confirm=lambda _: True)
    assert caught.value.code == "ceremony.no_key_id"
    assert labels(tokens, "root-1") == [("root", "root-1")]


def test_undo_leaves_the_key_of_another_run(tokens, folder):
    """The label is the file's, and so the same in every run; the id is drawn."""
    plan = plan_of(tokens, folder, ROOT)
    run_ceremony(plan)
    forged(plan, folder, tokens, id="00" * 16)
    undo_killed(plan, confirm=lambda _: True)
    assert labels(tokens, "root-1") == [("root", "root-1")]


def test_undo_asks_with_the_digest_of_the_key_before_it_destroys_one(tokens, folder):
    plan = plan_of(tokens, folder, ROOT)
    done = run_ceremony(plan)
    (noted,) = [entry for entry in entries(done.transcript) if entry["event"] == "key"]
    forged(plan, folder, tokens, id=noted["id"])
    asked = []
    with pytest.raises(CeremonyError) as caught:
        undo_killed(plan, confirm=asked.extend)
    assert caught.value.code == "ceremony.not_confirmed"
    assert [key.spki_sha256 for key in asked] == [noted["spki_sha256"]]
    assert labels(tokens, "root-1") == [("root", "root-1")]


def test_keys_of_roots_and_their_copies_are_marked_and_others_are_not(tokens, folder):
    run_ceremony(plan_of(tokens, folder, KEPT_ROOT, BACKUP, LINE))
    found = {}
    for token in TOKENS:
        with open_signer(tokens, token) as signer:
            found[token] = root_in(signer)
    assert found == {"root": "root-1", "safe": "root-1", "line": None}


OTHER_ROOT = ROOT.replace("root", "other").replace('mode = "other"', 'mode = "root"').replace('"Root"', '"Other"')

CROSSED = """
[[step]]
mode = "cross-sign"
of = "other.pem"
issuer = "root.pem"
issuer_token = "root"
years = 10
pathlen = 1
certificate = "crossed.pem"
"""

BELOW = (
    LINE.replace('"root.pem"', '"crossed.pem"\nissuer_token = "safe"')
    .replace("line-1", "below-1")
    .replace("line.pem", "below.pem")
    .replace('CN = "Line"', 'OU = "payroll", CN = "Line"')
)


def test_a_limit_of_the_root_holds_two_below(tokens, folder):
    """What stands between them does not repeat it, and the root is not named: it lies beside the issuer."""
    limit = 'excluded = { directory = [{ O = "Acme", OU = "Payroll" }] }\npathlen = 3\n'
    other = OTHER_ROOT.replace('token = "other"', 'token = "safe"')
    run_ceremony(plan_of(tokens, folder, ROOT, limit, other, CROSSED))
    plan = plan_of(tokens, folder, BELOW.replace("years = 10", "years = 5"), name="y")
    with pytest.raises(CeremonyError, match="OU=payroll") as caught:
        run_ceremony(plan)
    assert caught.value.code == "subject.outside_issuer"


def test_a_ceremony_that_was_done_is_not_undone(tokens, folder):
    plan = plan_of(tokens, folder, ROOT)
    run_ceremony(plan)
    killed(plan, folder).close()
    with pytest.raises(CeremonyError, match="the ceremony was done") as caught:
        undo_killed(plan, confirm=lambda _: True)
    assert caught.value.code == "ceremony.done"
    assert labels(tokens, "root-1") == [("root", "root-1")]


def test_undo_wants_the_file_as_it_was(tokens, folder):
    plan = plan_of(tokens, folder, ROOT)
    killed(plan, folder, sha256="00" * 32).close()
    with pytest.raises(CeremonyError, match="undo with the file as it was") as caught:
        undo_killed(plan, confirm=lambda _: True)
    assert caught.value.code == "ceremony.other_file"


def test_a_list_without_a_number_is_malformed(tokens, folder):
    run_ceremony(plan_of(tokens, folder, ROOT))
    root = read(folder / "root.pem")
    with open_signer(tokens, "root") as signer:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateRevocationListBuilder(root.subject, now, now + dt.timedelta(days=1))
        made = builder.sign(find_key(signer, root.public_key()), hashes.SHA256())
    (folder / "root-0.crl").write_bytes(made.public_bytes(Encoding.DER))
    crl = CRL + 'issuer_token = "root"\nprevious = "root-0.crl"\n'
    with pytest.raises(CeremonyError, match=r"breaks X\.509") as caught:
        run_ceremony(plan_of(tokens, folder, crl, name="crl"))
    assert caught.value.code == "ceremony.malformed"


def test_undo_without_a_killed_ceremony_is_refused(tokens, folder):
    with pytest.raises(CeremonyError, match="nothing to undo") as caught:
        undo_killed(plan_of(tokens, folder, ROOT), confirm=lambda _: True)
    assert caught.value.code == "ceremony.nothing_to_undo"


# -- a root's revocation list

CRL = """
[[step]]
mode = "crl"
issuer = "root.pem"
days = 180
crl = "root-1.crl"
"""

REVOKE = 'revoke = [{ certificate = "line.pem", reason = "keyCompromise" }]\n'


def test_a_revoked_intermediate_stays_on_the_next_list(tokens, folder):
    after = CRL.replace("root-1", "root-2") + 'previous = "root-1.crl"\n'
    done = run_ceremony(plan_of(tokens, folder, ROOT, LINE, CRL, REVOKE, after))
    lists = [x509.load_der_x509_crl((folder / name).read_bytes()) for name in ("root-1.crl", "root-2.crl")]
    numbers = [each.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for each in lists]
    assert numbers == [1, 2]
    serial = read(folder / "line.pem").serial_number
    for each in lists:
        entry = each.get_revoked_certificate_by_serial_number(serial)
        assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise
        assert each.is_signature_valid(read(folder / "root.pem").public_key())
    signed = [line["number"] for line in entries(done.transcript) if line.get("what") == "crl"]
    assert signed == [1, 2]


def test_a_certificate_is_revoked_once(tokens, folder):
    after = CRL.replace("root-1", "root-2") + 'previous = "root-1.crl"\n'
    with pytest.raises(CeremonyError, match=r"line\.pem is on the list already") as caught:
        run_ceremony(plan_of(tokens, folder, ROOT, LINE, CRL, REVOKE, after, REVOKE))
    assert caught.value.code == "ceremony.revoked_already"


def test_a_list_of_another_ca_is_not_continued(tokens, folder):
    other = ROOT.replace('"root"\nlabel = "root-1"', '"safe"\nlabel = "other-1"').replace("root.pem", "other.pem")
    wrong = CRL.replace("root.pem", "other.pem").replace("root-1.crl", "other-1.crl") + 'previous = "root-1.crl"\n'
    with pytest.raises(CeremonyError, match=r"root-1\.crl is not a CRL that CN=Root,O=Acme signed") as caught:
        run_ceremony(plan_of(tokens, folder, ROOT, CRL, other, wrong))
    assert caught.value.code == "ceremony.chain"


def test_a_certificate_of_another_ca_is_not_revoked(tokens, folder):
    with pytest.raises(CeremonyError, match=r"root\.pem is not signed by|is on the list") as caught:
        run_ceremony(
            plan_of(tokens, folder, ROOT, LINE, CRL.replace('"root.pem"', '"line.pem"'), REVOKE.replace("line", "root"))
        )
    assert caught.value.code == "ceremony.chain"


# -- copies


def test_a_copy_signs_for_the_same_public_key(tokens, folder):
    run_ceremony(plan_of(tokens, folder, KEPT_ROOT, BACKUP))
    drill = run_ceremony(plan_of(tokens, folder, DRILL, name="drill"))
    proof = next(line for line in entries(drill.transcript) if line["event"] == "restore-drill")
    assert proof["verified"] is True
    verify_transcript(drill.transcript, read(folder / "root.pem").public_key())


def test_a_copy_can_sign_in_place_of_the_key(tokens, folder):
    """The first token is broken: the second one issues."""
    run_ceremony(plan_of(tokens, folder, KEPT_ROOT, BACKUP))
    below = LINE.replace("years", 'issuer_token = "safe"\nyears')
    run_ceremony(plan_of(tokens, folder, below, name="line"))
    read(folder / "line.pem").verify_directly_issued_by(read(folder / "root.pem"))


def test_after_its_copy_neither_key_can_leave(tokens, folder):
    run_ceremony(plan_of(tokens, folder, KEPT_ROOT, BACKUP))
    public = read(folder / "root.pem").public_key()
    for token, past in (("root", {"NEVER_EXTRACTABLE"}), ("safe", {"NEVER_EXTRACTABLE", "ALWAYS_SENSITIVE", "LOCAL"})):
        with open_signer(tokens, token) as signer:
            with pytest.raises(KeyUnfit):
                find_key(signer, public)
            facts = read_facts(find_key(signer, public, rules=BACKED_UP))
        assert {name for name in past if facts.attributes[name]} == set()
        assert len(facts.broken) == len(past)
        assert facts.attributes["SENSITIVE"]
        assert not facts.attributes["EXTRACTABLE"]


def test_two_copies_are_made_before_the_key_closes(tokens, folder):
    second = BACKUP.replace('"safe"', '"line"')
    done = run_ceremony(plan_of(tokens, folder, KEPT_ROOT, BACKUP, second))
    events = [line["event"] for line in entries(done.transcript)]
    assert events.index("key-closed") > max(index for index, event in enumerate(events) if event == "copy")
    assert events.count("key-closed") == 1
    assert labels(tokens, "root-1") == [(token, "root-1") for token in TOKENS]


def test_a_key_that_was_made_to_stay_can_not_be_copied(tokens, folder):
    run_ceremony(plan_of(tokens, folder, ROOT))
    backup = BACKUP + 'token = "root"\nlabel = "copy"\n'
    with pytest.raises(CeremonyError, match="roll over to a new key") as caught:
        run_ceremony(plan_of(tokens, folder, backup, name="backup"))
    assert caught.value.code == "ceremony.backup"
    assert labels(tokens, "copy") == []


def test_a_failure_after_the_copy_removes_both(tokens, folder):
    drill = DRILL.replace('"safe"', '"line"')
    with pytest.raises(CeremonyError, match="does not hold"):
        run_ceremony(plan_of(tokens, folder, KEPT_ROOT, BACKUP, drill))
    assert labels(tokens, "root-1") == []


@pytest.mark.parametrize("kind", ["p384", "rsa4096"])
def test_each_kind_of_root_can_be_copied(tokens, folder, kind):
    root = KEPT_ROOT.replace('"p256"', f'"{kind}"')
    run_ceremony(plan_of(tokens, folder, root, BACKUP))
    with open_signer(tokens, "safe") as signer:
        assert find_key(signer, read(folder / "root.pem").public_key(), rules=BACKED_UP)


def test_a_drill_on_a_token_without_the_key_fails(tokens, folder):
    run_ceremony(plan_of(tokens, folder, ROOT))
    with pytest.raises(CeremonyError, match="does not hold the private key") as caught:
        run_ceremony(plan_of(tokens, folder, DRILL, name="drill"))
    assert isinstance(caught.value.__cause__.__cause__, KeyMissing)


def test_tokens_of_a_rehearsal_can_be_made_by_name(tmp_path):
    choices = ceremony_tokens(tmp_path, ["one", "two"])
    assert [choice.uri.token for choice in choices.values()] == ["one", "two"]


PAA = """
[[step]]
mode = "root"
profile = "matter-paa"
token = "root"
label = "paa"
key = "p256"
subject = { CN = "Acme PAA", VID = "FFF1" }
years = 20
certificate = "paa.pem"
"""

PAI = """
[[step]]
mode = "intermediate"
profile = "matter-pai"
issuer = "paa.pem"
token = "line"
label = "pai"
key = "p256"
subject = { CN = "Acme PAI", VID = "FFF1" }
years = 10
crl_urls = ["http://pki.acme.example/paa.crl"]
certificate = "pai.pem"
"""


def test_intermediate_that_breaks_the_rules_of_its_profile_is_not_signed_and_all_is_undone(tokens, folder):
    with pytest.raises(CeremonyError) as caught:
        run_ceremony(plan_of(tokens, folder, PAA, PAI.replace("FFF1", "FFF2")))
    assert caught.value.code == "subject.vid.differs"
    assert not (folder / "paa.pem").exists()
    assert labels(tokens, "paa", "pai") == []


def test_profile_lets_the_file_say_where_the_list_of_the_issuer_is(tokens, folder):
    run_ceremony(plan_of(tokens, folder, PAA, PAI))
    points = read(folder / "pai.pem").extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert points[0].full_name[0].value == "http://pki.acme.example/paa.crl"
