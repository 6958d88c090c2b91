"""nRF Cloud Utils, which nobody here wrote, provisions the virtual modem; and sees what our driver wrote into it."""

import asyncio
import csv
import re
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from station.devices.nordic_at import NordicAtDriver
from station.ports.link import open_link

pytest.importorskip("nrfcloud_utils", reason="nrfcloud-utils is not installed: ./run setup")

UUID = "50503631-3544-4e39-8017-1b1464017d02"
TAG = 16842753


@pytest.fixture
def modem(device, tmp_path):
    """Start a virtual modem: ``modem(persona)`` returns its tty."""
    started = []

    def start(persona="nrf91"):
        link = tmp_path / "tty"
        command = [device, "--storage", tmp_path / "board", "--hardware-id", UUID, "--model", "nRF9151-LACA"]
        process = subprocess.Popen([*command, "--persona", persona, "--pty", link], stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()  # the link is there
        return link

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def nrf(tmp_path):
    """Run one of the tools; return what it says."""

    def run(tty, module, *arguments):
        script = Path(__file__).with_name("nrf_tool.py")
        done = subprocess.run(
            [sys.executable, script, tty, f"nrfcloud_utils.{module}", "--plain", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def ca(tmp_path):
    """A CA in two PEM files, as the installer wants it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA of the tests")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(datetime(2025, 1, 1, tzinfo=UTC))
    certificate = builder.not_valid_after(datetime(2045, 1, 1, tzinfo=UTC)).sign(key, hashes.SHA256())
    (tmp_path / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "ca.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate


@pytest.mark.parametrize("persona", ["nrf91", "nrf91-shell", "nrf91-old"])
def test_the_installer_provisions_and_verifies(modem, nrf, ca, tmp_path, persona):
    tty = modem(persona)
    said = nrf(tty, "device_credentials_installer", "--ca", "ca.pem", "--ca-key", "ca.key", "-d", "--verify")
    assert "Credential verification: PASS" in said
    assert "COSE digest matches payload" in said
    with (tmp_path / "onboard.csv").open(newline="") as file:
        ((device_id, _, _, _, pem),) = csv.reader(file)
    leaf = x509.load_pem_x509_certificate(pem.encode())
    leaf.verify_directly_issued_by(ca)
    assert device_id == UUID


def test_the_parser_reads_the_attestation_token(modem, nrf, tmp_path):
    said = nrf(modem(), "gather_attestation_tokens", "--csv", "tokens.csv", "--log-level", "debug")
    assert re.search("Msg Type: +Device identity message v1", said)
    assert re.search("Dev Type: +nRF9151 LACA", said)
    imei, uuid, token, _time = (tmp_path / "tokens.csv").read_text().strip().split(",")
    assert (len(imei), uuid, token.count(".")) == (15, UUID, 1)


def test_their_credential_store_lists_what_our_driver_wrote(modem, ca):
    tty = modem()
    chain = [ca.public_bytes(Encoding.DER)] * 2  # a modem takes any text
    kept = asyncio.run(_write(tty, chain))
    done = subprocess.run([sys.executable, "-c", _LIST, tty], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    listed = dict(line.split() for line in done.stdout.splitlines())
    assert bytes.fromhex(listed["CLIENT_CERT"]) in kept
    assert "CLIENT_KEY" in listed
    pem = "".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode() for der in chain)
    assert listed["CLIENT_CERT"].lower() == sha256(pem.replace("\n", "\r\n").encode()).hexdigest()


async def _write(tty, chain):
    """Let our driver make a key and write a chain; return the digests that it expects then."""
    with closing(await open_link(str(tty), 115200)) as link:
        driver = NordicAtDriver(link)
        await driver.identify()
        await driver.make_key()
        await driver.install(chain)
        return driver.kept(chain)


_LIST = f"""
import os, sys
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo
port = os.path.realpath(sys.argv[1])
list_ports.comports = lambda: [ListPortInfo(port)]
from nrfcredstore.comms import Comms
from nrfcredstore.command_interface import ATCommandInterface
from nrfcredstore.credstore import CredStore
for entry in CredStore(ATCommandInterface(Comms(port=port))).list({TAG}):
    print(entry.type.name, entry.sha)
"""
