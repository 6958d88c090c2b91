"""A rehearsal does the same file, marks what it makes, and touches nothing else."""

import datetime as dt
import hashlib
import json
import re
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hsm import CeremonyError
from hsm.ceremony import load_plan, prepare_rehearsal, run_ceremony, verify_transcript
from hsm.testing import ceremony_tokens

PAGE = (Path(__file__).parents[2] / "docs" / "ceremony.md").read_text()
EXAMPLES = {
    re.match(r"# (\S+)\n", text)[1]: text for text in re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
}
MARK = "OU=REHEARSAL - NOT VALID"
NOW = dt.datetime.now(dt.UTC)


def certificate(subject, pathlen, issuer=None):
    """Return a key of nobody's token, and a CA's certificate for it, as earlier ceremonies left it."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name.from_rfc4514_string(subject)
    issuer_name, issuer_key = issuer or (name, key)
    own, above = (x509.SubjectKeyIdentifier.from_public_key(each.public_key()) for each in (key, issuer_key))
    usage = x509.KeyUsage(*(position in {5, 6} for position in range(9)))
    made = (
        x509.CertificateBuilder(issuer_name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=pathlen), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(own, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), critical=False)
    )
    if subject.endswith("O=Initech") and issuer:
        names = x509.NameConstraints([x509.DirectoryName(x509.Name.from_rfc4514_string("O=Initech"))], None)
        made = made.add_extension(names, critical=True)
    return name, key, made.sign(issuer_key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Return a folder with all that the page's examples refer to; the keys are in no token."""
    folder = tmp_path_factory.mktemp("work")
    root_name, root_key, root = certificate("CN=Acme Root CA,O=Acme", 1)
    _, _, globex = certificate("CN=Globex Services CA,O=Globex", 0, (root_name, root_key))
    their_name, their_key, theirs = certificate("CN=Initech Root,O=Initech", None)
    name, key, answer = certificate("CN=Initech Devices CA made by Acme,O=Initech", 0, (their_name, their_key))
    request = x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA384())
    for file, content in {
        "acme-root.pem": root,
        "globex.pem": globex,
        "globex-2031.pem": globex,
        "initech-root.pem": theirs,
        "from-initech.pem": answer,
        "initech.csr": request.public_bytes(serialization.Encoding.PEM),
        "vault-root.pem": certificate("CN=Acme Vault Root,O=Acme", 1)[2],
    }.items():
        (folder / file).write_bytes(content)
    for file, text in EXAMPLES.items():
        (folder / file).write_text(text)
    return folder


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def rehearse(path, folder):
    plan = load_plan(path, now=dt.datetime.now(dt.UTC))
    tokens = ceremony_tokens(folder / "tokens", plan.used_tokens)
    return run_ceremony(plan, rehearsal=prepare_rehearsal(plan, folder, tokens))


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_can_be_rehearsed(work, tmp_path, name):
    before = digests(work)
    done = rehearse(work / name, tmp_path / "rehearsal")
    assert digests(work) == before
    assert done.rehearsal
    for path in done.files:
        assert path.is_relative_to(tmp_path)
        if path.suffix == ".pem":
            made = x509.load_pem_x509_certificate(path.read_bytes())
            assert MARK in made.issuer.rfc4514_string()
            assert MARK in made.subject.rfc4514_string()
    verify = done.verify_with.read_bytes()
    public = (x509.load_pem_x509_csr if b"REQUEST" in verify else x509.load_pem_x509_certificate)(verify).public_key()
    assert verify_transcript(done.transcript, public).rehearsal


def test_a_rehearsal_says_so(work, tmp_path):
    done = rehearse(work / "root.toml", tmp_path / "rehearsal")
    assert json.loads(done.transcript.read_text().splitlines()[0])["rehearsal"] is True
    assert "None of it is to be trusted" in (tmp_path / "rehearsal" / "REHEARSAL.txt").read_text()
    assert sorted(path.name for path in (tmp_path / "rehearsal").iterdir()) == [
        "REHEARSAL.txt",
        "acme-root.pem",
        "root.transcript.jsonl",
        "tokens",
    ]


def test_a_rehearsal_fails_where_the_ceremony_would(work, tmp_path):
    """The answer is held to names that the file does not mention."""
    text = EXAMPLES["import.toml"].replace('permitted = { directory = [{ O = "Initech" }] }\n', "")
    (work / "other.toml").write_text(text)
    try:
        with pytest.raises(CeremonyError, match=r"nc\.unexpected") as caught:
            rehearse(work / "other.toml", tmp_path / "rehearsal")
    finally:
        (work / "other.toml").unlink()
    assert caught.value.code == "nc.unexpected"


def test_two_rehearsals_do_not_share_a_folder(work, tmp_path):
    rehearse(work / "root.toml", tmp_path / "rehearsal")
    with pytest.raises(CeremonyError, match="holds another rehearsal"):
        rehearse(work / "line.toml", tmp_path / "rehearsal")
