"""What the boards hold, judged by programs that we did not write."""

import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding


@pytest.fixture
def leaves(line, tmp_path):
    done = line.station("run", "--once")
    assert done.returncode == 0, done.stdout + done.stderr
    paths = []
    for hardware_id, leaf in line.certificates_on_boards().items():
        path = tmp_path / f"{hardware_id}.pem"
        path.write_bytes(x509.load_der_x509_certificate(leaf).public_bytes(Encoding.PEM))
        paths.append(path)
    assert len(paths) == line.boards
    return paths


def test_openssl_and_gnutls_accept_the_chain_of_every_board(line, leaves):
    root, issuer = line.folder / "ca" / "root.pem", line.folder / "ca" / "intermediate.pem"
    for leaf in leaves:
        openssl = ["openssl", "verify", "-x509_strict", "-CAfile", root, "-untrusted", issuer, leaf]
        said = subprocess.run(openssl, capture_output=True, text=True, check=False)
        assert said.stdout == f"{leaf}: OK\n", said.stderr

        chain = leaf.with_suffix(".chain")
        chain.write_bytes(leaf.read_bytes() + issuer.read_bytes())
        gnutls = ["certtool", "--verify", "--load-ca-certificate", root, "--infile", chain]
        said = subprocess.run(gnutls, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout + said.stderr
        assert "Chain verification output: Verified." in said.stdout


def test_openssl_refuses_them_under_another_root(line, leaves, tmp_path):
    other = tmp_path / "other"
    line.station("init", "--softhsm", str(other))
    verify = [
        "openssl",
        "verify",
        "-CAfile",
        other / "ca" / "root.pem",
        "-untrusted",
        other / "ca" / "intermediate.pem",
    ]
    assert subprocess.run([*verify, leaves[0]], capture_output=True, check=False).returncode != 0


def test_the_exported_certificates_are_those_on_the_boards(line, leaves):
    exported = line.station("manifest", "export", "jsonl").stdout
    for leaf in leaves:
        assert leaf.read_text().splitlines()[1] in exported
