"""``station ca revoke``, ``hold``, ``release``, ``revoked``, ``crl`` and ``ocsp``, with a real token."""

import datetime as dt
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from hsm import TokenUri, init_ca
from hsm.journal import CaJournal, Reservation, certificate_sha256
from hsm.revocation import read_crl
from hsm.serials import new_serial
from hsm.testing import make_csr
from station.cli.ca_journal import parse_date, parse_serial
from station.cli.root import root
from station.config import load
from station.config.certificates import load_certificate
from station.crl_places import crl_places, key_identifier, names_issuer
from station.errors import StationError

PROFILE = """
order = "none"
keys = ["p256"]
max_size = 1536
subject = { CN = "{request}" }
validity = { days = 30 }

[extensions]
basic_constraints = true
subject_key_identifier = true
key_usage = ["digitalSignature"]
extended_key_usage = ["clientAuth"]
"""


def invoke(*arguments, exit_code=0, stdin=None):
    result = CliRunner().invoke(root, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == exit_code, result.output
    return result


def error(*arguments):
    """Return the one line that a command fails with."""
    result = invoke(*arguments, exit_code=1)
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A CA with a batch of three certificates, to be copied."""
    folder = tmp_path_factory.mktemp("template") / "line"
    station = [sys.executable, "-c", "from station.cli import main; main()"]
    subprocess.run([*station, "init", folder, "--softhsm", "--rehearsal", "1"], check=True, capture_output=True)
    (folder / "service.toml").write_text(PROFILE)
    text = (folder / "station.toml").read_text()
    (folder / "station.toml").write_text(text.replace("[ca]\n", '[ca]\nunordered = ["service.toml"]\n', 1))
    (folder / "requests").mkdir()
    for name in ("alice", "bob", "carol"):
        request = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        files = ["-keyout", folder / "key.pem", "-subj", f"/CN={name}", "-out", folder / "requests" / f"{name}.csr"]
        subprocess.run([*request, *files], check=True, capture_output=True)
    sign = ["ca", "sign-batch", "requests", "--profile", "./service.toml", "--batch", "2026-07", "--out", "issued"]
    subprocess.run([*station, *sign], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def line(template, tmp_path, monkeypatch):
    """The folder of a line; commands run in it."""
    shutil.copytree(template, tmp_path / "line")
    text = (tmp_path / "line" / "station.toml").read_text().replace(str(template), str(tmp_path / "line"))
    (tmp_path / "line" / "station.toml").write_text(f'{text}\n[crl]\nurl = "http://crl.example.com"\n')
    conf = tmp_path / "line" / "tokens" / "softhsm2.conf"
    conf.write_text(conf.read_text().replace(str(template), str(tmp_path / "line")))
    monkeypatch.chdir(tmp_path / "line")
    return tmp_path / "line"


def serial(line, name):
    certificate = x509.load_pem_x509_certificate((line / "issued" / f"{name}.pem").read_bytes())
    return f"{certificate.serial_number:032x}"


def revoked():
    return {
        row["serial"]: row["reason"] for row in map(json.loads, invoke("ca", "revoked", "--json").stdout.splitlines())
    }


# -- revoke, hold, release


def test_revoke_by_serial(line):
    said = invoke("ca", "revoke", serial(line, "bob"), "--reason", "keyCompromise").stdout
    assert said.startswith(f"revoked: {serial(line, 'bob')} (CN=bob)")
    assert revoked() == {serial(line, "bob"): "keyCompromise"}


def test_revoke_takes_serials_as_people_copy_them(line):
    digits = serial(line, "bob").upper()
    colons = ":".join(digits[index : index + 2] for index in range(0, len(digits), 2))
    invoke("ca", "revoke", colons, "--reason", "superseded")
    assert list(revoked()) == [serial(line, "bob")]


def test_revoke_by_batch_asks_before(line):
    said = invoke("ca", "revoke", "--batch", "2026-07", "--reason", "superseded", "--dry-run").stdout
    assert said.count("CN=") == 3
    assert "add --yes" in error("ca", "revoke", "--batch", "2026-07", "--reason", "superseded")
    assert revoked() == {}
    invoke("ca", "revoke", "--batch", "2026-07", "--reason", "superseded", "--yes")
    assert len(revoked()) == 3


def test_several_say_which_were_revoked_before(line):
    invoke("ca", "revoke", serial(line, "bob"), "--reason", "keyCompromise")
    done = json.loads(invoke("ca", "revoke", "--batch", "2026-07", "--reason", "superseded", "--yes", "--json").stdout)
    assert done["unchanged"] == [serial(line, "bob")]
    assert len(done["done"]) == 2
    assert revoked()[serial(line, "bob")] == "keyCompromise"


def test_hold_and_release(line):
    invoke("ca", "hold", serial(line, "bob"))
    assert revoked() == {serial(line, "bob"): "certificateHold"}
    invoke("ca", "release", serial(line, "bob"))
    assert revoked() == {}


@pytest.mark.parametrize(
    ("before", "command", "sentence"),
    [
        ("revoke", "revoke", "that is for good"),
        ("revoke", "hold", "that is for good"),
        ("revoke", "release", "that is for good"),
        ("hold", "hold", "is on hold since"),
        (None, "release", "is not on hold"),
    ],
)
def test_what_cannot_be_is_one_line(line, before, command, sentence):
    name = serial(line, "bob")
    more = {"revoke": ["--reason", "superseded"]}
    if before is not None:
        invoke("ca", before, name, *more.get(before, []))
    assert sentence in error("ca", command, name, *more.get(command, []))


def test_date_is_the_invalidity_date(line):
    invoke("ca", "revoke", serial(line, "bob"), "--reason", "keyCompromise", "--date", "2026-01-31")
    (row,) = map(json.loads, invoke("ca", "revoked", "--json").stdout.splitlines())
    assert row["invalid_since"] == "2026-01-31T00:00:00+00:00"
    assert row["revoked_at"] > row["invalid_since"]


def test_date_in_the_future_is_refused(line):
    assert "future" in error("ca", "revoke", serial(line, "bob"), "--reason", "superseded", "--date", "2999-01-01")


def test_serial_that_is_not_on_record_needs_to_be_meant(line):
    assert "--unknown" in error("ca", "revoke", "abcdef", "--reason", "superseded")
    invoke("ca", "revoke", "abcdef", "--reason", "superseded", "--unknown")
    assert list(revoked()) == [f"{0xABCDEF:032x}"]


@pytest.mark.parametrize(
    ("option", "value"), [("--unit", "SN999999"), ("--order", "WO-nowhere"), ("--batch", "nowhere")]
)
def test_what_is_not_there_is_one_line(line, option, value):
    assert value in error("ca", "revoke", option, value, "--reason", "superseded")


def test_one_choice_is_needed(line):
    assert invoke("ca", "revoke", "--reason", "superseded", exit_code=2)
    assert invoke("ca", "revoke", "ab", "--batch", "x", "--reason", "superseded", exit_code=2)


def test_reason_is_needed_and_one_of_the_rfc(line):
    invoke("ca", "revoke", "ab", exit_code=2)
    assert "keyCompromise" in invoke("ca", "revoke", "ab", "--reason", "stolen", exit_code=2).stderr


@pytest.mark.parametrize("text", ["", "xyz", "0", "-1", "0x", "12 34", "f" * 41, "1_0"])
def test_what_is_no_serial_is_refused(text):
    with pytest.raises(StationError):
        parse_serial(text)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "31.01.2026"])
def test_what_is_no_date_is_refused(text):
    with pytest.raises(StationError):
        parse_date(text)


def test_certificate_of_another_ca_is_refused(line):
    """The journal may hold those of an issuer that was there before."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("Other", "Root")]
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(names[1], names[0], key.public_key(), 1, now, now + dt.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    (line / "ca" / "other.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    config = line / "station.toml"
    config.write_text(config.read_text().replace("ca/intermediate.pem", "ca/other.pem"))
    assert "was issued by another CA" in error("ca", "revoke", serial(line, "bob"), "--reason", "superseded")


def test_journal_that_is_busy_for_long_is_told(line, monkeypatch):
    monkeypatch.setattr("station.cli.ca_journal.PATIENCE", 0.2)
    with CaJournal.open(line / "ca" / "ca.db"):
        assert "writes to it" in error("ca", "hold", serial(line, "bob"))


# -- what was given up


def test_pending_is_what_was_given_up_and_not_revoked(line):
    assert "nothing" in invoke("ca", "revoked", "--pending").stdout
    with CaJournal.open(line / "ca" / "ca.db") as journal:
        given_up = give_up(journal)
    result = invoke("ca", "revoked", "--pending", exit_code=1)
    assert given_up in result.stdout
    assert "1 more were given up" in invoke("ca", "hold", serial(line, "bob")).stdout
    invoke("ca", "revoke", "--void", "--reason", "superseded")
    assert given_up in revoked()
    invoke("ca", "revoked", "--pending")


def give_up(journal):
    """Intend a certificate and give it up, as a program that died does."""
    issuer = load_certificate(load(journal.path.parent.parent / "station.toml").ca.certificate)
    tbs = b"0\x00" + names_issuer(issuer)
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    draft = SimpleNamespace(tbs=tbs, tbs_sha256=hashlib.sha256(tbs).digest(), serial=new_serial(1), not_after=soon)
    intent = journal.reserve_blocking(
        Reservation(certificate_sha256(issuer), "tls-client", "CN=lost", bytes(32), draft, "2026-07")
    )
    journal.void_blocking(intent.issuance_id, "it got lost")
    return f"{intent.serial:032x}"


# -- lists


def test_publish_shows_what_it_made(line):
    said = invoke("ca", "crl", "publish").stdout
    assert [row.split()[1:3] for row in said.splitlines()[1:]] == [["1", "0"]] * 3
    rows = [json.loads(row) for row in invoke("ca", "crl", "publish", "--json").stdout.splitlines()]
    assert [row["scope"] for row in rows] == ["full", "delta", "shard:2026-07", "shard:WO-0001"]
    assert {row["number"] for row in rows} == {2}


def test_publish_due_makes_what_a_recall_needs(line):
    invoke("ca", "crl", "publish")
    invoke("ca", "crl", "publish", "--due")
    assert invoke("ca", "crl", "publish", "--due").stdout == "nothing is due\n"
    invoke("ca", "revoke", serial(line, "bob"), "--reason", "superseded")
    rows = [json.loads(row) for row in invoke("ca", "crl", "publish", "--due", "--json").stdout.splitlines()]
    assert [(row["scope"], row["entries"]) for row in rows] == [("delta", 1), ("shard:2026-07", 1)]


def test_publish_goes_where_it_is_told(line, tmp_path):
    invoke("ca", "crl", "publish", tmp_path / "www")
    assert (tmp_path / "www" / "shards" / "2026-07.crl").exists()


def test_publish_without_a_folder_says_what_to_write(line):
    text = (line / "station.toml").read_text()
    (line / "station.toml").write_text(text[: text.rindex("[crl]")])
    assert 'directory = "crl"' in error("ca", "crl", "publish")
    invoke("ca", "crl", "publish", "lists")
    assert [path.name for path in (line / "lists").iterdir()] == ["full.crl"]


def test_older_journal_is_refused_until_what_is_published_is_adopted(line):
    journal = line / "ca" / "ca.db"
    shutil.copy(journal, line / "backup.db")
    invoke("ca", "revoke", serial(line, "bob"), "--reason", "keyCompromise")
    invoke("ca", "crl", "publish")
    shutil.copy(line / "backup.db", journal)
    assert "station ca crl adopt" in error("ca", "crl", "publish")
    assert invoke("ca", "crl", "adopt").stdout == "1 revocations taken over; the next list has number 2\n"
    invoke("ca", "crl", "publish")
    assert revoked() == {serial(line, "bob"): "keyCompromise"}
    assert len(read_crl(line / "crl" / "shards" / "2026-07.crl")) == 1


@pytest.mark.parametrize(
    "command", [("make", "one.crl"), ("publish", "elsewhere"), ("publish", "--due"), ("publish", "elsewhere", "--due")]
)
def test_older_journal_is_refused_whatever_is_made_of_it(line, command):
    journal = line / "ca" / "ca.db"
    invoke("ca", "crl", "publish")
    shutil.copy(journal, line / "backup.db")
    invoke("ca", "revoke", serial(line, "bob"), "--reason", "keyCompromise")
    invoke("ca", "crl", "publish")
    shutil.copy(line / "backup.db", journal)
    assert "station ca crl adopt" in error("ca", "crl", *command)
    assert not (line / "one.crl").exists()
    assert not (line / "elsewhere").exists()


@pytest.mark.parametrize("command", [("presign", "ocsp"), ("serve", "--listen", "127.0.0.1:0")])
def test_older_journal_answers_nothing(line, command):
    journal = line / "ca" / "ca.db"
    invoke("ca", "ocsp", "init")
    shutil.copy(journal, line / "backup.db")
    invoke("ca", "revoke", serial(line, "bob"), "--reason", "keyCompromise")
    invoke("ca", "crl", "publish")
    shutil.copy(line / "backup.db", journal)
    assert "older copy" in error("ca", "ocsp", *command)


def test_publish_due_makes_what_never_reached_the_folder(line, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    invoke("ca", "crl", "publish")
    invoke("ca", "crl", "publish", "--due")  # the delta
    invoke("ca", "revoke", serial(line, "bob"), "--reason", "keyCompromise")
    with monkeypatch.context() as patch:
        patch.setattr("hsm.revocation.folder.replace_file", full)
        assert "No space left" in error("ca", "crl", "publish")
    invoke("ca", "crl", "publish", "--due")
    assert len(read_crl(line / "crl" / "shards" / "2026-07.crl")) == 1
    assert invoke("ca", "crl", "publish", "--due").stdout == "nothing is due\n"


@pytest.mark.parametrize("form", ["der", "pem"])
def test_make_writes_one_list(line, form):
    invoke("ca", "revoke", serial(line, "bob"), "--reason", "superseded")
    said = invoke("ca", "crl", "make", "recall.crl", "--shard", "2026-07", "--format", form).stdout
    assert said.startswith("made recall.crl: number 1, 1 entries")
    assert (line / "recall.crl").read_bytes().startswith(b"-----BEGIN X509 CRL") is (form == "pem")
    assert len(read_crl(line / "recall.crl")) == 1


def test_make_says_why_there_is_no_delta(line):
    assert "make the full one first" in error("ca", "crl", "make", "delta.crl", "--delta")


def test_make_refuses_two_lists_at_once(line):
    invoke("ca", "crl", "make", "x.crl", "--delta", "--shard", "x", exit_code=2)


def test_show_says_what_openssl_says(line):
    invoke("ca", "revoke", serial(line, "bob"), "--reason", "keyCompromise", "--date", "2026-01-31")
    invoke("ca", "crl", "publish")
    shown = json.loads(invoke("ca", "crl", "show", "--json", "crl/shards/2026-07.crl").stdout)
    openssl = ["openssl", "crl", "-inform", "der", "-in", "crl/shards/2026-07.crl", "-noout", "-crlnumber"]
    said = subprocess.run(openssl, capture_output=True, text=True, check=True).stdout
    assert int(said.strip().partition("=")[2], 16) == shown["number"] == 1
    assert shown["entries"] == "1 (keyCompromise 1)"
    assert shown["only_for"] == "http://crl.example.com/shards/2026-07.crl"
    assert "delta_at" in json.loads(invoke("ca", "crl", "show", "--json", "crl/full.crl").stdout)
    lines = invoke("ca", "crl", "show", "--entries", "crl/full.crl").stdout.splitlines()
    assert lines[-1].startswith(serial(line, "bob"))
    assert lines[-1].endswith("keyCompromise, not to be trusted since 2026-01-31 00:00:00Z")


@pytest.mark.parametrize("content", [b"", b"no list", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"])
def test_show_refuses_what_is_no_list(line, content):
    (line / "x.crl").write_bytes(content)
    assert "neither DER nor PEM" in error("ca", "crl", "show", "x.crl")


# -- OCSP


def test_init_makes_a_key_of_its_own(line):
    said = json.loads(invoke("ca", "ocsp", "init", "--json").stdout)
    certificate = x509.load_pem_x509_certificate((line / "ca" / "ocsp.pem").read_bytes())
    assert f"{certificate.serial_number:032x}" == said["serial"]
    certificate.verify_directly_issued_by(
        x509.load_pem_x509_certificate((line / "ca" / "intermediate.pem").read_bytes())
    )


def test_init_overwrites_only_what_is_to_be_renewed(line):
    invoke("ca", "ocsp", "init")
    before = (line / "ca" / "ocsp.pem").read_bytes()
    assert "--renew" in error("ca", "ocsp", "init")
    assert (line / "ca" / "ocsp.pem").read_bytes() == before
    assert "start 'station ca ocsp serve' again" in invoke("ca", "ocsp", "init", "--renew").stdout
    assert (line / "ca" / "ocsp.pem").read_bytes() != before


def test_responder_whose_certificate_is_over_does_not_begin_to_answer(line, monkeypatch):
    class Later(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + dt.timedelta(days=31)

    invoke("ca", "ocsp", "init")
    monkeypatch.setattr("station.cli.ca_ocsp.datetime", Later)
    said = invoke("ca", "ocsp", "serve", "--listen", "127.0.0.1:0", exit_code=1)
    assert "answering" not in said.stdout
    assert "renew it with 'station ca ocsp init'" in said.stderr


def test_presign_answers_for_each_certificate_and_does_nothing_twice(line):
    invoke("ca", "ocsp", "init")
    first = json.loads(invoke("ca", "ocsp", "presign", "ocsp", "--json").stdout)
    again = json.loads(invoke("ca", "ocsp", "presign", "ocsp", "--json").stdout)
    assert (first["signed"], first["fresh"]) == (4, 0)
    assert (again["signed"], again["fresh"]) == (0, 4)
    invoke("ca", "revoke", serial(line, "bob"), "--reason", "superseded")
    assert invoke("ca", "ocsp", "presign", "ocsp").stdout.startswith("signed 1, left 3 as they are")


@pytest.mark.parametrize("command", [("presign", "ocsp"), ("serve", "--listen", "127.0.0.1:0")])
def test_without_a_certificate_the_responder_says_what_to_do(line, command):
    assert "station ca ocsp init" in error("ca", "ocsp", *command)


@pytest.mark.parametrize("address", ["8080", "localhost", "localhost:x", "localhost:99999", ":80"])
def test_address_is_host_and_port(line, address):
    assert "HOST:PORT" in invoke("ca", "ocsp", "serve", "--listen", address, exit_code=2).stderr


@pytest.mark.parametrize("span", ["", "1", "1w", "0d", "-1d", "99999d"])
def test_span_of_time_is_a_number_and_a_unit(line, span):
    assert "span of time" in invoke("ca", "ocsp", "presign", "x", "--valid", span, exit_code=2).stderr


def test_certificate_of_somebody_else_is_refused(line):
    assert "OCSPSigning" in error("ca", "ocsp", "presign", "ocsp", "--certificate", "ca/root.pem")


# -- the configuration


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ('every = "1w"', "span of time"),
        ("every = 60", "must be text"),
        ('url = "crl.example.com"', "is not the URL of a folder"),
        ('url = "ftp://crl.example.com"', "is not the URL of a folder"),
        ('folder = "crl"', "unknown key 'folder' in [crl]"),
    ],
)
def test_mistake_in_the_section_is_told_with_its_line(line, key, sentence):
    path = line / "station.toml"
    text = path.read_text()
    path.write_text(f"{text[: text.rindex('[crl]')]}[crl]\n{key}\n")
    said = error("ca", "revoked")
    assert sentence in said
    assert f"station.toml:{len(path.read_text().splitlines())}:" in said


# -- several issuing CAs


@pytest.fixture
def two(line):
    """A second issuing CA in the same tokens."""
    uri = "pkcs11:token={0};object=second?module-name=softhsm2&pin-source=file:{1}/tokens/pins/{0}"
    tokens = {"root": uri.format("root", line), "other": uri.format("intermediate", line)}
    environment = {"SOFTHSM2_CONF": str(line / "tokens" / "softhsm2.conf")}
    made = init_ca(
        root=TokenUri.parse(tokens["root"]),
        intermediate=TokenUri.parse(tokens["other"]),
        name="Second REHEARSAL",
        folder=line / "second",
        environment=environment,
    )
    with (line / "station.toml").open("a") as file:
        file.write(f'\n[[issuer]]\ntoken = "{tokens["other"]}"\n')
        file.write('certificate = "second/intermediate.pem"\nroot = "second/root.pem"\n')
    return made.intermediate


def test_each_issuer_has_lists_of_its_own(line, two):
    rows = [json.loads(row) for row in invoke("ca", "crl", "publish", "--json").stdout.splitlines()]
    theirs = line / "crl" / key_identifier(two).hex()
    assert {Path(row["file"]).parent for row in rows if row["scope"] == "full"} == {line / "crl", theirs}
    assert read_crl(theirs / "full.crl").is_signature_valid(two.public_key())
    assert not read_crl(line / "crl" / "full.crl").is_signature_valid(two.public_key())
    freshest = read_crl(theirs / "full.crl").extensions.get_extension_for_class(x509.FreshestCRL).value
    assert freshest[0].full_name[0].value == f"http://crl.example.com/{key_identifier(two).hex()}/delta.crl"


def test_one_list_of_a_further_issuer(line, two):
    invoke("ca", "crl", "make", "second.crl", "--issuer", "second/intermediate.pem")
    assert read_crl(line / "second.crl").issuer == two.subject
    assert "neither" in error("ca", "crl", "make", "x.crl", "--issuer", "ca/root.pem")


def test_responder_of_a_further_issuer_has_files_of_its_own(line, two):
    invoke("ca", "ocsp", "init", "--issuer", "second/intermediate.pem")
    (path,) = (line / "ca").glob("ocsp-*.pem")
    load_certificate(path).verify_directly_issued_by(two)
    first = json.loads(invoke("ca", "ocsp", "presign", "a", "--issuer", "second/intermediate.pem", "--json").stdout)
    assert first["signed"] == 1  # its own; the batch is the other CA's


def test_lists_are_signed_with_pss_by_the_issuers_that_sign_a_profile_that_says_so(line, two):
    (line / "pss.toml").write_text('rsa_signature = "pss"\n' + PROFILE)
    text = (line / "station.toml").read_text().replace('"idevid"', '"./pss.toml"', 1)
    (line / "station.toml").write_text(text)
    assert [place.pss for place in crl_places(load(line / "station.toml"), line / "crl")] == [True, True]
    (line / "station.toml").write_text(f'{text}profiles = ["tls-server"]\n')
    assert [place.pss for place in crl_places(load(line / "station.toml"), line / "crl")] == [True, False]


@pytest.fixture
def named(line, two):
    """The second issuing CA signs servers only."""
    with (line / "station.toml").open("a") as file:
        file.write('profiles = ["tls-server"]\n')
    return two


def issued_by(line, profile, *more):
    """Issue a certificate for a fresh key; return who signed it."""
    (line / "new.csr").write_bytes(make_csr())
    (line / "new.pem").unlink(missing_ok=True)
    what = ["--field", "product_serial=x"] if profile == "tls-client" else ["--san", "dns:www.example.com"]
    invoke("ca", "issue", "--profile", profile, *what, "--csr", "new.csr", "--out", "new.pem", *more)
    return load_certificate(line / "new.pem").issuer


def test_issuer_that_names_a_profile_signs_it_and_is_counted(line, named):
    first = load_certificate(line / "ca" / "intermediate.pem").subject
    assert issued_by(line, "tls-server") == named.subject
    assert issued_by(line, "tls-client") == first
    assert issued_by(line, "tls-server", "--issuer", "ca/intermediate.pem") == first
    assert invoke("ca", "audit").stdout.count("ok") == 3  # both, and the ledger key


def test_issuer_of_other_profiles_is_refused(line, named):
    (line / "new.csr").write_bytes(make_csr())
    arguments = ["--profile", "tls-client", "--field", "product_serial=x", "--csr", "new.csr"]
    assert "signs tls-server only" in error("ca", "issue", *arguments, "--issuer", "second/intermediate.pem")
    assert "neither [ca] nor an [[issuer]]" in error("ca", "issue", *arguments, "--issuer", "ca/root.pem")
