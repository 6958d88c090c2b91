"""What each cloud gets: the files' forms, and the units that they refuse."""

import base64
import csv
import io
import json
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from station.exports.aws import Accounts, Bulk
from station.exports.azure import Azure
from station.exports.handover import Terms, hand_over
from station.exports.jws_manifest import JwsManifest
from station.exports.leaf import Issuer, common_name, p256_point
from station.exports.matter import Matter
from station.exports.naming import Naming
from station.exports.nrfcloud import NrfCloud
from station.exports.onboarding import BLE, FORBIDDEN, ON_NETWORK, Onboarding, verhoeff
from station.exports.tables import Form, Table
from station.exports.target import ExportError
from station.manifest import PassedUnit

NAMING = Naming.parse("{product_serial}")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
VENDOR, PRODUCT = (x509.ObjectIdentifier(f"1.3.6.1.4.1.37244.2.{last}") for last in (1, 2))


def certificate(subject, issuer, key, public):
    builder = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number(), NOW, NOW + timedelta(9999))
    return builder.sign(key, hashes.SHA256())


def certificate_with(subject, issuer, key, public, extension):
    builder = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number(), NOW, NOW + timedelta(9999))
    return builder.add_extension(extension, critical=False).sign(key, hashes.SHA256())


@pytest.fixture(scope="module")
def ca():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string("CN=Issuing CA,O=Acme")
    return key, Issuer.of(certificate(name, name, key, key.public_key()))


@pytest.fixture(scope="module")
def make(ca):
    """Make a unit that passed."""
    key, issuer = ca
    device = ec.generate_private_key(ec.SECP256R1()).public_key()

    def unit(number, *, subject=None, serial=None, signer=issuer):
        serial = serial or f"SN{number:06d}"
        name = subject or x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, serial)])
        der = certificate(name, signer.certificate.subject, key, device).public_bytes(Encoding.DER)
        facts = ("model", "order", "1.0", bytes(32), number, bytes(32), der, "2026-01-01T00:00:00.000Z", 3, None)
        return PassedUnit(serial, f"HW-{number}", *facts, unit_id=number, issuance_id=number)

    return unit


@pytest.fixture
def export(tmp_path):
    """Export units; return the folder."""

    def run(target, *units):
        hand_over(target, units, tmp_path / "out", Terms())
        return tmp_path / "out"

    return run


def dac(number):
    attributes = [(x509.NameOID.COMMON_NAME, f"DAC {number}"), (VENDOR, "FFF1"), (PRODUCT, "8001")]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def test_aws_gets_an_object_a_unit_with_the_parameters_of_the_template(ca, make, export):
    units = [make(1), make(2)]
    folder = export(Bulk(ca[1], NAMING, "policy", thing_groups=("g",)), *units)
    template = json.loads((folder / "template.json").read_text())
    lines = [json.loads(line) for line in (folder / "things.ndjson").read_text().splitlines()]
    assert all(line.keys() == template["Parameters"].keys() for line in lines)
    assert [
        x509.load_pem_x509_certificate(line["CertificatePem"].encode()).public_bytes(Encoding.DER) for line in lines
    ]
    assert template["Resources"]["certificate"]["Properties"]["CACertificatePem"] == (folder / "ca.pem").read_text()
    assert template["Resources"]["thing"]["Properties"]["ThingGroups"] == ["g"]


def test_a_template_that_aws_would_refuse_is_refused(ca, make, export):
    with pytest.raises(ExportError, match="AWS takes 10240"):
        export(Bulk(ca[1], NAMING, "policy", thing_groups=tuple(f"group-{n:0100d}" for n in range(99))), make(1))


@pytest.mark.parametrize("serial", ["SN 1", "SN/1", "S" * 129, "SÄ1"])
def test_a_name_that_aws_would_refuse_is_refused(ca, make, export, serial, tmp_path):
    unit = replace(make(1), product_serial=serial)
    with pytest.raises(ExportError, match="thing name"):
        export(Bulk(ca[1], NAMING, "policy"), make(2), unit)
    assert list(tmp_path.iterdir()) == []


def test_azure_gets_bodies_of_ten_enrolments(ca, make, export):
    folder = export(Azure(ca[1], NAMING, "g", "hub.example.net", individual=True), *(make(n) for n in range(23)))
    bodies = [json.loads(line) for line in (folder / "enrollments.ndjson").read_text().splitlines()]
    assert [len(body["enrollments"]) for body in bodies] == [10, 10, 3]
    first = bodies[0]["enrollments"][0]
    assert (first["registrationId"], first["iotHubHostName"]) == ("SN000000", "hub.example.net")
    der = base64.b64decode(first["attestation"]["x509"]["clientCertificates"]["primary"]["certificate"])
    assert x509.load_der_x509_certificate(der).subject.rfc4514_string() == "CN=SN000000"


def test_an_enrolment_group_holds_the_intermediate_alone(ca, make, export):
    folder = export(Azure(ca[1], NAMING, "g"), make(1))
    group = json.loads((folder / "enrollment-group.json").read_text())
    signing = group["attestation"]["x509"]["signingCertificates"]["primary"]["certificate"]
    assert signing == (folder / "intermediate.pem").read_text()
    assert not (folder / "enrollments.ndjson").exists()


def test_azure_refuses_a_unit_whose_cn_is_another_one(ca, make, export):
    other = make(2, subject=x509.Name.from_rfc4514_string("CN=model SN000002"))
    with pytest.raises(ExportError, match="'SN000002', but its certificate's CN is 'model SN000002'"):
        export(Azure(ca[1], NAMING, "g"), make(1), other)


@pytest.mark.parametrize("serial", ["-SN1", "SN1.", "SN 1", "SN#1"])
def test_azure_refuses_a_name_that_dps_would_refuse(ca, make, export, serial):
    with pytest.raises(ExportError, match="registration id"):
        export(Azure(ca[1], NAMING, "g"), make(1, serial=serial))


def test_nrf_cloud_gets_a_thousand_rows_a_file(ca, make, export):
    one = make(1)
    folder = export(NrfCloud(ca[1], NAMING, "gw", ("a", "b"), ("APP", "MODEM")), *[one] * 2001)
    files = sorted(folder.glob("onboard-*.csv"))
    rows = [list(csv.reader(io.StringIO(file.read_text()))) for file in files]
    assert [len(found) for found in rows] == [1000, 1000, 1]
    assert rows[0][0][:4] == ["SN000001", "gw", "a|b", "APP|MODEM"]
    assert x509.load_pem_x509_certificate(rows[2][0][4].encode()).subject.rfc4514_string() == "CN=SN000001"


def test_matter_gets_dacs_with_their_ids(ca, make, export):
    folder = export(Matter(ca[1], NAMING), make(1, subject=dac(1)), make(2, subject=dac(2)))
    assert (folder / "cns.txt").read_text() == "DAC 1\nDAC 2\n"
    rows = list(csv.DictReader(io.StringIO((folder / "dacs.csv").read_text())))
    assert [(row["vendor_id"], row["product_id"]) for row in rows] == [("FFF1", "8001")] * 2
    assert not (folder / "onboarding.csv").exists()


def test_a_certificate_that_is_no_dac_is_refused(ca, make, export):
    with pytest.raises(ExportError, match="is no DAC"):
        export(Matter(ca[1], NAMING), make(1))


def test_onboarding_data_is_drawn_for_each_unit_and_readable_by_its_owner_alone(ca, make, export):
    folder = export(Matter(ca[1], NAMING, onboarding=True), *(make(n, subject=dac(n)) for n in range(3)))
    file = folder / "onboarding.csv"
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert len({(row["passcode"], row["salt"]) for row in rows}) == 3
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_unit_of_another_ca_is_refused(ca, make, export):
    other = x509.Name.from_rfc4514_string("CN=Another CA")
    stranger = Issuer.of(certificate(other, other, ca[0], ca[0].public_key()))
    with pytest.raises(ExportError, match=r"not of CN=Issuing CA,O=Acme; name its CA with --issuer"):
        export(Accounts(ca[1], NAMING), make(1, signer=stranger))


@pytest.mark.parametrize("target", [Bulk, Azure])
def test_a_unit_without_a_certificate_is_refused(ca, make, export, target):
    with pytest.raises(ExportError, match="has no certificate"):
        export(target(ca[1], NAMING, "x"), replace(make(1), certificate=None))


def test_a_unit_of_a_ca_of_the_same_name_with_another_key_is_refused(ca, make, export):
    """Before a renewal, or after it: the chain in the export would not verify."""
    key, issuer = ca
    name = issuer.certificate.subject
    named = [
        certificate_with(name, name, key, key.public_key(), x509.SubjectKeyIdentifier(bytes([n] * 20))) for n in (1, 2)
    ]
    leaf = certificate_with(
        x509.Name.from_rfc4514_string("CN=SN1"), name, key, key.public_key(),
        x509.AuthorityKeyIdentifier(bytes([1] * 20), None, None),
    )  # fmt: skip
    unit = replace(make(1), certificate=leaf.public_bytes(Encoding.DER))
    with pytest.raises(ExportError, match="with another key"):
        export(Accounts(Issuer.of(named[1]), NAMING), unit)
    assert (export(Accounts(Issuer.of(named[0]), NAMING), unit) / "certificates.pem").exists()


@pytest.mark.parametrize("serial", ["=SN1", "+SN1", "-SN1", "@SN1"])
def test_a_name_that_a_spreadsheet_runs_is_refused_where_a_cloud_reads_it(ca, make, export, serial, tmp_path):
    with pytest.raises(ExportError, match="begins like a formula"):
        export(NrfCloud(ca[1], NAMING), make(1, serial=serial))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("hardware_id", ["-2+3", "=1", "@x"])
def test_what_a_board_says_is_never_a_formula_in_a_table_for_people(ca, make, export, hardware_id):
    folder = export(Azure(ca[1], NAMING, "g"), replace(make(1), hardware_id=hardware_id))
    (row,) = csv.DictReader(io.StringIO((folder / "devices.csv").read_text()))
    assert (row["registration_id"], row["hardware_id"]) == ("SN000001", f"'{hardware_id}")


def test_a_board_that_calls_itself_a_formula_is_none_in_the_list_of_dacs(ca, make, export):
    folder = export(Matter(ca[1], NAMING), replace(make(1, subject=dac(1)), hardware_id="-2"))
    (row,) = csv.DictReader(io.StringIO((folder / "dacs.csv").read_text()))
    assert row["hardware_id"] == "'-2"
    with pytest.raises(ExportError, match="begins like a formula"):
        hand_over(Matter(ca[1], NAMING), [make(1, subject=evil())], folder.with_name("more"), Terms())


def evil():
    attributes = [(x509.NameOID.COMMON_NAME, "=1+1"), (VENDOR, "FFF1"), (PRODUCT, "8001")]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


@pytest.mark.parametrize("mac", [None, "02:00:00:00:00:01"])
def test_the_mac_address_is_in_each_form_that_has_a_place_for_it(ca, make, tmp_path, mac):
    parquet = pytest.importorskip("pyarrow.parquet")
    unit = replace(make(1), mac=mac)
    for name, target in (
        ("jsonl", Table(Form.JSONL, NAMING)),
        ("parquet", Table(Form.PARQUET, NAMING)),
        ("jws", JwsManifest(ca[1], NAMING, NoSeal(), "Acme")),
    ):
        hand_over(target, [unit], tmp_path / name, Terms())
    assert json.loads((tmp_path / "jsonl" / "units.jsonl").read_text())["mac"] == mac
    assert parquet.read_table(tmp_path / "parquet" / "units.parquet").to_pylist()[0]["mac"] == mac
    (one,) = json.loads((tmp_path / "jws" / "manifest.json").read_text())
    payload = json.loads(base64.urlsafe_b64decode(one["payload"] + "=="))
    assert payload.get("mac") == mac
    assert ("mac" in payload) is (mac is not None)


class NoSeal:
    kid = "nobody"

    def sign(self, messages):
        return [bytes(64) for _ in messages]


def test_a_folder_with_secrets_is_its_owners_alone_and_others_are_not(ca, make, export, tmp_path):
    folder = export(Matter(ca[1], NAMING, onboarding=True), make(1, subject=dac(1)))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    hand_over(Matter(ca[1], NAMING), [make(1, subject=dac(1))], tmp_path / "open", Terms())
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o755


def test_no_passcode_is_anywhere_but_in_the_one_file(ca, make, export):
    folder = export(Matter(ca[1], NAMING, onboarding=True), *(make(n, subject=dac(n)) for n in range(3)))
    rows = list(csv.DictReader(io.StringIO((folder / "onboarding.csv").read_text())))
    others = "".join(file.read_text("latin-1") for file in folder.iterdir() if file.name != "onboarding.csv")
    for row in rows:
        assert row["passcode"] not in others
        assert row["verifier"] not in others


def test_parquet_says_what_csv_says(make, export, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    units = [make(1), make(2)]
    folder = export(Table(Form.PARQUET, NAMING), *units)
    hand_over(Table(Form.JSONL, NAMING), units, tmp_path / "jsonl", Terms())
    found = parquet.read_table(folder / "units.parquet").to_pylist()
    assert [row["product_serial"] for row in found] == ["SN000001", "SN000002"]
    wanted = [json.loads(line) for line in (tmp_path / "jsonl/units.jsonl").read_text().splitlines()]
    assert found == wanted


@settings(max_examples=30, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64).filter(lambda t: len(t.encode()) <= 64)
)
def test_the_quick_look_at_a_cn_is_the_parsers(text):
    key = ec.derive_private_key(7, ec.SECP256R1())
    issuer = x509.Name.from_rfc4514_string("CN=Issuing CA")
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
    der = certificate(subject, issuer, key, key.public_key()).public_bytes(Encoding.DER)
    start = der.find(issuer.public_bytes()) + len(issuer.public_bytes())
    assert common_name(der, start) == text
    x, y = p256_point(der, start)
    assert b"\4" + x + y == key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def test_a_key_on_another_curve_has_no_p256_point(ca):
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name.from_rfc4514_string("CN=x")
    assert p256_point(certificate(name, name, ca[0], key.public_key()).public_bytes(Encoding.DER), 0) is None


@pytest.mark.parametrize(
    "text", ["", "SN", "{serial}", "{product_serial}{hardware_id}", "{product_serial", "{}", "a\nb"]
)
def test_a_naming_without_exactly_one_field_is_refused(text):
    with pytest.raises(ExportError, match="names no unit"):
        Naming.parse(text)


def test_a_naming_finds_its_field_again(make):
    naming = Naming.parse("nrf-{hardware_id}.x")
    assert naming.value_in(naming.of(make(5))) == "HW-5"
    assert [naming.value_in(name) for name in ("nrf-.x", "HW-5", "nrf-HW-5", "")] == [None] * 4


def test_codes_are_those_of_the_matter_sdk():
    """The payloads that connectedhomeip prints for its example devices."""
    device = Onboarding(20202021, 3840, b"SPAKE2P Key Salt", 0xFFF1, 0x8001, BLE)
    assert device.qr_code() == "MT:-24J042C00KA0648G00"
    assert replace(device, discovery=ON_NETWORK).qr_code() == "MT:-24J0AFN00KA0648G00"
    assert device.manual_code() == "34970112332"


def test_the_verifier_is_that_of_the_matter_sdk():
    """The test verifier of connectedhomeip: passcode 20202021, salt "SPAKE2P Key Salt", 1000 iterations."""
    device = Onboarding(20202021, 3840, b"SPAKE2P Key Salt", 0xFFF1, 0x8001)
    assert (
        base64.b64encode(device.verifier()).decode().startswith("uWFwqugDNGiEck/po7KHwwMwwqZgN10XuyBajPGuyzUEV/iree4l")
    )


def test_forbidden_passcodes_are_never_drawn(monkeypatch):
    drawn = iter([*sorted(FORBIDDEN - {0}), 4711])
    monkeypatch.setattr("secrets.randbelow", lambda most: next(drawn) - 1 if most > 4096 else 5)
    assert Onboarding.new(1, 2).passcode == 4711


@given(st.integers(0, 10**10 - 1), st.integers(0, 9), st.integers(1, 9))
def test_a_wrong_digit_is_seen_by_the_check_digit(number, place, change):
    digits = f"{number:010d}"
    wrong = digits[:place] + str((int(digits[place]) + change) % 10) + digits[place + 1 :]
    assert verhoeff(wrong) != verhoeff(digits)
