"""``station ca profiles``, ``ca issue`` and ``ca sign-batch``, with a real token."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from hsm.journal import CaJournal, JournalReader
from hsm.profile_file import names
from hsm.testing import make_csr
from station.cli.root import root

STATION = [sys.executable, "-c", "from station.cli import main; main()"]


def station(*arguments, exit_code=0):
    result = CliRunner().invoke(root, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """Make the folder of a line with a CA on SoftHSM."""
    folder = tmp_path_factory.mktemp("line") / "line"
    station("init", folder, "--softhsm", "--rehearsal", "2")
    return folder


@pytest.fixture
def config(line, tmp_path):
    """The line's configuration with a journal of the test's own."""
    text = (line / "station.toml").read_text()
    path = line / f"{tmp_path.name}.toml"
    path.write_text(text.replace("[ca]\n", f'[ca]\njournal = "{tmp_path}/ca.db"\n'))
    return path


@pytest.fixture
def csr(tmp_path):
    path = tmp_path / "web.csr"
    path.write_bytes(make_csr())
    return path


def issue(config, csr, *more, profile="tls-server", **options):
    return station("ca", "issue", "--config", config, "--profile", profile, "--csr", csr, *more, **options)


def test_profiles_are_listed_with_what_they_need():
    lines = station("ca", "profiles").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == names()
    assert any("hardware_id, model, product_serial" in line for line in lines)


@pytest.mark.parametrize("name", names())
def test_page_of_a_profile_is_made_of_its_data(name):
    page = station("ca", "profiles", name).stdout
    assert "profile" in page
    assert "at most" in page
    assert json.loads(station("ca", "profiles", "--json", name).stdout)["name"] == name


def test_page_of_a_matter_profile_says_its_rules():
    page = station("ca", "profiles", "matter-dac").stdout
    for told in ("VID = {vendor_id} ([0-9A-F]{4})", "has the same VID", "pathlen 0", "at most 600 bytes"):
        assert told in page


def test_profile_of_ones_own_is_shown_by_its_path(tmp_path):
    from hsm.profile_file import FOLDER  # noqa: PLC0415 - only here

    mine = tmp_path / "mine.toml"
    mine.write_text((FOLDER / "idevid.toml").read_text().replace("p384", "ed25519", 1).replace(', "ed25519"]', "]", 1))
    assert "ed25519, p256, rsa" in station("ca", "profiles", mine).stdout


def test_issue_writes_a_chain_that_openssl_accepts(line, config, csr, tmp_path):
    out = tmp_path / "web.pem"
    said = issue(config, csr, "--san", "dns:www.example.com", "--format", "chain", "--out", out).stdout
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", line / "ca/root.pem", "-untrusted", out, out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{out}: OK\n"
    assert said.startswith("issued CN=www.example.com, serial 01")


@pytest.mark.parametrize(
    ("form", "command"),
    [
        ("pem", ["x509", "-noout"]),
        ("der", ["x509", "-inform", "der", "-noout"]),
        ("p7b", ["pkcs7", "-inform", "der", "-noout"]),
        ("chain", ["crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin", "-out", "/dev/null"]),
    ],
)
def test_every_form_is_read_by_openssl(config, csr, tmp_path, form, command):
    out = tmp_path / "web"
    issue(config, csr, "--san", "dns:www.example.com", "--format", form, "--out", out)
    subprocess.run(["openssl", *command], input=out.read_bytes(), check=True, capture_output=True)


def test_issue_writes_to_standard_output(config, csr):
    x509.load_pem_x509_certificate(issue(config, csr, "--san", "ip:10.0.0.1").stdout.encode())


def test_issue_tells_programs_what_it_made(config, csr, tmp_path):
    told = json.loads(issue(config, csr, "--san", "dns:a.example", "--out", tmp_path / "x", "--json").stdout)
    assert (told["subject"], told["file"]) == ("CN=a.example", str(tmp_path / "x"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "this profile needs a name: give one like --san dns:host.example.com"),
        (["--san", "host"], "is no name: write dns:HOST"),
        (["--san", "uri:https://a.example/"], "the profile does not allow uri:https://a.example/"),
        (["--san", "dns:a.example", "--field", "x"], "write NAME=TEXT"),
        (["--san", "dns:a.example", "--batch", "../x"], "can't name a batch"),
        (["--profile", "nothing"], "there is no profile 'nothing'"),
        (["--profile", "sub-ca", "--field", "name=x"], "issuer.path_exhausted"),
        (["--profile", "matter-paa", "--field", "name=x"], "issuer.not_self"),
        (["--profile", "tls-client"], "the profile needs the field 'product_serial'"),
    ],
)
def test_what_can_not_be_issued_is_one_line(config, csr, tmp_path, arguments, told):
    result = issue(config, csr, *arguments, exit_code=1)
    assert result.stderr.count("\n") == 1
    assert told in result.stderr
    if (tmp_path / "ca.db").exists():
        with JournalReader(tmp_path / "ca.db") as reader:
            assert reader.signatures() == {}


def test_file_that_is_there_is_not_overwritten_and_nothing_signed(config, csr, tmp_path):
    result = issue(config, csr, "--san", "dns:a.example", "--out", csr, exit_code=1)
    assert "is there already" in result.stderr
    assert not (tmp_path / "ca.db").exists()


def test_folder_that_is_not_there_is_seen_before_anything_is_signed(config, csr, tmp_path):
    out = tmp_path / "nofolder" / "x.pem"
    result = issue(config, csr, "--san", "dns:a.example", "--out", out, exit_code=1)
    assert "nothing is signed" in result.stderr
    assert not (tmp_path / "ca.db").exists()


def test_link_to_nowhere_is_not_followed_and_nothing_signed(config, csr, tmp_path):
    (tmp_path / "x.pem").symlink_to(tmp_path / "nowhere")
    issue(config, csr, "--san", "dns:a.example", "--out", tmp_path / "x.pem", exit_code=1)
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / "ca.db").exists()


def test_certificate_that_can_not_be_written_is_exported_later(config, csr, tmp_path):
    with Path("/dev/full").open("w") as full:
        failed = subprocess.run(
            [
                *STATION,
                "ca",
                "issue",
                "--config",
                config,
                "--profile",
                "tls-server",
                "--csr",
                csr,
                "--san",
                "dns:a.example",
            ],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert failed.returncode == 1
    told = failed.stderr.splitlines()[-1]
    assert "No space left on device" in told
    serial = told.split("station ca export ")[1].split()[0]
    written = {}
    for form in ("pem", "chain"):
        out = tmp_path / form
        station("ca", "export", serial, "--config", config, "--format", form, "--out", out)
        written[form] = x509.load_pem_x509_certificates(out.read_bytes())
    assert [f"{one.serial_number:032x}" for one in written["pem"]] == [serial]
    issuer = x509.load_pem_x509_certificate((Path(config).parent / "ca/intermediate.pem").read_bytes())
    assert written["chain"] == [*written["pem"], issuer]


def test_export_overwrites_nothing(config, csr, tmp_path):
    serial = json.loads(issue(config, csr, "--san", "dns:a.example", "--out", tmp_path / "1", "--json").stdout)[
        "serial"
    ]
    (tmp_path / "2").write_text("mine")
    result = station("ca", "export", serial, "--config", config, "--out", tmp_path / "2", exit_code=1)
    assert "is there already" in result.stderr
    assert (tmp_path / "2").read_text() == "mine"


@pytest.mark.parametrize("serial", ["1", "x"])
def test_export_of_what_is_not_on_record_is_one_line(config, serial):
    assert station("ca", "export", serial, "--config", config, exit_code=1).stderr.count("\n") == 1


def test_second_certificate_for_a_key_needs_renew(config, csr, tmp_path):
    issue(config, csr, "--san", "dns:a.example", "--out", tmp_path / "1")
    assert "--renew" in issue(config, csr, "--san", "dns:a.example", exit_code=1).stderr
    issue(config, csr, "--san", "dns:a.example", "--renew", "--out", tmp_path / "2")


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN X-----\n", b"\x30\x82" + b"\0" * 10_000_000])
def test_request_that_is_none_is_one_line(config, tmp_path, content):
    path = tmp_path / "bad.csr"
    path.write_bytes(content)
    assert issue(config, path, "--san", "dns:a.example", exit_code=1).stderr.count("\n") == 1


def test_pkilint_that_is_not_installed_is_said(config, csr, tmp_path, monkeypatch):
    monkeypatch.setattr("hsm.lint_pkilint.is_installed", lambda: False)
    assert "our own rules alone" in issue(config, csr, "--san", "dns:a.example", "--out", tmp_path / "1").stderr
    assert "pip install" in issue(config, csr, "--san", "dns:a.example", "--pkilint", exit_code=1).stderr


@pytest.fixture
def requests(tmp_path):
    folder = tmp_path / "2026-07"
    folder.mkdir()
    for number in range(5):
        (folder / f"unit-{number}.csr").write_bytes(make_csr())
    return folder


def sign_batch(config, folder, *more, **options):
    common = ("--profile", "tls-client", "--field", "product_serial=SN1")
    return station("ca", "sign-batch", folder, "--config", config, *common, *more, **options)


def test_batch_is_named_by_its_folder_and_goes_on(config, requests, tmp_path):
    assert sign_batch(config, requests).stdout.startswith("batch 2026-07: signed 5, done before 0, refused 0 in ")
    assert sign_batch(config, requests).stdout.startswith("batch 2026-07: signed 0, done before 5, refused 0 in ")
    assert len(list((requests / "issued").glob("*.pem"))) == 5
    with JournalReader(tmp_path / "ca.db") as reader:
        assert sum(1 for _ in reader.by_batch("2026-07")) == 5


def test_refused_request_is_told_and_fails_the_command(config, requests):
    (requests / "bad.csr").write_bytes(b"?")
    result = sign_batch(config, requests, exit_code=1)
    assert "refused bad: csr.malformed" in result.stderr
    assert "signed 5, done before 0, refused 1" in result.stdout


def test_certificates_do_not_go_among_the_requests(config, requests, tmp_path):
    (requests / "unit-0.pem").write_text("a private key")
    result = sign_batch(config, requests, "--out", f"{requests}/../{requests.name}", exit_code=1)
    assert "is the folder of the requests" in result.stderr
    assert (requests / "unit-0.pem").read_text() == "a private key"
    assert not (tmp_path / "ca.db").exists()


def test_name_of_a_file_does_not_reach_the_terminal_raw(config, requests):
    for name in ("\x1b[2J", "a\nrefused b: x", "\udcff"):
        (requests / f"{name}.csr").write_bytes(b"?")
    told = sign_batch(config, requests, exit_code=1).stderr
    assert told.count("\n") == told.count("refused ") - 1 == 3
    assert "\x1b" not in told


def test_batch_tells_programs_each_end(config, requests):
    lines = [json.loads(line) for line in sign_batch(config, requests, "--json").stdout.splitlines()]
    assert [line["end"] for line in lines[:-1]] == ["signed"] * 5
    assert lines[-1]["signed"] == 5


def test_a_name_that_is_not_utf_8_is_told_to_programs_as_text(config, requests):
    (requests / "\udcff.csr").write_bytes(b"?")
    lines = [json.loads(line) for line in sign_batch(config, requests, "--json", exit_code=1).stdout.splitlines()]
    (refused,) = (line["request"] for line in lines[:-1] if line["end"] == "refused")
    assert refused == r"\udcff"


def test_table_gives_fields_to_single_requests(config, requests, tmp_path):
    table = tmp_path / "units.csv"
    table.write_text("request,product_serial\nunit-1,SN0001\n")
    sign_batch(config, requests, "--table", table)
    (certificate,) = x509.load_pem_x509_certificates((requests / "issued" / "unit-1.pem").read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=SN0001"


def test_table_without_the_column_is_refused(config, requests, tmp_path):
    table = tmp_path / "units.csv"
    table.write_text("unit,product_serial\n")
    assert "no column 'request'" in sign_batch(config, requests, "--table", table, exit_code=1).stderr


def test_second_batch_at_the_same_time_is_refused_in_one_line(config, requests, tmp_path):
    with CaJournal.open(tmp_path / "ca.db"):
        result = sign_batch(config, requests, exit_code=1)
    assert result.stderr == (
        f"station: {tmp_path}/ca.db: process {os.getpid()} writes to it; stop that program first\n"
    )


def test_output_folder_that_is_full_ends_the_batch_and_the_next_run_goes_on(config, requests):
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); from station.cli import main; main()"
    arguments = [
        "ca",
        "sign-batch",
        requests,
        "--config",
        config,
        "--profile",
        "tls-client",
        "--field",
        "product_serial=x",
    ]
    failed = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, cwd=Path(config).parent
    )
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1, failed.stderr
    assert "Traceback" not in failed.stderr
    assert sign_batch(config, requests).stdout.startswith("batch 2026-07: ")


def test_progress_is_shown_on_a_terminal(config, requests):
    import pty  # noqa: PLC0415 - only here

    ours, theirs = pty.openpty()
    arguments = [
        "ca",
        "sign-batch",
        requests,
        "--config",
        config,
        "--profile",
        "tls-client",
        "--field",
        "product_serial=x",
    ]
    subprocess.run([*STATION, *arguments], stderr=theirs, stdout=subprocess.DEVNULL, check=True)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:
            break
    os.close(ours)
    assert b"5/5" in shown


def test_wish_to_be_a_ca_is_refused(config, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(key, hashes.SHA256())
    path = tmp_path / "ca.csr"
    path.write_bytes(request.public_bytes(Encoding.PEM))
    assert "asks for a CA's certificate" in issue(config, path, "--san", "dns:a.example", exit_code=1).stderr
