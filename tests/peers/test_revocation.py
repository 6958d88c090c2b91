"""Revocation lists and OCSP answers, as OpenSSL, GnuTLS and NSS take them.

===========  ============================  ==============================================  =========================
             full list                     delta list                                      shard
===========  ============================  ==============================================  =========================
OpenSSL      yes                           yes (``-use_deltas``)                           yes
GnuTLS       yes                           taken for a full list: it does not look at the  taken for a full list: it
                                           critical extension, so what ``removeFromCRL``   lets pass what stands in
                                           lets go stays revoked                           another shard
NSS          yes                           refused: unknown critical extension             refused likewise
===========  ============================  ==============================================  =========================

What a peer can't do is tested too: on the day it can, a test here says so, and ``docs/revocation.md`` is to be changed.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

STATION = Path(sys.executable).with_name("station")
NSS_TOOLS = ("certutil", "crlutil", "vfychain")

PROFILE = """
order = "none"
keys = ["p256"]
max_size = 1536

[subject]
CN = "{request}"

[validity]
days = 30

[extensions]
basic_constraints = true
subject_key_identifier = true
key_usage = ["digitalSignature"]
extended_key_usage = ["clientAuth"]

[urls]
crl = ["http://crl.example.com/acme/shards/{shard}.crl"]
ocsp = ["http://127.0.0.1:PORT"]
"""

CRL = """
[crl]
url = "http://crl.example.com/acme"
"""

BATCHES = {"A": ("good", "revoked", "released", "late"), "B": ("other",)}
"""``revoked`` stands on the full list; ``late`` was revoked, and ``released`` let go, after it: the delta tells so."""


@dataclass(frozen=True)
class Issued:
    """A CA with certificates and lists, and a responder."""

    folder: Path
    url: str

    def certificate(self, name):
        return self.folder / "issued" / f"{name}.pem"

    def serial(self, name):
        return f"{x509.load_pem_x509_certificate(self.certificate(name).read_bytes()).serial_number:x}"

    def station(self, *arguments):
        done = subprocess.run(
            [STATION, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *command):
        """Run a peer; return whether it is content, and what it said."""
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode == 0, done.stdout + done.stderr


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def make(folder, port):
    ca = Issued(folder, f"http://127.0.0.1:{port}")
    subprocess.run([STATION, "init", folder, "--softhsm", "--rehearsal", "1"], check=True, capture_output=True)
    with (folder / "station.toml").open("a") as file:
        file.write(CRL)
    (folder / "service.toml").write_text(PROFILE.replace("PORT", str(port)))
    text = (folder / "station.toml").read_text()
    (folder / "station.toml").write_text(text.replace("[ca]\n", '[ca]\nunordered = ["service.toml"]\n', 1))
    for batch, names in BATCHES.items():
        (folder / batch).mkdir()
        for name in names:
            request = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
            keys = ["-keyout", folder / f"{name}.key", "-subj", f"/CN={name}", "-out", folder / batch / f"{name}.csr"]
            subprocess.run([*request, *keys], check=True, capture_output=True)
        ca.station("ca", "sign-batch", batch, "--batch", batch, "--profile", "./service.toml", "--out", "issued")
    ca.station("ca", "revoke", ca.serial("revoked"), "--reason", "keyCompromise", "--date", "2026-01-01")
    ca.station("ca", "hold", ca.serial("released"))
    ca.station("ca", "crl", "publish")
    shutil.copytree(folder / "crl", folder / "before")
    ca.station("ca", "revoke", ca.serial("late"), "--reason", "superseded")
    ca.station("ca", "release", ca.serial("released"))
    ca.station("ca", "crl", "publish", "--due")
    for path in [*folder.glob("crl/*.crl"), *folder.glob("crl/shards/*.crl")]:
        form = ["openssl", "crl", "-inform", "der", "-in", path, "-out", folder / f"{path.stem}.pem"]
        subprocess.run(form, check=True, capture_output=True)
    (folder / "with-delta.pem").write_bytes((folder / "full.pem").read_bytes() + (folder / "delta.pem").read_bytes())
    chain = (folder / "ca/root.pem").read_bytes() + (folder / "ca/intermediate.pem").read_bytes()
    (folder / "chain.pem").write_bytes(chain)
    ca.station("ca", "ocsp", "init")
    return ca


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    port = free_port()
    made = make(tmp_path_factory.mktemp("revocation") / "ca", port)
    command = [STATION, "ca", "ocsp", "serve", "--listen", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, cwd=made.folder, stdout=subprocess.PIPE, text=True) as responder:
        assert responder.stdout.readline() == f"answering at {made.url}\n"
        yield made
        responder.terminate()
        assert responder.wait(30) == 0


# -- OpenSSL


@pytest.fixture
def openssl(ca):
    """Verify a certificate with lists: None if it is accepted, else the reason."""

    def verify(name, crls, *options):
        command = ["openssl", "verify", "-x509_strict", "-crl_check", *options, "-CAfile", "chain.pem", "-CRLfile"]
        content, said = ca.run(*command, crls, ca.certificate(name))
        return None if content else re.search(r"error \d+ at 0 depth lookup: (.*)", said)[1]

    return verify


@pytest.mark.parametrize("options", [(), ("-extended_crl",)])
def test_openssl_takes_the_full_list(openssl, options):
    found = {name: openssl(name, "full.pem", *options) for name in ("good", "revoked", "released", "other")}
    assert found == {
        "good": None,
        "revoked": "certificate revoked",
        "released": "certificate revoked",  # what was true when the list was made
        "other": None,
    }


def test_openssl_takes_the_delta_list(openssl):
    names = (*BATCHES["A"], "other")
    found = {name: openssl(name, "with-delta.pem", "-use_deltas", "-extended_crl") for name in names}
    revoked = "certificate revoked"
    assert found == {"good": None, "revoked": revoked, "released": None, "late": revoked, "other": None}


def test_openssl_takes_the_shard(openssl):
    found = {name: openssl(name, "A.pem", "-extended_crl") for name in BATCHES["A"]}
    assert found == {"good": None, "revoked": "certificate revoked", "released": None, "late": "certificate revoked"}
    assert openssl("other", "B.pem", "-extended_crl") is None


def test_openssl_refuses_the_shard_of_another_batch(openssl):
    found = {openssl("other", "A.pem", "-extended_crl"), openssl("good", "B.pem", "-extended_crl")}
    assert found == {"different CRL scope"}


def test_openssl_refuses_a_delta_alone(openssl):
    assert openssl("good", "delta.pem", "-use_deltas", "-extended_crl") is not None


def test_openssl_reads_what_stands_on_the_list(ca):
    _, said = ca.run("openssl", "crl", "-in", "A.pem", "-noout", "-text", "-CAfile", "chain.pem")
    assert "verify OK" in said
    assert "X509v3 Issuing Distribution Point: critical" in said
    assert "URI:http://crl.example.com/acme/shards/A.crl" in said
    assert re.search(r"Invalidity Date: \n\s+Jan  1 00:00:00 2026 GMT", said)


@pytest.mark.parametrize("nonce", [True, False])
def test_openssl_takes_ocsp_answers(ca, nonce):
    found = {}
    for name in (*BATCHES["A"], "other"):
        question = ["openssl", "ocsp", "-issuer", "ca/intermediate.pem", "-cert", ca.certificate(name)]
        options = [] if nonce else ["-no_nonce"]
        content, said = ca.run(*question, *options, "-url", ca.url, "-CAfile", "chain.pem")
        assert content
        assert "Response verify OK" in said
        assert "WARNING" not in said
        found[name] = re.search(r"\.pem: (\w+)", said)[1]
    assert found == {"good": "good", "revoked": "revoked", "released": "good", "late": "revoked", "other": "good"}


def test_openssl_gets_several_answers_at_once(ca):
    certificates = [part for name in BATCHES["A"] for part in ("-cert", ca.certificate(name))]
    question = ["openssl", "ocsp", "-issuer", "ca/intermediate.pem", *certificates, "-url", ca.url]
    content, said = ca.run(*question, "-CAfile", "chain.pem")
    assert content
    assert re.findall(r"\.pem: (\w+)", said) == ["good", "revoked", "good", "revoked"]


def test_openssl_hears_of_certificates_that_we_did_not_issue(ca):
    question = ["-serial", "0x1234567890", "-url", ca.url, "-CAfile", "chain.pem"]
    assert "0x1234567890: unknown" in ca.run("openssl", "ocsp", "-issuer", "ca/intermediate.pem", *question)[1]
    assert "unauthorized" in ca.run("openssl", "ocsp", "-issuer", "ca/root.pem", *question)[1]


def test_openssl_refuses_an_answer_for_another_certificate(ca, tmp_path):
    answer = tmp_path / "answer.der"
    question = ["openssl", "ocsp", "-issuer", "ca/intermediate.pem", "-CAfile", "chain.pem", "-cert"]
    ca.run(*question, ca.certificate("good"), "-url", ca.url, "-no_nonce", "-respout", answer)
    _, said = ca.run(*question, ca.certificate("revoked"), "-respin", answer)
    assert "No Status found" in said


def test_openssl_takes_presigned_answers(ca, tmp_path):
    ca.station("ca", "ocsp", "presign", str(tmp_path / "ocsp"))
    files = [path for path in (tmp_path / "ocsp").rglob("*") if path.is_file()]
    assert len(files) == 6  # five, and the responder's own
    said = [
        ca.run("openssl", "ocsp", "-respin", path, "-CAfile", "chain.pem", "-text", "-noverify")[1] for path in files
    ]
    assert sum("Cert Status: revoked" in one for one in said) == 2
    question = ["openssl", "ocsp", "-issuer", "ca/intermediate.pem", "-CAfile", "chain.pem", "-cert"]
    checked = [ca.run(*question, ca.certificate("late"), "-respin", path)[1] for path in files]
    assert sum("late.pem: revoked" in one and "Response verify OK" in one for one in checked) == 1


# -- GnuTLS


@pytest.fixture
def certtool(ca, tmp_path):
    """Verify a chain with a list: whether it is accepted."""

    def verify(name, crl):
        chain = tmp_path / "chain.pem"
        chain.write_bytes(ca.certificate(name).read_bytes() + (ca.folder / "ca/intermediate.pem").read_bytes())
        command = ["certtool", "--verify", "--load-ca-certificate", "ca/root.pem", "--infile", chain, "--load-crl"]
        content, said = ca.run(*command, crl)
        assert content or "revoked" in said, said
        return content

    return verify


def test_gnutls_takes_the_full_list(certtool):
    found = {name: certtool(name, "full.pem") for name in ("good", "revoked", "other")}
    assert found == {"good": True, "revoked": False, "other": True}


@pytest.mark.parametrize("crl", ["full", "delta", "A"])
def test_gnutls_verifies_the_signature_of_each_list(ca, crl):
    content, said = ca.run(
        *("certtool", "--verify-crl", "--load-ca-certificate", "ca/intermediate.pem", "--infile", f"{crl}.pem")
    )
    assert content
    assert "Verified. The certificate is trusted" in said


def test_gnutls_refuses_what_the_delta_revokes(certtool):
    assert not certtool("late", "delta.pem")


def test_gnutls_takes_a_delta_for_a_full_list(certtool):
    """It keeps a released certificate revoked: hand GnuTLS the full list."""
    assert not certtool("released", "delta.pem")


def test_gnutls_refuses_what_the_shard_revokes(certtool):
    found = {name: certtool(name, "A.pem") for name in BATCHES["A"]}
    assert found == {"good": True, "revoked": False, "released": True, "late": False}


def test_gnutls_takes_a_shard_for_a_full_list(certtool):
    """It lets pass what stands in another shard: hand GnuTLS the full list."""
    assert certtool("revoked", "B.pem")


def test_gnutls_takes_ocsp_answers(ca):
    found = {}
    for name in (*BATCHES["A"], "other"):
        question = ["ocsptool", f"--ask={ca.url}", "--load-issuer", "ca/intermediate.pem"]
        _, said = ca.run(*question, "--load-cert", ca.certificate(name), "--load-signer", "ca/ocsp.pem", "--nonce")
        assert "Verifying OCSP Response: Success" in said
        found[name] = re.search(r"Certificate Status: (\w+)", said)[1]
    assert found == {"good": "good", "revoked": "revoked", "released": "good", "late": "revoked", "other": "good"}


def test_gnutls_finds_who_signed_by_the_issuer(ca):
    """The answer carries the responder's certificate, and the CA stands behind it."""
    question = ["ocsptool", f"--ask={ca.url}", "--load-issuer", "ca/intermediate.pem", "--load-cert"]
    _, said = ca.run(*question, ca.certificate("good"), "--load-trust", "ca/intermediate.pem")
    assert "Verifying OCSP Response: Success" in said


# -- NSS


@pytest.fixture
def nss(ca, tmp_path):
    """A database that trusts the root and knows the intermediate."""
    missing = [tool for tool in NSS_TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"no {missing[0]}: apt-get install libnss3-tools")
    folder = tmp_path / "nss"
    folder.mkdir()
    for command in (
        ["certutil", "-N", "-d", folder, "--empty-password"],
        ["certutil", "-A", "-d", folder, "-n", "root", "-t", "CT,C,C", "-a", "-i", ca.folder / "ca/root.pem"],
        ["certutil", "-A", "-d", folder, "-n", "issuer", "-t", ",,", "-a", "-i", ca.folder / "ca/intermediate.pem"],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return folder


def vfychain(ca, database, name, *options):
    """Return whether NSS finds the chain good."""
    _, said = ca.run("vfychain", "-d", database, "-u", "0", *options, "-a", ca.certificate(name))
    assert ("Chain is good" in said) is not ("Peer's Certificate has been revoked" in said), said
    return "Chain is good" in said


def test_nss_takes_the_full_list(ca, nss):
    assert ca.run("crlutil", "-I", "-d", nss, "-i", "crl/full.crl")[0]
    found = {name: vfychain(ca, nss, name) for name in ("good", "revoked", "other")}
    assert found == {"good": True, "revoked": False, "other": True}


@pytest.mark.parametrize("file", ["delta.crl", "shards/A.crl"])
def test_nss_refuses_a_list_whose_critical_extension_it_does_not_know(ca, nss, file):
    """It fails on the safe side; hand NSS the full list."""
    content, said = ca.run("crlutil", "-I", "-d", nss, "-i", f"crl/{file}")
    assert not content
    assert "SEC_ERROR_CRL_UNKNOWN_CRITICAL_EXTENSION" in said


def test_nss_takes_a_newer_list_and_keeps_it(ca, nss):
    assert ca.run("crlutil", "-I", "-d", nss, "-i", "before/full.crl")[0]
    fresh = nss / "fresh.crl"
    ca.station("ca", "crl", "make", str(fresh))
    assert ca.run("crlutil", "-I", "-d", nss, "-i", fresh)[0]
    assert not vfychain(ca, nss, "late")
    assert "SEC_ERROR_OLD_CRL" in ca.run("crlutil", "-I", "-d", nss, "-i", "before/full.crl")[1]


def test_nss_asks_the_responder_that_the_certificate_names(ca, nss):
    ask = ("-pp", "-g", "leaf", "-m", "ocsp", "-s", "failIfNoInfo")
    found = {name: vfychain(ca, nss, name, *ask) for name in (*BATCHES["A"], "other")}
    assert found == {"good": True, "revoked": False, "released": True, "late": False, "other": True}


def test_peers_tools_are_there_in_ci():
    """Locally a missing tool skips; in CI it fails."""
    if "CI" in os.environ:
        assert [tool for tool in (*NSS_TOOLS, "certtool", "ocsptool", "openssl") if shutil.which(tool) is None] == []
