"""A CA's certificate that breaks a rule is seen before it is signed; each rule has a certificate that breaks it."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hsm.ceremony.certificates import CA_USAGE
from hsm.ceremony.lint import EXTENSIONS, Expected, check

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
END = dt.datetime(2036, 1, 1, tzinfo=dt.UTC)
ROOT_KEY = ec.generate_private_key(ec.SECP256R1())
KEY = ec.generate_private_key(ec.SECP256R1())
ROOT_NAME = x509.Name.from_rfc4514_string("CN=Root,O=Acme")
NAME = x509.Name.from_rfc4514_string("CN=Line,O=Acme")
ROOT_SKI = x509.SubjectKeyIdentifier.from_public_key(ROOT_KEY.public_key())
SKI = x509.SubjectKeyIdentifier.from_public_key(KEY.public_key())
AKI = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ROOT_SKI)
ACME = x509.DirectoryName(x509.Name.from_rfc4514_string("O=Acme"))
SERIAL = 1 << 120


def extensions(*changed, without=()):
    values = [x509.BasicConstraints(ca=True, path_length=0), CA_USAGE, SKI, AKI, *changed]
    return {value.oid: value for value in values if value.oid not in without}


def made(
    found,
    *,
    subject=NAME,
    key=KEY,
    issuer=ROOT_NAME,
    start=START,
    end=END,
    serial=SERIAL,
    digest=None,
    flip=None,
):
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), serial, start, end)
    for oid, value in found.items():
        critical = EXTENSIONS.get(oid, ("", False))[1]
        builder = builder.add_extension(value, critical=critical is not (oid == flip))
    return builder.sign(ROOT_KEY, digest or hashes.SHA256())


def root(*changed, without=()):
    values = [x509.BasicConstraints(ca=True, path_length=1), CA_USAGE, ROOT_SKI, AKI, *changed]
    found = {value.oid: value for value in values if value.oid not in without}
    return made(found, subject=ROOT_NAME, key=ROOT_KEY)


def codes(certificate, issuer=None, *, wanted=None, above=(), **changes):
    expected = {
        "subject": NAME.public_bytes(),
        "key": KEY.public_key(),
        "extensions": extensions() if wanted is None else wanted,
        **changes,
    }
    return {finding.code for finding in check(certificate, issuer or root(), Expected(**expected), above=above)}


def test_a_sound_certificate_has_no_findings():
    assert codes(made(extensions())) == set()
    found = {e.oid: e.value for e in root().extensions}
    assert check(root(), None, Expected(ROOT_NAME.public_bytes(), ROOT_KEY.public_key(), found)) == ()


OID = x509.ExtensionOID
NAMES = x509.NameConstraints([ACME], None)
CLIENT = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH])
SERVER = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])


@pytest.mark.parametrize(
    ("certificate", "code"),
    [
        (made(extensions(), serial=77), "serial.range"),
        (made(extensions(), digest=hashes.SHA384()), "signature.mismatch"),
        (made(extensions(), issuer=NAME), "issuer.mismatch"),
        (made(extensions(), end=END + dt.timedelta(1)), "validity.outside_issuer"),
        (made(extensions(), start=START - dt.timedelta(1)), "validity.outside_issuer"),
        (made(extensions(), subject=x509.Name([])), "subject.empty"),
        (made(extensions(), subject=ROOT_NAME), "subject.mismatch"),
        (made(extensions(), key=ROOT_KEY), "key.mismatch"),
        (made(extensions(), key=rsa.generate_private_key(65537, 1024)), "key.weak"),  # noqa: S505 - that is the point
        (made(extensions(), key=rsa.generate_private_key(3, 2048)), "key.weak"),
        (made(extensions(), key=ec.generate_private_key(ec.SECP224R1())), "key.weak"),
        (made(extensions(without=[OID.BASIC_CONSTRAINTS])), "bc.missing"),
        (made(extensions(), flip=OID.BASIC_CONSTRAINTS), "bc.critical"),
        (made(extensions(x509.BasicConstraints(ca=False, path_length=None))), "bc.not_ca"),
        (made(extensions(x509.BasicConstraints(ca=True, path_length=1))), "bc.pathlen"),
        (made(extensions(x509.BasicConstraints(ca=True, path_length=None))), "bc.pathlen"),
        (made(extensions(without=[OID.KEY_USAGE])), "ku.missing"),
        (made(extensions(), flip=OID.KEY_USAGE), "ku.critical"),
        (made(extensions(x509.KeyUsage(*(n in {0, 5} for n in range(9))))), "ku.mismatch"),
        (made(extensions(without=[OID.SUBJECT_KEY_IDENTIFIER])), "ski.missing"),
        (made(extensions(ROOT_SKI)), "ski.mismatch"),
        (made(extensions(without=[OID.AUTHORITY_KEY_IDENTIFIER])), "aki.missing"),
        (made(extensions(x509.AuthorityKeyIdentifier(b"x" * 20, None, None))), "aki.mismatch"),
        (made(extensions(NAMES)), "nc.unexpected"),
        (made(extensions(CLIENT)), "eku.unexpected"),
        (made(extensions(x509.OCSPNoCheck())), "extension.unknown"),
    ],
)
def test_a_certificate_that_breaks_a_rule_is_found(certificate, code):
    assert code in codes(certificate)


def test_name_constraints_are_critical_and_as_written():
    wanted = extensions(NAMES)
    assert codes(made(wanted), wanted=wanted) == set()
    assert "nc.critical" in codes(made(wanted, flip=OID.NAME_CONSTRAINTS), wanted=wanted)
    assert "nc.missing" in codes(made(extensions()), wanted=wanted)
    other = extensions(x509.NameConstraints(None, [ACME]))
    assert "nc.mismatch" in codes(made(other), wanted=wanted)


def test_usages_are_some_of_the_issuers():
    wanted = extensions(SERVER)
    assert codes(made(wanted), root(SERVER), wanted=wanted) == set()
    assert "eku.outside_issuer" in codes(made(wanted), root(CLIENT), wanted=wanted)


@pytest.mark.parametrize(
    ("constraints", "found"),
    [
        (NAMES, set()),
        (x509.NameConstraints([x509.DirectoryName(NAME)], None), set()),
        (x509.NameConstraints(None, [ACME]), {"subject.outside_issuer"}),
        (
            x509.NameConstraints([x509.DirectoryName(x509.Name.from_rfc4514_string("O=Globex"))], None),
            {"subject.outside_issuer"},
        ),
        (x509.NameConstraints([x509.DNSName("acme.example")], None), set()),
        (
            x509.NameConstraints(None, [x509.DirectoryName(x509.Name.from_rfc4514_string("O=aCME"))]),
            {"subject.outside_issuer"},
        ),
        (x509.NameConstraints([x509.DirectoryName(x509.Name.from_rfc4514_string("O=ACME"))], None), set()),
    ],
)
def test_a_ca_is_named_as_its_issuer_may_name(constraints, found):
    assert codes(made(extensions()), root(constraints)) == found


def test_a_link_certificate_is_no_step_down():
    """RFC 5280 4.2.1.9: certificates of the issuer's own name don't count."""
    same = made(extensions(x509.BasicConstraints(ca=True, path_length=1)), subject=ROOT_NAME)
    wanted = extensions(x509.BasicConstraints(ca=True, path_length=1))
    assert codes(same, wanted=wanted, subject=ROOT_NAME.public_bytes()) == set()


def test_what_others_made_may_name_their_places():
    places = x509.CRLDistributionPoints(
        [x509.DistributionPoint([x509.UniformResourceIdentifier("http://x.example/crl")], None, None, None)]
    )
    theirs = made(extensions(places, x509.OCSPNoCheck()), serial=77)
    assert codes(theirs, from_elsewhere=True) == set()
    assert codes(theirs) == {"cdp.unexpected", "extension.unknown", "serial.range"}


def test_what_others_signed_with_a_weak_hash_is_found():
    theirs = made(extensions(), digest=hashes.SHA224())
    assert codes(theirs, from_elsewhere=True) == {"signature.weak"}


@pytest.mark.parametrize(
    ("limit", "added", "found"),
    [
        (x509.NameConstraints(None, [ACME]), (), "subject.outside_issuer"),
        (CLIENT, (SERVER,), "eku.outside_issuer"),
        (x509.BasicConstraints(ca=True, path_length=1), (), "bc.pathlen"),
    ],
)
def test_limits_further_up_hold_too(limit, added, found):
    """The issuer repeats none of them."""
    wanted = extensions(*added)
    top = made(extensions(limit), key=ROOT_KEY, subject=ROOT_NAME, issuer=x509.Name.from_rfc4514_string("CN=Top"))
    middle = root(x509.BasicConstraints(ca=True, path_length=3))
    below = made(
        extensions(x509.BasicConstraints(ca=True, path_length=2)), subject=ROOT_NAME, issuer=NAME, key=ROOT_KEY
    )
    assert codes(made(wanted), below, wanted=wanted, above=[middle]) == set()
    assert found in codes(made(wanted), below, wanted=wanted, above=[middle, top])
