"""Matter's attestation certificates: a chain that OpenSSL accepts, and the reject cases of Matter's own test vectors.

The cases are those of connectedhomeip's ``gen_com_dut_test_vectors.py`` (a device under test must refuse them): each is
a certificate that is right but for one thing, and each is refused with a code of its own.
"""

import datetime as dt
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from hsm import Authority, Csr, FieldError, KeyFamily, KeyKind, LintError, Profile, der, generate_key, new_serial
from hsm.algorithms import SCHEMES
from hsm.authority import issue_root
from hsm.drafting import Drafter
from hsm.lint import Expected, IssuerFacts, Linter
from hsm.profiles import NO_EXPIRY
from hsm.testing import make_csr, open_signer, unordered
from softhsm import make_tokens

NOW = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
VID = x509.ObjectIdentifier("1.3.6.1.4.1.37244.2.1")
PID = x509.ObjectIdentifier("1.3.6.1.4.1.37244.2.2")
KEY = ec.generate_private_key(ec.SECP256R1())
ABOVE = ec.generate_private_key(ec.SECP256R1())
FIELDS = {"name": "Acme", "product_serial": "SN1", "vendor_id": "FFF1", "product_id": "8000"}
USAGE = {
    **dict.fromkeys(("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"), False),
    **dict.fromkeys(("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False),
}


def name(common, vid=None, pid=None):
    ids = [x509.NameAttribute(oid, value) for oid, value in ((VID, vid), (PID, pid)) if value is not None]
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common), *ids])


# What is above each kind of certificate.
ABOVE_OF = {
    "matter-dac": {"name": name("Acme PAI", "FFF1", "8000"), "path_length": 0},
    "matter-pai": {"name": name("Acme PAA", "FFF1"), "path_length": 1},
    "matter-paa": {"name": name("Acme", "FFF1"), "path_length": None, "self_issued": True},
}


def facts(profile, **changes):
    above = ABOVE_OF[profile] | changes
    key = KEY if above.get("self_issued") else ABOVE
    return IssuerFacts(
        subject=above["name"].public_bytes(),
        key_identifier=x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest,
        scheme=SCHEMES[KeyFamily.P256],
        signature_size=72,
        not_before=NOW,
        not_after=NO_EXPIRY,
        **{"family": KeyFamily.P256} | above,
    )


def parts(profile):
    """What a good certificate is built from; a case changes one thing."""
    ca = profile != "matter-dac"
    usage = {"key_cert_sign": True, "crl_sign": True} if ca else {"digital_signature": True}
    above = facts(profile)
    return {
        "version": x509.Version.v3,
        "subject": {
            "matter-dac": name("SN1", "FFF1", "8000"),
            "matter-pai": name("Acme PAI", "FFF1", "8000"),
            "matter-paa": name("Acme", "FFF1"),
        }[profile],
        "key": KEY.public_key(),
        "digest": hashes.SHA256(),
        "aki": (x509.AuthorityKeyIdentifier(above.key_identifier, None, None), False),
        "bc": (x509.BasicConstraints(ca=ca, path_length={"matter-pai": 0, "matter-paa": 1}.get(profile)), True),
        "ku": (x509.KeyUsage(**USAGE | usage), True),
        "ski": (x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()), False),
    }


def codes(profile, made, **above):
    issuer = facts(profile, **above)
    builder = x509.CertificateBuilder(issuer.name, made["subject"], made["key"], 77, NOW, NO_EXPIRY)
    for extension in ("aki", "bc", "ku", "ski"):
        if made.get(extension) is not None:
            builder = builder.add_extension(*made[extension])
    certificate = builder.sign(ABOVE, made["digest"])
    if made["version"] is not x509.Version.v3:
        with pytest.raises(LintError) as caught:  # pyca/cryptography does not read one, so it meets the lint as bytes
            Drafter(issuer, ABOVE.public_key()).redraft(Profile.load(profile), version_2(certificate))
        return {caught.value.code}
    found = Linter(Profile.load(profile), issuer).check(certificate, Expected())
    return {finding.code for finding in found}


def version_2(certificate):
    tbs = certificate.tbs_certificate_bytes
    content = tbs[der.read(tbs, 0, len(tbs)).content :]
    assert content.startswith(b"\xa0\x03\x02\x01\x02")
    return der.encode(der.SEQUENCE, content.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01", 1))


def bc(ca, path_length=None, *, critical=True):
    return {"bc": (x509.BasicConstraints(ca=ca, path_length=path_length), critical)}


def ku(*bits, critical=True):
    return {"ku": (x509.KeyUsage(**USAGE | dict.fromkeys(bits, True)), critical)}


def short_ski():
    return {"ski": (x509.SubjectKeyIdentifier(b"x" * 19), False)}


CA_BITS = ("key_cert_sign", "crl_sign")
K1 = ec.generate_private_key(ec.SECP256K1()).public_key()

CASES = [
    # profile, case, code, what is changed, what is above
    *(
        (profile, case, code, change, {})
        for profile in ABOVE_OF
        for case, code, change in [
            ("version 2", "version.not_v3", {"version": None}),
            ("ecdsa-with-SHA512", "signature.mismatch", {"digest": hashes.SHA512()}),
            ("secp256k1", "key.not_allowed", {"key": K1}),
            ("no basicConstraints", "bc.missing", {"bc": None}),
            ("no keyUsage", "ku.missing", {"ku": None}),
            ("no SKI", "ski.missing", {"ski": None}),
            ("no AKI", "aki.missing", {"aki": None}),
            ("SKI of 19 octets", "ski.length", short_ski()),
        ]
    ),
    ("matter-dac", "no VID", "subject.vid.missing", {"subject": name("SN1", None, "8000")}, {}),
    ("matter-dac", "no PID", "subject.pid.missing", {"subject": name("SN1", "FFF1")}, {}),
    ("matter-dac", "VID differs", "subject.vid.differs", {"subject": name("SN1", "FFF2", "8000")}, {}),
    ("matter-dac", "PID differs", "subject.pid.differs", {"subject": name("SN1", "FFF1", "8001")}, {}),
    ("matter-dac", "PAI has no VID", "issuer.vid.missing", {}, {"name": name("Acme PAI")}),
    ("matter-dac", "lower case", "subject.vid.value", {"subject": name("SN1", "fff1", "8000")}, {}),
    ("matter-dac", "three digits", "subject.pid.value", {"subject": name("SN1", "FFF1", "800")}, {}),
    ("matter-dac", "five digits", "subject.pid.value", {"subject": name("SN1", "FFF1", "08000")}, {}),
    (
        "matter-dac",
        "VID twice",
        "subject.vid.twice",
        {"subject": x509.Name([*name("SN1", "FFF1", "8000"), *name("x", "FFF1")])},
        {},
    ),
    (
        "matter-dac",
        "ids in the CN too",
        "subject.forbidden_text",
        {"subject": name("SN1 Mvid:FFF1", "FFF1", "8000")},
        {},
    ),
    ("matter-dac", "cA TRUE", "bc.ca", bc(True), {}),
    ("matter-dac", "BC not critical", "bc.critical", bc(False, critical=False), {}),
    ("matter-dac", "KU not critical", "ku.critical", ku("digital_signature", critical=False), {}),
    ("matter-dac", "KU keyCertSign", "ku.mismatch", ku(*CA_BITS), {}),
    ("matter-dac", "KU more bits", "ku.mismatch", ku("digital_signature", "key_agreement"), {}),
    ("matter-dac", "below a PAA", "issuer.path_length", {}, {"path_length": 1}),
    ("matter-pai", "no VID", "subject.vid.missing", {"subject": name("Acme PAI", None, "8000")}, {}),
    ("matter-pai", "VID differs", "subject.vid.differs", {"subject": name("Acme PAI", "FFF2")}, {}),
    ("matter-pai", "PAA has a PID", "issuer.pid.unexpected", {}, {"name": name("Acme PAA", "FFF1", "8000")}),
    ("matter-pai", "ids in the CN", "subject.forbidden_text", {"subject": name("Mpid:8000", "FFF1")}, {}),
    ("matter-pai", "cA FALSE", "bc.ca", bc(False), {}),
    ("matter-pai", "pathlen 1", "bc.path_length", bc(True, 1), {}),
    ("matter-pai", "pathlen 2", "bc.path_length", bc(True, 2), {}),
    ("matter-pai", "no pathlen", "bc.path_length", bc(True), {}),
    ("matter-pai", "BC not critical", "bc.critical", bc(True, 0, critical=False), {}),
    ("matter-pai", "KU not critical", "ku.critical", ku(*CA_BITS, critical=False), {}),
    ("matter-pai", "KU digitalSignature", "ku.mismatch", ku("digital_signature"), {}),
    ("matter-pai", "below a PAI", "issuer.path_exhausted", {}, {"path_length": 0}),
    ("matter-paa", "a PID", "subject.pid.unexpected", {"subject": name("Acme", "FFF1", "8000")}, {}),
    ("matter-paa", "cA FALSE", "bc.ca", bc(False), {}),
    ("matter-paa", "pathlen 0", "bc.path_length", bc(True, 0), {}),
    ("matter-paa", "pathlen 2", "bc.path_length", bc(True, 2), {}),
    ("matter-paa", "BC not critical", "bc.critical", bc(True, 1, critical=False), {}),
    ("matter-paa", "KU without keyCertSign", "ku.mismatch", ku("crl_sign"), {}),
    ("matter-paa", "not self-signed", "issuer.not_self", {}, {"self_issued": False}),
]


@pytest.mark.parametrize("profile", ABOVE_OF)
def test_good_certificate_passes(profile):
    assert codes(profile, parts(profile)) == set()


@pytest.mark.parametrize(
    ("profile", "case", "code", "change", "above"), CASES, ids=[f"{one[0]}: {one[1]}" for one in CASES]
)
def test_reject_case_is_refused_with_its_code(profile, case, code, change, above):
    assert code in codes(profile, parts(profile) | change, **above)


def test_issuer_with_a_key_on_another_curve_is_refused():
    assert "issuer.key_not_allowed" in codes("matter-dac", parts("matter-dac"), family=KeyFamily.P384)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Make PAA, PAI and DAC with keys in a token."""
    import asyncio  # noqa: PLC0415 - only here

    return asyncio.run(_chain(make_tokens(tmp_path_factory.mktemp("hsm"), ["matter"])))


async def _chain(tokens):
    now = dt.datetime.now(dt.UTC)
    with open_signer(tokens, "matter", writable=True) as signer:
        top, middle = (generate_key(signer, KeyKind.P256, label) for label in ("paa", "pai"))
        root = await issue_root(
            top, Profile.load("matter-paa"), fields=FIELDS, serial=new_serial(1), now=now, end=NO_EXPIRY
        )
        made = [x509.load_der_x509_certificate(root)]
        for profile, key in (("matter-pai", middle.public_key()), ("matter-dac", None)):
            authority = await Authority.open(signer, issuer=made[-1], chain=made[-2:-1])
            public = key or Csr.parse(make_csr()).public_key
            draft = authority.draft(
                unordered(Profile.load(profile)),
                public,
                fields=FIELDS,
                serial=new_serial(1),
                now=dt.datetime.now(dt.UTC),
            )
            made.append(x509.load_der_x509_certificate(await authority.issue(draft)))
        with pytest.raises(LintError) as caught:
            authority.draft(
                unordered(Profile.load("matter-dac")),
                KEY.public_key(),
                fields=FIELDS | {"vendor_id": "FFF2"},
                serial=new_serial(1),
                now=now + dt.timedelta(seconds=1),
            )
        assert caught.value.code == "subject.vid.differs"
    return made


def test_chain_is_accepted_by_openssl(chain, tmp_path):
    paths = [tmp_path / f"{kind}.pem" for kind in ("paa", "pai", "dac")]
    for path, certificate in zip(paths, chain, strict=True):
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paa, pai, dac = paths
    subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", paa, "-untrusted", pai, dac], check=True, capture_output=True
    )


def test_every_certificate_is_within_600_bytes(chain):
    assert all(len(certificate.public_bytes(Encoding.DER)) <= 600 for certificate in chain)


def test_ids_stand_in_attributes_of_their_own(chain):
    ids = [[one.value for oid in (VID, PID) for one in c.subject.get_attributes_for_oid(oid)] for c in chain]
    assert ids == [["FFF1"], ["FFF1", "8000"], ["FFF1", "8000"]]


@pytest.mark.parametrize("value", ["fff1", "FFF", "0FFF1", "FFG1"])
def test_id_that_is_not_four_digits_is_refused_before_it_is_drafted(value):
    with pytest.raises(FieldError) as caught:
        Profile.load("matter-dac").subject(FIELDS | {"vendor_id": value})
    assert caught.value.code == "field.pattern"
