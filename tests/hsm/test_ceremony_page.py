"""Every example of docs/ceremony.md is done, in the page's order and in one folder; others judge what it makes."""

import asyncio
import datetime as dt
import re
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hsm import Authority, Csr, KeyKind, LintError, Profile, TokenUri, find_key, new_serial
from hsm.ceremony import Plan, TokenChoice, load_plan, run_ceremony, verify_transcript
from hsm.ceremony.plan_file import _Reader, _refusal
from hsm.testing import make_csr, open_signer, unordered
from hsm.toml import Document
from softhsm import make_tokens

PAGE = (Path(__file__).parents[2] / "docs" / "ceremony.md").read_text()
EXAMPLES = {
    re.match(r"# (\S+)\n", text)[1]: text for text in re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
}
NOW = dt.datetime.now(dt.UTC)


def read_fields(mode):
    """Return the fields that the reader of a mode asks for."""
    document = Document.parse(f'[[step]]\nmode = "{mode}"\n', name="x.toml", refusal=_refusal)
    list(_Reader(document, Path("x.toml"), NOW)._read_steps())
    return set(document.top.sections("step")[0]._asked)


MODES = list(_Reader(Document.parse("", name="", refusal=_refusal), Path(), NOW)._readers())


def token_labels(text):
    return [re.match(r"pkcs11:token=([^?]+)", table["uri"])[1] for table in tomllib.loads(text)["token"].values()]


def softhsm_in_place(plan: Plan, softhsm) -> Plan:
    """Return the plan with its tokens replaced by SoftHSM's of the same labels."""
    tokens = {
        name: TokenChoice(TokenUri.parse(softhsm.uri(choice.uri.token)), softhsm.environment)
        for name, choice in plan.tokens.items()
    }
    return replace(plan, tokens=tokens)


def initech_signs(folder):
    """Somebody else's CA: it knows neither our tokens nor our code."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name.from_rfc4514_string("CN=Initech Root,O=Initech")
    asked = x509.load_pem_x509_csr((folder / "initech.csr").read_bytes())
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    above = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
    usage = x509.KeyUsage(*(position in {0, 5, 6} for position in range(9)))
    names = x509.NameConstraints([x509.DirectoryName(x509.Name.from_rfc4514_string("O=Initech"))], None)

    def signed(subject, public, *extensions):
        builder = (
            x509.CertificateBuilder(name, subject, public, x509.random_serial_number())
            .not_valid_before(NOW - dt.timedelta(days=1))
            .not_valid_after(NOW + dt.timedelta(days=1000))
            .add_extension(above, critical=False)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )
        for value in extensions:
            builder = builder.add_extension(value, critical=True)
        return builder.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)

    ca = x509.BasicConstraints(ca=True, path_length=None)
    (folder / "initech-root.pem").write_bytes(signed(name, key.public_key(), ca))
    leafs_only = x509.BasicConstraints(ca=True, path_length=0)
    (folder / "from-initech.pem").write_bytes(signed(asked.subject, asked.public_key(), leafs_only, names))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder in which all examples were done; the tokens are in ``hsm`` beside it."""
    home = tmp_path_factory.mktemp("page")
    softhsm = make_tokens(
        home / "hsm", list(dict.fromkeys(label for text in EXAMPLES.values() for label in token_labels(text)))
    )
    work = home / "work"
    work.mkdir()
    for name, text in EXAMPLES.items():
        if name == "import.toml":
            initech_signs(work)
        (work / name).write_text(text)
        plan = softhsm_in_place(load_plan(work / name, now=dt.datetime.now(dt.UTC)), softhsm)
        done = run_ceremony(plan)
        public = load_key(done.verify_with)
        assert not verify_transcript(done.transcript, public).rehearsal
    return work


def load_certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def load_key(path):
    content = path.read_bytes()
    if b"REQUEST" in content:
        return x509.load_pem_x509_csr(content).public_key()
    return x509.load_pem_x509_certificate(content).public_key()


def openssl(*arguments, exit_code=0):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done.stdout + done.stderr


def certtool_accepts(*, roots, chain):
    content = "".join(path.read_text() for path in chain)
    command = ["certtool", "--verify", "--load-ca-certificate", roots]
    done = subprocess.run(command, input=content, capture_output=True, text=True, check=False)
    return done.returncode == 0


def test_each_mode_has_an_example():
    modes = {step["mode"] for text in EXAMPLES.values() for step in tomllib.loads(text)["step"]}
    assert modes == set(MODES)


@pytest.mark.parametrize("mode", MODES)
def test_each_field_of_a_mode_is_in_its_table_and_no_other(mode):
    section = PAGE[PAGE.index(f"\n## {mode}\n") :].split("```toml")[0]
    documented = {
        name
        for row in re.findall(r"^\| (`[^|]*`[^|]*)\|", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert documented | {"mode"} == read_fields(mode)


PATHS = {
    "the line's": ("acme-root.pem", [], "acme-line-1.pem"),
    "a tenant's": ("acme-root.pem", [], "globex.pem"),
    "a renewed one": ("acme-root.pem", [], "globex-2031.pem"),
    "crossed, the direct way": ("services-ec.pem", [], "services-1.pem"),
    "crossed, the other way": ("services-rsa.pem", ["services-ec-by-rsa.pem"], "services-1.pem"),
    "RSA below the EC root": ("services-ec.pem", [], "services-rsa-by-ec.pem"),
    "new with old": ("acme-root.pem", [], "acme-root-new-with-old.pem"),
    "old with new": ("acme-root-2.pem", ["acme-root-old-with-new.pem"], "acme-line-1.pem"),
    "signed elsewhere": ("initech-root.pem", [], "initech-devices-1.pem"),
    "Matter's": ("acme-paa.pem", [], "acme-pai-8000.pem"),
}


@pytest.mark.parametrize("path", PATHS)
def test_openssl_accepts_each_path(folder, path):
    root, between, leaf = PATHS[path]
    chain = [argument for file in between for argument in ("-untrusted", folder / file)]
    openssl("verify", "-x509_strict", "-check_ss_sig", "-no-CApath", "-CAfile", folder / root, *chain, folder / leaf)


@pytest.mark.parametrize("path", PATHS)
def test_gnutls_accepts_each_path(folder, path):
    root, between, leaf = PATHS[path]
    assert certtool_accepts(roots=folder / root, chain=[folder / leaf, *(folder / file for file in reversed(between))])


def test_without_the_link_the_path_is_not_accepted(folder):
    openssl("verify", "-no-CApath", "-CAfile", folder / "acme-root-2.pem", folder / "acme-line-1.pem", exit_code=2)


@pytest.fixture(scope="module")
def globex(folder):
    """Return what signs as the tenant does, with the key in its token."""
    issuer = x509.load_pem_x509_certificate((folder / "globex.pem").read_bytes())
    softhsm = make_tokens(folder.parent / "hsm", ["globex"])

    def sign(subject, *names, usage=x509.ExtendedKeyUsageOID.SERVER_AUTH):
        with open_signer(softhsm, "globex") as signer:
            key = find_key(signer, issuer.public_key())
            public = ec.generate_private_key(ec.SECP256R1()).public_key()
            builder = (
                x509.CertificateBuilder(
                    issuer.subject, x509.Name.from_rfc4514_string(subject), public, x509.random_serial_number()
                )
                .not_valid_before(NOW)
                .not_valid_after(NOW + dt.timedelta(days=30))
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            )
            if names:
                builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            leaf = folder.parent / f"leaf-{x509.random_serial_number():x}.pem"
            leaf.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
            return leaf

    return sign


def verify_leaf(folder, leaf, *more, exit_code=0):
    chain = ("-untrusted", folder / "globex.pem")
    return openssl(
        "verify", "-no-CApath", "-CAfile", folder / "acme-root.pem", *chain, *more, leaf, exit_code=exit_code
    )


def test_a_leaf_inside_the_tenants_names_is_accepted(folder, globex):
    leaf = globex("CN=api,O=Globex", x509.DNSName("api.globex.example"))
    verify_leaf(folder, leaf, "-purpose", "sslserver")
    assert certtool_accepts(roots=folder / "acme-root.pem", chain=[leaf, folder / "globex.pem"])


@pytest.mark.parametrize(
    ("subject", "name", "complaint"),
    [
        ("CN=api,O=Globex", "api.acme.example", "permitted subtree violation"),
        ("CN=api,O=Globex", "hr.payroll.globex.example", "excluded subtree violation"),
        ("CN=api,O=Acme", "api.globex.example", "permitted subtree violation"),
    ],
)
def test_a_leaf_outside_the_tenants_names_is_refused(folder, globex, subject, name, complaint):
    leaf = globex(subject, x509.DNSName(name))
    assert complaint in verify_leaf(folder, leaf, exit_code=2)
    if "O=Globex" in subject:  # GnuTLS holds DNS names to constraints
        assert not certtool_accepts(roots=folder / "acme-root.pem", chain=[leaf, folder / "globex.pem"])


def test_a_leaf_outside_the_tenants_usages_is_refused(folder, globex):
    leaf = globex("CN=mail,O=Globex", usage=x509.ExtendedKeyUsageOID.EMAIL_PROTECTION)
    assert "unsuitable certificate purpose" in verify_leaf(folder, leaf, "-purpose", "smimesign", exit_code=2)


DAC_FIELDS = {"product_serial": "SN1", "vendor_id": "FFF1", "product_id": "8000"}


@pytest.fixture(scope="module")
def pai(folder):
    """Return the page's PAI, open to issue DACs."""
    softhsm = make_tokens(folder.parent / "hsm", ["acme-pai"])
    above = [load_certificate(folder / name) for name in ("acme-pai-8000.pem", "acme-paa.pem")]
    with open_signer(softhsm, "acme-pai") as signer:
        yield asyncio.run(Authority.open(signer, issuer=above[0], chain=above[1:]))


def draft_dac(pai, **fields):
    public = Csr.parse(make_csr()).public_key
    now = dt.datetime.now(dt.UTC)
    return pai.draft(
        unordered(Profile.load("matter-dac")), public, fields=DAC_FIELDS | fields, serial=new_serial(1), now=now
    )


def test_openssl_accepts_a_dac_below_the_pages_pai(folder, pai):
    dac = folder.parent / "dac.pem"
    certificate = x509.load_der_x509_certificate(asyncio.run(pai.issue(draft_dac(pai))))
    dac.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    chain = ("-untrusted", folder / "acme-pai-8000.pem")
    openssl("verify", "-x509_strict", "-no-CApath", "-CAfile", folder / "acme-paa.pem", *chain, dac)


def test_dac_of_another_vendor_is_refused_below_the_pages_pai(pai):
    with pytest.raises(LintError) as caught:
        draft_dac(pai, vendor_id="FFF2")
    assert caught.value.code == "subject.vid.differs"


def test_openssl_and_gnutls_refuse_what_the_root_revoked(folder, tmp_path):
    pem = {name: tmp_path / f"{name}.pem" for name in ("acme-root-1", "acme-root-2")}
    for name, path in pem.items():
        openssl("crl", "-inform", "der", "-in", folder / f"{name}.crl", "-out", path)
        command = ["certtool", "--verify-crl", "--load-ca-certificate", folder / "acme-root.pem", "--infile", path]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    roots = ("-no-CApath", "-CAfile", folder / "acme-root.pem")
    openssl("verify", "-crl_check", "-CRLfile", pem["acme-root-1"], *roots, folder / "globex-2031.pem")
    openssl("verify", "-crl_check", "-CRLfile", pem["acme-root-2"], *roots, folder / "acme-line-1.pem")
    check = ("verify", "-crl_check", "-CRLfile", pem["acme-root-2"], *roots, folder / "globex-2031.pem")
    assert "certificate revoked" in openssl(*check, exit_code=2)
    assert openssl("crl", "-in", pem["acme-root-2"], "-noout", "-crlnumber") == "crlNumber=0x02\n"


def test_every_code_of_the_page_is_one_of_ours():
    codes = {
        code
        for row in re.findall(r"^\| (`[a-z]+\.[a-z_]+`(?:, `[a-z]+\.[a-z_]+`)*) \|", PAGE, re.MULTILINE)
        for code in re.findall(r"`([^`]+)`", row)
    }
    source = "".join(path.read_text() for path in (Path(__file__).parents[2] / "hsm").rglob("*.py"))
    assert len(codes) >= 12
    assert {code for code in codes if f'"{code}"' not in source} == set()


def test_kinds_of_keys_of_the_page_are_ours():
    (row,) = re.findall(r"^\| `token`, `label`, `key` \|.*$", PAGE, re.MULTILINE)
    assert {kind.value for kind in KeyKind} <= set(re.findall(r"`(\w+)`", row))
