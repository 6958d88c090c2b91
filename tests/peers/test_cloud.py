"""What the exports are for: AWS IoT (moto), nRF Cloud Utils, and JOSE libraries that others wrote take them."""

import base64
import csv
import json
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner
from cryptography import x509
from jwcrypto import jwk, jws
from moto import mock_aws
from nrfcloud_utils import cli_helpers, nrf_cloud_onboard

from station.cli.root import root
from station.manifest import ManifestReader
from station.testing.orders import reorder

UNITS = 12
REGION = "eu-central-1"
STATION = Path(sys.executable).parent / "station"


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A line with a CA in SoftHSM, twelve units that passed with its certificates, and an export key."""
    folder = tmp_path_factory.mktemp("line")
    done = CliRunner().invoke(root, ["init", "--softhsm", "--rehearsal", str(UNITS), str(folder)])
    assert done.exit_code == 0, done.output
    config = folder / "station.toml"
    text = config.read_text().replace('profile = "idevid"', 'profile = "azure-dps"')
    config.write_text(text)
    reorder(config, "WO-2")
    run(folder, "run", "--once")
    run(folder, "manifest", "export-key")
    return folder


def run(folder, *words):
    command = [STATION, *words, "--config", folder / "station.toml"]
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def export(line, target, *options):
    folder = line / f"{target}-{len(list(line.iterdir()))}"
    run(line, "manifest", "export", target, "--output", folder, *options)
    return folder


def ndjson(path):
    return [json.loads(text) for text in path.read_text().splitlines()]


@pytest.fixture
def iot(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield boto3.client("iot", region_name=REGION)


@pytest.mark.filterwarnings("default")  # moto's and boto3's own
def test_aws_takes_each_call_that_the_bulk_export_stands_for(line, iot, tmp_path):
    folder = export(line, "aws", "--policy", "devices")
    code = iot.get_registration_code()["registrationCode"]
    proof = tmp_path / "verification.pem"
    run(line, "ca", "verification", code, "--out", proof)
    authority = (folder / "ca.pem").read_text()
    registered = iot.register_ca_certificate(
        caCertificate=authority, verificationCertificate=proof.read_text(), setAsActive=True
    )
    iot.create_policy(policyName="devices", policyDocument='{"Version":"2012-10-17","Statement":[]}')
    template = json.loads((folder / "template.json").read_text())
    for row in ndjson(folder / "things.ndjson"):
        thing, certificate, policy = (carried_out(template, name, row) for name in ("thing", "certificate", "policy"))
        iot.create_thing(thingName=thing["ThingName"], attributePayload={"attributes": thing["AttributePayload"]})
        arn = iot.register_certificate(
            certificatePem=certificate["CertificatePem"],
            caCertificatePem=certificate["CACertificatePem"],
            status=certificate["Status"],
        )["certificateArn"]
        iot.attach_thing_principal(thingName=thing["ThingName"], principal=arn)
        iot.attach_policy(policyName=policy["PolicyName"], target=arn)
    found = iot.list_things()["things"]
    assert sorted(thing["thingName"] for thing in found) == [f"WO-2-{number:06d}" for number in range(1, UNITS + 1)]
    found = iot.list_certificates_by_ca(caCertificateId=registered["certificateId"])["certificates"]
    assert len(found) == UNITS


def carried_out(template, name, row):
    """Return the properties of a resource with the references of a template replaced."""

    def value(one):
        if isinstance(one, dict):
            return row[one["Ref"]] if one.keys() == {"Ref"} else {key: value(inner) for key, inner in one.items()}
        return one

    return value(template["Resources"][name]["Properties"])


@pytest.mark.filterwarnings("default")
def test_accounts_without_the_ca_take_each_certificate(line, iot):
    folder = export(line, "aws-accounts")
    for row in ndjson(folder / "registrations.ndjson"):
        arn = iot.register_certificate_without_ca(**row["register"])["certificateArn"]
        iot.create_thing(thingName=row["thingName"])
        iot.attach_thing_principal(thingName=row["thingName"], principal=arn)
    assert len(iot.list_certificates()["certificates"]) == UNITS


def test_the_verification_certificate_verifies_with_openssl(line, tmp_path):
    proof = tmp_path / "verification.pem"
    run(line, "ca", "verification", "f" * 64, "--out", proof)
    command = ["openssl", "verify", "-CAfile", line / "ca/root.pem", "-untrusted", line / "ca/intermediate.pem", proof]
    assert "OK" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    certificate = x509.load_pem_x509_certificate(proof.read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=" + "f" * 64


def test_nrf_cloud_utils_read_the_onboarding_file(line):
    folder = export(line, "nrfcloud", "--name", "nrf-{hardware_id}", "--tag", "a", "--tag", "b")
    file = folder / "onboard-00001.csv"
    devices = nrf_cloud_onboard.read_onboarding_csv(file)
    assert len(devices) == UNITS
    assert all(name.startswith("nrf-") for name, _ in devices)
    duplicates, rows = cli_helpers.check_if_device_exists_in_csv(file, devices[0][0], delete_duplicates=False)
    assert (len(duplicates), rows) == (1, UNITS)


def test_nrf_cloud_utils_write_the_rows_that_we_write(line, tmp_path):
    ours = (export(line, "nrfcloud", "--sub-type", "gw") / "onboard-00001.csv").read_text()
    row = next(csv.reader(ours.splitlines(keepends=True)))
    theirs = tmp_path / "theirs.csv"
    cli_helpers.save_onboarding_csv(str(theirs), False, False, *row)
    assert ours.startswith(theirs.read_text())


def test_nrf_cloud_utils_read_an_error_summary_as_we_do(line, tmp_path):
    summary = json.dumps({"errors": ["[2]: Device already exists", "[5]: bad"]})
    _, told = nrf_cloud_onboard.parse_err_msg(summary)
    folder = export(line, "nrfcloud", "--to", "summary")
    devices = nrf_cloud_onboard.update_device_list_err(
        nrf_cloud_onboard.read_onboarding_csv(folder / "onboard-00001.csv"), told
    )
    (tmp_path / "errors.json").write_text(summary)
    number = json.loads((folder / "export.json").read_text())["export"]
    run(line, "manifest", "import-receipt", tmp_path / "errors.json", "--export", number, "--rest", "accepted")
    sql = "SELECT product_serial, reason FROM receipt JOIN unit ON unit.id = unit_id WHERE export_id = ?"
    with ManifestReader(line / "manifest.db") as reader:
        assert {name: reason or "OK" for name, reason in reader.rows(sql, number)} == dict(devices)


def test_jwcrypto_verifies_the_statement_of_a_parcel(line):
    folder = export(line, "azure", "--group", "g", "--to", "dps")
    key = jwk.JWK.from_pem((line / "ca/export.pem").read_bytes())
    token = jws.JWS()
    token.deserialize((folder / "export.jws").read_text().strip())
    token.verify(key, detached_payload=(folder / "export.json").read_bytes())
    assert token.jose_header == {"alg": "ES256", "kid": key.thumbprint()}


def test_jwcrypto_verifies_each_object_of_a_jws_manifest(line):
    folder = export(line, "jws", "--organization", "Acme")
    key = jwk.JWK.from_pem((line / "ca/export.pem").read_bytes())
    objects = json.loads((folder / "manifest.json").read_text())
    assert len(objects) == UNITS
    for one in objects:
        token = jws.JWS()
        token.deserialize(json.dumps(one))
        token.verify(key)
        payload = json.loads(token.payload)
        (public,) = payload["publicKeySet"]["keys"]
        leaf = x509.load_der_x509_certificate(base64.b64decode(public["x5c"][0]))
        issuer = x509.load_der_x509_certificate(base64.b64decode(public["x5c"][1]))
        leaf.verify_directly_issued_by(issuer)
        numbers = leaf.public_key().public_numbers()
        told = jwk.JWK(**{name: public[name] for name in ("kty", "crv", "x", "y")})
        assert told.get_op_key("verify").public_numbers() == numbers
        assert one["header"]["uniqueId"] == payload["uniqueId"]


def test_the_profile_refuses_a_cn_that_dps_would_refuse_before_it_is_signed(line, tmp_path):
    folder = tmp_path / "requests"
    folder.mkdir()
    key, request = folder / "key.pem", folder / "a.csr"
    command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout"]
    subprocess.run([*command, key, "-subj", "/CN=x", "-out", request], check=True, capture_output=True)
    words = ["ca", "issue", "--profile", "azure-dps", "--csr", request, "--field", "product_serial=SN-"]
    command = [STATION, *words, "--config", line / "station.toml", "--no-pkilint"]
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "CN has to be" in done.stderr
