"""Every rule fires on a certificate that breaks it, and on no other."""

import datetime as dt
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hsm import KeyFamily, Profile, der
from hsm.algorithms import SCHEMES
from hsm.lint import Expected, IssuerFacts, Linter
from hsm.profiles import HARDWARE_MODULE_NAME, NO_EXPIRY

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ISSUER_KEY = ec.generate_private_key(ec.SECP256R1())
DEVICE_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Issuer")])
SKI = x509.SubjectKeyIdentifier.from_public_key(ISSUER_KEY.public_key()).digest
AKI = x509.AuthorityKeyIdentifier(SKI, None, None)
FIELDS = {"model": "sensor", "product_serial": "SN1", "hardware_id": "00:11"}
CODES = {"idevid": Profile.load("idevid"), "tls-client": Profile.load("tls-client")}
FACTS = IssuerFacts(
    subject=ISSUER.public_bytes(),
    key_identifier=SKI,
    scheme=SCHEMES[KeyFamily.P256],
    signature_size=72,
    not_before=NOW,
    not_after=NO_EXPIRY,
)
DIGITAL_SIGNATURE = next(value for value, _ in CODES["idevid"].fixed_extensions())
NO_CA = x509.BasicConstraints(ca=False, path_length=None)


def spki(key):
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def parts(profile):
    """What a good certificate of a profile is built from; tests change one thing."""
    names = profile.alternative_names.fill(FIELDS)
    extensions = {"aki": (AKI, False)}
    short = {"BasicConstraints": "bc", "KeyUsage": "ku", "ExtendedKeyUsage": "eku"}
    extensions.update(
        {short[type(value).__name__]: (value, critical) for value, critical in profile.fixed_extensions()}
    )
    if profile.subject_key_identifier:
        extensions["ski"] = (x509.SubjectKeyIdentifier.from_public_key(DEVICE_KEY.public_key()), False)
    if names is not None:
        extensions["san"] = (names, False)
    return {
        "subject": profile.subject(FIELDS),
        "issuer": ISSUER,
        "key": DEVICE_KEY.public_key(),
        "serial": 0x01_00_00_00_00_00_00_00_00_00_00_00_00_00_00_FF,
        "start": NOW,
        "end": NO_EXPIRY if profile.validity.days is None else NOW + dt.timedelta(days=100),
        "extensions": extensions,
        "digest": hashes.SHA256(),
    }


def expected(profile, known):
    if not known:
        return Expected()
    good = parts(profile)
    return Expected(
        serial=good["serial"],
        subject=good["subject"].public_bytes(),
        key=good["key"],
        spki=spki(DEVICE_KEY),
        names=profile.alternative_names.fill(FIELDS),
        not_before=good["start"],
        not_after=good["end"],
    )


def build(made):
    builder = x509.CertificateBuilder(
        made["issuer"], made["subject"], made["key"], made["serial"], made["start"], made["end"]
    )
    for value, critical in made["extensions"].values():
        builder = builder.add_extension(value, critical)
    return builder.sign(ISSUER_KEY, made["digest"])


def codes(certificate, profile, *, known=True, facts=FACTS):
    findings = Linter(profile, facts).check(certificate, expected(profile, known))
    assert all(finding.message for finding in findings)
    return {finding.code for finding in findings}


def with_extension(name, value, critical):
    return lambda made: made["extensions"].update({name: (value, critical)})


def without(name):
    return lambda made: made["extensions"].pop(name)


def setting(**values):
    return lambda made: made.update(values)


def other_hardware(made):
    content = bytes.fromhex("06092b0601040181fd590104023131")
    name = x509.OtherName(HARDWARE_MODULE_NAME, der.encode(der.SEQUENCE, content))
    made["extensions"]["san"] = (x509.SubjectAlternativeName([name]), False)


CERT_SIGN = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.5"), b"\x05\x00")
DAY = dt.timedelta(days=1)

BROKEN = [
    ("idevid", "subject.empty", setting(subject=x509.Name([]))),
    ("idevid", "subject.mismatch", setting(subject=ISSUER)),
    ("idevid", "issuer.mismatch", setting(issuer=x509.Name([*ISSUER, *ISSUER]))),
    ("idevid", "serial.mismatch", setting(serial=7)),
    ("idevid", "key.mismatch", setting(key=OTHER_KEY.public_key())),
    ("idevid", "signature.mismatch", setting(digest=hashes.SHA384())),
    ("idevid", "validity.mismatch", setting(start=NOW + DAY)),
    ("tls-client", "validity.mismatch", setting(end=NOW + 101 * DAY)),
    ("idevid", "aki.missing", without("aki")),
    ("idevid", "aki.mismatch", with_extension("aki", x509.AuthorityKeyIdentifier(b"x" * 20, None, None), False)),
    ("idevid", "aki.critical", with_extension("aki", AKI, True)),
    ("idevid", "ski.unexpected", with_extension("ski", x509.SubjectKeyIdentifier(b"x" * 20), False)),
    ("tls-client", "ski.missing", without("ski")),
    ("tls-client", "ski.mismatch", with_extension("ski", x509.SubjectKeyIdentifier(b"x" * 20), False)),
    ("idevid", "bc.unexpected", with_extension("bc", NO_CA, True)),
    ("tls-client", "bc.missing", without("bc")),
    ("tls-client", "bc.critical", with_extension("bc", NO_CA, False)),
    ("tls-client", "bc.ca", with_extension("bc", x509.BasicConstraints(ca=True, path_length=None), True)),
    ("idevid", "ku.missing", without("ku")),
    ("idevid", "ku.critical", with_extension("ku", DIGITAL_SIGNATURE, False)),
    ("idevid", "ku.mismatch", with_extension("ku", CERT_SIGN, True)),
    (
        "idevid",
        "eku.unexpected",
        with_extension("eku", x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1")]), False),
    ),
    ("tls-client", "eku.missing", without("eku")),
    (
        "tls-client",
        "eku.mismatch",
        with_extension("eku", x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1")]), False),
    ),
    ("idevid", "san.missing", without("san")),
    ("idevid", "san.mismatch", other_hardware),
    ("tls-client", "san.unexpected", with_extension("san", x509.SubjectAlternativeName([x509.DNSName("a")]), False)),
    ("idevid", "extension.unknown", with_extension("x", UNKNOWN, False)),
    ("idevid", "extension.unknown_critical", with_extension("x", UNKNOWN, True)),
]


@pytest.mark.parametrize("known", [True, False], ids=["fields known", "after a crash"])
@pytest.mark.parametrize("name", sorted(CODES))
def test_good_certificate_passes(name, known):
    profile = CODES[name]
    assert codes(build(parts(profile)), profile, known=known) == set()


@pytest.mark.parametrize(("name", "code", "change"), BROKEN, ids=[f"{name} {code}" for name, code, _ in BROKEN])
def test_rule_fires(name, code, change):
    profile = CODES[name]
    made = parts(profile)
    change(made)
    assert codes(build(made), profile) == {code}


def test_key_that_the_profile_does_not_allow_is_found():
    profile = replace(CODES["idevid"], keys=frozenset({KeyFamily.RSA}))
    assert codes(build(parts(profile)), profile) == {"key.not_allowed"}


def test_certificate_that_is_too_large_is_found():
    profile = replace(CODES["idevid"], max_size=300)
    assert codes(build(parts(profile)), profile) == {"size.too_large"}


def test_size_is_that_of_the_longest_signature():
    """A certificate must not pass because its signature happened to be short."""
    profile = CODES["idevid"]
    certificate = build(parts(profile))
    tbs = certificate.tbs_certificate_bytes
    longest = len(der.join_signed(tbs, SCHEMES[KeyFamily.P256].identifier, bytes(72)))
    assert codes(certificate, replace(profile, max_size=longest)) == set()
    assert codes(certificate, replace(profile, max_size=longest - 1)) == {"size.too_large"}


@pytest.mark.parametrize(
    "facts", [replace(FACTS, not_before=NOW + DAY), replace(FACTS, not_after=NOW + 400 * DAY)], ids=["before", "after"]
)
def test_validity_outside_the_issuer_is_found(facts):
    profile = CODES["idevid"]
    assert codes(build(parts(profile)), profile, facts=facts) == {"validity.outside_issuer"}


def test_subject_of_another_form_is_found_after_a_crash():
    profile = CODES["idevid"]
    made = parts(profile)
    made["subject"] = ISSUER
    assert codes(build(made), profile, known=False) == {"subject.mismatch"}


@pytest.mark.parametrize(
    "change", [without("san"), with_extension("san", x509.SubjectAlternativeName([x509.DNSName("a")]), False)]
)
def test_names_of_another_form_are_found_after_a_crash(change):
    profile = CODES["idevid"]
    made = parts(profile)
    change(made)
    assert codes(build(made), profile, known=False) & {"san.missing", "san.mismatch"}


def patched(old, new):
    """A good certificate with bytes of its TBS replaced; its signature does not matter here."""
    tbs = build(parts(CODES["idevid"])).tbs_certificate_bytes
    assert tbs.count(old) == 1
    content = tbs[der.read(tbs, 0, len(tbs)).content :].replace(old, new)
    return der.join_signed(der.encode(der.SEQUENCE, content), SCHEMES[KeyFamily.P256].identifier, bytes(72))


SERIAL = bytes.fromhex("0210010000000000000000000000000000ff")
VALIDITY = b"\x30\x20\x17\x0d260101000000Z\x18\x0f99991231235959Z"


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (SERIAL, b"\x02\x01\x00", "serial.range"),
        (SERIAL, b"\x02\x01\xff", "serial.range"),
        (SERIAL, b"\x02\x15\x01" + b"\x01" * 20, "serial.range"),
        (VALIDITY, b"\x30\x22\x18\x0f20260101000000Z\x18\x0f99991231235959Z", "validity.encoding"),
        (VALIDITY, b"\x30\x1e\x17\x0d260101000000Z\x17\x0d250101000000Z", "validity.order"),
        (b"\xa0\x03\x02\x01\x02", b"", "version.not_v3"),
    ],
)
def test_byte_of_the_tbs_is_seen(old, new, code):
    assert code in codes(x509.load_der_x509_certificate(patched(old, new)), CODES["idevid"])


def test_extension_that_stands_twice_is_found():
    aki = bytes.fromhex("301f0603551d23041830168014") + SKI
    tbs = build(parts(CODES["idevid"])).tbs_certificate_bytes
    fields = [tbs[e.start : e.end] for e in der.children(tbs, der.read(tbs, 0, len(tbs)))]
    listed = der.read(fields[7], 2 + (fields[7][1] == 0x81), len(fields[7]))
    doubled = der.encode(der.SEQUENCE, fields[7][listed.content : listed.end] + aki)
    assert aki in fields[7]
    changed = der.encode(der.SEQUENCE, b"".join(fields[:7]) + der.encode(0xA3, doubled))
    certificate = x509.load_der_x509_certificate(
        der.join_signed(changed, SCHEMES[KeyFamily.P256].identifier, bytes(72))
    )
    assert codes(certificate, CODES["idevid"]) == {"der.malformed"}
