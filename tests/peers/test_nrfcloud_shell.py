"""nRF Cloud Utils, which nobody here wrote, provisions the virtual Zephyr board; and sees what our driver wrote."""

import asyncio
import csv
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from hsm import Csr
from station.devices.zephyr_shell import ZephyrShellDriver
from station.ports.link import open_link
from station.testing.exercise import worthless_chain

pytest.importorskip("nrfcloud_utils", reason="nrfcloud-utils is not installed: ./run setup")

TAG = 16842753


@pytest.fixture
def board(device, tmp_path):
    """Start a virtual board with a Zephyr shell and return its tty."""
    link = tmp_path / "tty"
    command = [device, "--storage", tmp_path / "board", "--hardware-id", "E8F1-7C0A-11D2-93B6", "--model", "widget"]
    with subprocess.Popen([*command, "--persona", "zephyr-shell", "--pty", link], stdout=subprocess.PIPE) as process:
        process.stdout.readline()  # the link is there
        yield link
        process.kill()


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


def test_the_installer_provisions_and_verifies(board, ca, tmp_path):
    script = Path(__file__).with_name("nrf_tool.py")
    options = ["--plain", "--ca", "ca.pem", "--ca-key", "ca.key", "--id-str", "dev1", "--verify"]
    options += ["--cmd-type", "nrf_cloud_cred_shell"]
    done = subprocess.run(
        [sys.executable, script, board, "nrfcloud_utils.device_credentials_installer", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Credential verification: PASS" in said
    assert "Private Key matches device certificate" in said
    with (tmp_path / "onboard.csv").open(newline="") as file:
        ((device_id, _, _, _, pem),) = csv.reader(file)
    x509.load_pem_x509_certificate(pem.encode()).verify_directly_issued_by(ca)
    assert device_id == "dev1"


def test_their_tool_finds_what_our_driver_wrote(board):
    pem = asyncio.run(_write(board))
    done = subprocess.run(
        [sys.executable, "-c", _CHECK, board, pem], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    there, digest, expected, point = done.stdout.split()
    assert (there, digest) == ("True", expected)
    leaf = x509.load_pem_x509_certificate(pem.encode())
    assert bytes.fromhex(point)[1:33] == leaf.public_key().public_numbers().x.to_bytes(32)


async def _write(tty):
    """Let our driver make a key and write a chain; return it as PEM."""
    with closing(await open_link(str(tty), 115200)) as link:
        driver = ZephyrShellDriver(link)
        await driver.identify()
        chain = worthless_chain(Csr.parse(await driver.make_key()))
        await driver.install(chain)
        return "".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode() for der in chain)


_CHECK = f"""
import os, sys
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo
port = os.path.realpath(sys.argv[1])
list_ports.comports = lambda: [ListPortInfo(port)]
from nrfcredstore.comms import Comms
from nrfcredstore.command_interface import NrfCloudCredShellInterface
shell = NrfCloudCredShellInterface(Comms(port=port))
print(*shell.check_credential_exists({TAG}, 1), shell.calculate_expected_hash(sys.argv[2]))
print(shell.get_pubkey({TAG}).hex())
"""
