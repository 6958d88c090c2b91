"""What comes back from elsewhere is taken only if it is what was asked for."""

import datetime as dt
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hsm import CeremonyError, TokenUri
from hsm.ceremony import TokenChoice, load_plan, run_ceremony
from softhsm import make_tokens

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
HEAD = """\
[ceremony]
name = "Test"
operators = ["Ada"]
[token]
line = { uri = "pkcs11:token=line" }
"""
REQUEST = """
[[step]]
mode = "request"
token = "line"
label = "line-1"
key = "p256"
subject = { O = "Acme", CN = "Line" }
request = "line.csr"
"""
IMPORT = """
[[step]]
mode = "import"
answer = "answer.pem"
chain = ["their-issuer.pem", "their-root.pem"]
token = "line"
request = "line.csr"
certificate = "line.pem"
"""


def perform(home, text, name):
    (home / f"{name}.toml").write_text(HEAD + text)
    softhsm = make_tokens(home / "hsm", ["line"])
    plan = load_plan(home / f"{name}.toml", now=dt.datetime.now(dt.UTC))
    return run_ceremony(
        replace(plan, tokens={"line": TokenChoice(TokenUri.parse(softhsm.uri("line")), softhsm.environment)})
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a folder where the request was made."""
    folder = tmp_path_factory.mktemp("import")
    perform(folder, REQUEST, "request")
    return folder


@pytest.fixture(autouse=True)
def _clean(home):
    yield
    for pattern in ("line.pem", "import.transcript*"):
        for path in home.glob(pattern):
            path.unlink()


class TheirCa:
    """Somebody else's root and issuer."""

    def __init__(self):
        self.keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "issuer")}
        self.names = {name: x509.Name.from_rfc4514_string(f"CN=Their {name},O=They") for name in self.keys}

    def sign(self, subject, public, by, *, pathlen=None, start=None, end=None, more=(), usage=(5, 6)):
        signing = self.keys[by]
        own = x509.SubjectKeyIdentifier.from_public_key(public)
        above = x509.SubjectKeyIdentifier.from_public_key(signing.public_key())
        builder = (
            x509.CertificateBuilder(self.names[by], subject, public, x509.random_serial_number())
            .not_valid_before(start or NOW - dt.timedelta(days=1))
            .not_valid_after(end or NOW + dt.timedelta(days=100))
            .add_extension(x509.BasicConstraints(ca=True, path_length=pathlen), critical=True)
            .add_extension(x509.KeyUsage(*(position in usage for position in range(9))), critical=True)
            .add_extension(own, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), critical=False)
        )
        for value, critical in more:
            builder = builder.add_extension(value, critical=critical)
        return builder.sign(signing, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def write(self, home, *, issuer_pathlen=1, **answer):
        asked = x509.load_pem_x509_csr((home / "line.csr").read_bytes())
        root = self.sign(self.names["root"], self.keys["root"].public_key(), "root")
        issuer = self.sign(self.names["issuer"], self.keys["issuer"].public_key(), "root", pathlen=issuer_pathlen)
        answer = {"subject": asked.subject, "public": asked.public_key(), "by": "issuer", "pathlen": 0, **answer}
        (home / "their-root.pem").write_bytes(root)
        (home / "their-issuer.pem").write_bytes(issuer)
        (home / "answer.pem").write_bytes(self.sign(**answer))


@pytest.fixture
def they():
    return TheirCa()


def refused(home, code, text=IMPORT):
    with pytest.raises(CeremonyError) as caught:
        perform(home, text, "import")
    assert caught.value.code == code
    assert not (home / "line.pem").exists()


def test_the_request_is_a_cas(home):
    asked = x509.load_pem_x509_csr((home / "line.csr").read_bytes())
    assert asked.is_signature_valid
    assert asked.subject.rfc4514_string() == "CN=Line,O=Acme"
    assert asked.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_sound_answer_is_taken(home, they):
    they.write(home)
    perform(home, IMPORT, "import")
    assert (home / "line.pem").read_bytes() == (home / "answer.pem").read_bytes()


def test_their_usages_may_be_more_than_ours(home, they):
    they.write(home, usage=(0, 5, 6))
    assert perform(home, IMPORT, "import").files


DIRECTORY = x509.NameConstraints([x509.DirectoryName(x509.Name.from_rfc4514_string("O=Acme"))], None)
CLIENT = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH])


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"by": "root"}, "ceremony.chain"),
        ({"public": ec.generate_private_key(ec.SECP256R1()).public_key()}, "key.missing"),
        ({"subject": x509.Name.from_rfc4514_string("CN=Lime,O=Acme")}, "subject.mismatch"),
        ({"pathlen": None}, "bc.pathlen"),
        ({"issuer_pathlen": 0}, "ceremony.chain"),
        ({"start": NOW + dt.timedelta(days=1)}, "import.not_valid"),
        ({"start": NOW - dt.timedelta(days=1), "end": NOW - dt.timedelta(seconds=5)}, "import.not_valid"),
        ({"end": NOW + dt.timedelta(days=200)}, "validity.outside_issuer"),
        ({"usage": (0, 5)}, "ku.mismatch"),
        ({"more": [(DIRECTORY, True)]}, "nc.unexpected"),
        ({"more": [(CLIENT, False)]}, "eku.unexpected"),
        ({"more": [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0"), True)]}, "extension.unknown"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(home, they, answer, code):
    they.write(home, **answer)
    refused(home, code)


def test_a_constraint_that_is_written_down_is_taken(home, they):
    they.write(home, more=[(DIRECTORY, True), (CLIENT, False)])
    written = 'permitted = { directory = [{ O = "Acme" }] }\nextended_key_usage = ["clientAuth"]\n'
    assert perform(home, IMPORT + written, "import").files


def test_a_constraint_that_is_missing_is_refused(home, they):
    they.write(home)
    refused(home, "eku.missing", IMPORT + 'extended_key_usage = ["clientAuth"]\n')


def test_a_chain_in_the_wrong_order_is_refused(home, they):
    they.write(home)
    refused(home, "ceremony.chain", IMPORT.replace('"their-issuer.pem", "their-root.pem"', '"their-root.pem"'))


def test_a_request_for_another_key_is_refused(home, they):
    they.write(home)
    other = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder(x509.Name.from_rfc4514_string("CN=Line,O=Acme"))
    content = builder.sign(other, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (home / "other.csr").write_bytes(content)
    refused(home, "import.other_key", IMPORT.replace("line.csr", "other.csr"))
