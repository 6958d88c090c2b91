"""Profiles: what they make, and what is said about a file that can't be used."""

import datetime as dt

import pytest
from cryptography import x509

from hsm import FieldError, IssuanceError, Profile, ProfileError
from hsm.profile_file import FOLDER
from hsm.profiles import NO_EXPIRY, Validity

FIELDS = {
    "model": "sensor",
    "product_serial": "SN000001",
    "hardware_id": "00:11:22",
    "order": "PO-1",
    "name": "Acme CA",
    "first_name": "host.example.com",
    "vendor_id": "FFF1",
    "product_id": "8000",
    "code": "0123456789abcdef",
}
GOOD = """\
keys = ["p256"]
max_size = 1024

[subject]
CN = "{product_serial}"

[subject_alternative_name]
hardware_type = "1.3.6.1.4.1.32473.1"
hardware_serial = "{hardware_id}"
dns = ["{product_serial}.example.com"]
uri = ["urn:example:{product_serial}"]

[validity]
days = 30
past_issuer = "refuse"

[extensions]
basic_constraints = true
subject_key_identifier = true
key_usage = ["digitalSignature", "keyAgreement"]
extended_key_usage = ["clientAuth", "1.3.6.1.4.1.32473.9"]
"""


def load(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return Profile.load(path)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_profile_of_ours_loads_by_name(path):
    profile = Profile.load(path.stem)
    assert profile.name == path.stem
    assert profile.fields <= FIELDS.keys()
    assert profile.subject(FIELDS)


def test_idevid_subject_has_the_serial_number_attribute():
    subject = Profile.load("idevid").subject(FIELDS)
    assert [(a.rfc4514_attribute_name, a.value) for a in subject] == [
        ("CN", "sensor SN000001"),
        ("2.5.4.5", "SN000001"),
    ]


def test_idevid_names_the_hardware_module():
    names = Profile.load("idevid").alternative_names.fill(FIELDS)
    (name,) = names.get_values_for_type(x509.OtherName)
    assert name == x509.OtherName(
        x509.ObjectIdentifier("1.3.6.1.5.5.7.8.4"),
        bytes.fromhex("301506092b0601040181fd5901") + b"\x04\x0800:11:22",
    )


def test_whole_file_is_used(tmp_path):
    profile = load(tmp_path, GOOD)
    names = profile.alternative_names.fill(FIELDS)
    assert names.get_values_for_type(x509.DNSName) == ["SN000001.example.com"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:example:SN000001"]
    assert profile.fields == {"product_serial", "hardware_id"}
    extensions = {type(value): (value, critical) for value, critical in profile.fixed_extensions()}
    assert extensions[x509.BasicConstraints] == (x509.BasicConstraints(ca=False, path_length=None), True)
    assert [oid.dotted_string for oid in extensions[x509.ExtendedKeyUsage][0]] == [
        "1.3.6.1.5.5.7.3.2",
        "1.3.6.1.4.1.32473.9",
    ]
    usage, critical = extensions[x509.KeyUsage]
    assert critical
    assert usage.digital_signature
    assert usage.key_agreement
    assert not usage.key_cert_sign


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("max_size = 1024", "max_sise = 1024", 1, "max_size is missing"),
        ("max_size = 1024", "max_size = 1024\nmax_sise = 1", 3, "unknown key 'max_sise'; did you mean 'max_size'?"),
        ("max_size = 1024", 'max_size = "1024"', 2, "max_size is a whole number, not '1024'"),
        ("max_size = 1024", "max_size = true", 2, "max_size is a whole number, not True"),
        ("max_size = 1024", "max_size = 9", 2, "max_size is 256 to 16384 bytes"),
        ('keys = ["p256"]', "keys = []", 1, "keys names the keys that are allowed"),
        ('keys = ["p256"]', 'keys = ["p265"]', 1, "'p265' is not known in keys; did you mean 'p256'?"),
        ('keys = ["p256"]', 'keys = ["p256", "p256"]', 1, "keys names something twice"),
        ('keys = ["p256"]', "keys = [256]", 1, "keys is a list of texts"),
        ('CN = "{product_serial}"', "", 4, r"\[subject\] names at least one attribute"),
        ('CN = "', 'commonName = "', 5, "unknown attribute 'commonName'"),
        ('CN = "', 'serialnumber = "', 5, "did you mean 'serialNumber'"),
        ('CN = "{product_serial}"', 'CN = "{product_serial"', 5, "can't be read"),
        ('CN = "{product_serial}"', 'CN = "{product_serial!r}"', 5, "is not a field"),
        ('CN = "{product_serial}"', 'CN = "{product.serial}"', 5, "is not a field"),
        ('CN = "{product_serial}"', 'CN = ""', 5, "must not be empty"),
        ('hardware_type = "1.3.6.1.4.1.32473.1"', "", 7, "go together"),
        ("1.3.6.1.4.1.32473.1", "1.99", 8, "is not an object identifier"),
        ("days = 30", "days = 0", 13, "takes either days, or not_after"),
        ("days = 30", "days = 99999", 14, "days is 1 to 36525"),
        ("days = 30", 'not_after = "2030"', 14, 'not_after is "99991231235959Z"'),
        ('past_issuer = "refuse"', 'past_issuer = "cut"', 15, 'past_issuer is "refuse" or "clip", not .cut.'),
        ("basic_constraints = true", "basic_constraints = 1", 18, "basic_constraints is true or false"),
        ("basic_constraints = true", "basic_constraint = true", 17, "needs basic_constraints"),
        ("digitalSignature", "digital_signature", 20, "did you mean 'digitalSignature'"),
        ("clientAuth", "clientauth", 21, "did you mean 'clientAuth'"),
        ("[extensions]", "[extension]", 1, "extensions is missing"),
    ],
)
def test_fault_names_file_line_and_what_to_write(tmp_path, old, new, line, told):
    assert old in GOOD
    with pytest.raises(ProfileError, match=told) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert str(caught.value).startswith(f"{tmp_path}/mine.toml:{line}: ")


def test_text_that_is_no_toml_names_its_line(tmp_path):
    with pytest.raises(ProfileError, match=r"mine.toml: .*line 1"):
        load(tmp_path, "keys = ???")


def test_unknown_profile_names_those_there_are():
    with pytest.raises(ProfileError, match="no profile 'idev': give a path, or one of azure-dps, code-signing, idevid"):
        Profile.load("idev")


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("product_serial", "SN_1", "field.characters"),
        ("product_serial", "SN*", "field.characters"),
        ("product_serial", "é", "field.characters"),
        ("product_serial", "x" * 65, "field.length"),
        ("product_serial", "", "field.invalid"),
        ("product_serial", " SN1", "field.invalid"),
        ("product_serial", "SN\x1b[2J", "field.invalid"),
        ("product_serial", "SN\n1", "field.invalid"),
        ("model", "m" * 60, "field.length"),
    ],
)
def test_value_that_cannot_stand_there_is_refused(field, value, code):
    with pytest.raises(FieldError) as caught:
        Profile.load("idevid").subject({**FIELDS, field: value})
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_missing_field_is_named():
    with pytest.raises(FieldError, match="needs the field 'model'") as caught:
        Profile.load("idevid").subject({"product_serial": "SN1"})
    assert caught.value.code == "field.missing"


def test_long_hardware_serial_is_refused():
    with pytest.raises(FieldError, match="at most 128 bytes"):
        Profile.load("idevid").alternative_names.fill({**FIELDS, "hardware_id": "x" * 129})


def test_name_that_is_no_ascii_is_no_dns_name(tmp_path):
    with pytest.raises(FieldError, match="dns is a IA5String"):
        load(tmp_path, GOOD).alternative_names.fill({**FIELDS, "product_serial": "é"})


def test_no_expiry_is_one_moment_whatever_the_start():
    assert Validity(None, clip=False).not_after(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), NO_EXPIRY) == NO_EXPIRY


def test_both_ends_of_validity_count():
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert Validity(1, clip=False).not_after(start, NO_EXPIRY) == dt.datetime(2026, 1, 1, 23, 59, 59, tzinfo=dt.UTC)


def test_certificate_ends_with_its_issuer_if_it_may():
    start, end = dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    assert Validity(30, clip=True).not_after(start, end) == end
    with pytest.raises(IssuanceError, match="its issuer only until 2026-01-02") as caught:
        Validity(30, clip=False).not_after(start, end)
    assert caught.value.code == "issuance.past_issuer"


def test_digest_of_a_profile_is_of_what_it_says(tmp_path):
    def digest(text):
        (tmp_path / "own.toml").write_text(text)
        return Profile.load(tmp_path / "own.toml").sha256

    assert digest('about = "mine"\n# a comment\n' + GOOD) == digest(GOOD)
    assert digest(GOOD.replace("days = 30", "days = 31")) != digest(GOOD)
