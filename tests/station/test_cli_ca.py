"""``station ca``, with real tokens."""

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from softhsm import make_tokens
from station.cli.root import root


def station(*arguments, exit_code=0):
    result = CliRunner().invoke(root, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return make_tokens(tmp_path_factory.mktemp("hsm"), ["root", "intermediate"])


@pytest.fixture(autouse=True)
def environment(tokens, monkeypatch):
    """Set what the module needs, as a security officer does."""
    for name, value in tokens.environment.items():
        monkeypatch.setenv(name, value)


def init(tokens, out, *more, label="ca", **options):
    """Run the ceremony with keys of a label."""
    uris = [tokens.uri(token).replace("?", f";object={label}?") for token in ("root", "intermediate")]
    return station(
        *("ca", "init", "--root-token", uris[0], "--intermediate-token", uris[1]),
        *("--name", "Acme Devices", "--out", out, *more),
        **options,
    )


@pytest.fixture(scope="module")
def made(tokens, tmp_path_factory):
    """Return the folder of a CA."""
    folder = tmp_path_factory.mktemp("made") / "ca"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tokens.environment.items():
            patch.setenv(name, value)
        init(tokens, folder, label="made")
    return folder


def test_init_makes_a_chain_that_openssl_accepts(made):
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", made / "root.pem", made / "intermediate.pem"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == f"{made}/intermediate.pem: OK\n"


def test_init_says_what_it_made(tokens, tmp_path):
    lines = init(tokens, tmp_path / "ca", label="said").stdout.splitlines()

    assert (
        lines[0] == f"made root CN=Acme Devices Root CA,O=Acme Devices: key 'said', certificate {tmp_path}/ca/root.pem"
    )


def test_init_takes_kinds_of_keys(tokens, tmp_path):
    made = json.loads(
        init(tokens, tmp_path, *("--root-key", "rsa2048", "--intermediate-key", "p384", "--json"), label="kinds").stdout
    )

    assert (made["root"]["key"], made["intermediate"]["key"]) == ("RSA 2048", "EC secp384r1")


def test_init_overwrites_nothing(tokens, made):
    before = (made / "root.pem").read_bytes()

    result = init(tokens, made, label="again", exit_code=1)

    assert result.stderr.startswith(f"station: {made}/root.pem is there already")
    assert (made / "root.pem").read_bytes() == before


def test_init_refuses_a_label_that_is_taken(tokens, made, tmp_path):
    assert made.exists()

    result = init(tokens, tmp_path / "ca", label="made", exit_code=1)

    assert result.stderr.count("\n") == 1
    assert "'made' already" in result.stderr


def test_init_refuses_one_token_for_both(tokens, tmp_path):
    uri = tokens.uri("root")

    result = station(
        *("ca", "init", "--root-token", uri, "--intermediate-token", uri, "--name", "x", "--out", tmp_path), exit_code=1
    )

    assert result.stderr.startswith("station: root and intermediate need two tokens")
    assert result.stderr.count("\n") == 1


def test_init_needs_two_tokens():
    assert "missing option '--root-token'" in station("ca", "init", exit_code=2).stderr


def test_show_says_what_openssl_says(made):
    shown = json.loads(station("ca", "show", "--json", made / "intermediate.pem").stdout)
    done = subprocess.run(
        ["openssl", "x509", "-in", made / "intermediate.pem", "-noout", "-fingerprint", "-sha256", "-serial"],
        capture_output=True,
        text=True,
        check=True,
    )
    said = dict(line.split("=") for line in done.stdout.lower().splitlines())

    assert said["sha256 fingerprint"].replace(":", "") == shown["sha256"]
    assert int(said["serial"], 16) == int(shown["serial"], 16)


def test_show_names_the_extensions(made):
    output = station("ca", "show", made / "intermediate.pem").stdout

    assert "basicConstraints (critical): CA true, pathlen 0" in output
    assert "keyUsage (critical): key cert sign, crl sign" in output


def test_show_takes_several_files_and_several_certificates_in_one(made, tmp_path):
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes((made / "root.pem").read_bytes() + (made / "intermediate.pem").read_bytes())

    lines = station("ca", "show", "--json", bundle, made / "root.pem").stdout.splitlines()

    assert [Path(json.loads(line)["file"]).name for line in lines] == ["bundle.pem", "bundle.pem", "root.pem"]


def test_show_takes_der(made, tmp_path):
    der = tmp_path / "root.der"
    subprocess.run(["openssl", "x509", "-in", made / "root.pem", "-outform", "der", "-out", der], check=True)

    shown = [json.loads(station("ca", "show", "--json", path).stdout) for path in (der, made / "root.pem")]

    assert shown[0]["sha256"] == shown[1]["sha256"]


@pytest.mark.parametrize(
    "content", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"]
)
def test_show_refuses_what_is_no_certificate(tmp_path, content):
    path = tmp_path / "x.pem"
    path.write_bytes(content)

    result = station("ca", "show", path, exit_code=1)

    assert result.stderr == (f"station: {path}: neither PEM nor DER of a certificate; give the file of a certificate\n")
