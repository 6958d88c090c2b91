"""``station unit`` and ``station manifest``: what is on record, for people and programs."""

import asyncio
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_tools.provisioning import Locks
from hsm.serials import serial_text, shown
from station.cli.root import root
from station.config.folder import configuration
from station.manifest import Manifest, OrderTerms, Proof

SLOTS = '[[slot]]\nname = "1"\nport = "/dev/ttyUSB0"\n'
SERIAL = 0x01AB << 100
STATION = [sys.executable, "-c", "from station.cli import main; main()"]


def leaf(common_name):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), SERIAL, now, now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256())


async def fill(path):
    """Record one unit that passed, one that failed, and one that was begun."""
    certificate = leaf("A1")
    tbs = certificate.tbs_certificate_bytes
    der = certificate.public_bytes(serialization.Encoding.DER)
    draft = SimpleNamespace(tbs=tbs, tbs_sha256=hashlib.sha256(tbs).digest(), serial=SERIAL)
    with closing(Manifest.open(path)) as manifest:
        await manifest.open_order(OrderTerms("WO-0001", "reference-device", "idevid", 100, "SN{number:06d}", 1))
        units = [
            await manifest.begin(
                hardware_id=hardware_id,
                model="reference-device",
                firmware_version="1.0.0",
                firmware_sha256=bytes(32),
                slot=slot,
                order="WO-0001",
            )
            for slot, hardware_id in enumerate(("A1", "B2", "C3"), start=1)
        ]
        intent = await manifest.reserve(units[0].id, spki_sha256=b"k" * 32, draft=lambda _: draft)
        await manifest.record(intent, der)
        proof = Proof(challenge=b"c" * 32, message=b"m", signature=b"s", certificate=der)
        await manifest.passed(units[0].id, proof, locks=Locks.DEBUG | Locks.CREDENTIALS, seconds=1.5)
        await manifest.failed(units[1].id, "link.no_answer", "silent \x1b[2J board", "key")
    return certificate


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """Return a folder with a configuration and a manifest, and the certificate in it."""
    folder = tmp_path_factory.mktemp("line")
    (folder / "station.toml").write_text(configuration(name="line", slots=SLOTS))
    certificate = asyncio.run(fill(folder / "manifest.db"))
    return SimpleNamespace(folder=folder, config=folder / "station.toml", certificate=certificate)


@pytest.fixture
def station(line):
    """Run a command for the line; it has to succeed."""

    def run(*arguments, exit_code=0):
        result = CliRunner().invoke(root, [*arguments, "--config", str(line.config)])
        assert result.exit_code == exit_code, result.output
        return result

    return run


def test_units_are_listed_oldest_first(station):
    lines = station("unit", "list").stdout.splitlines()

    assert lines[0].split() == ["SERIAL", "HARDWARE", "ID", "STATE", "ORDER", "SLOT", "CHANGED", "FAILURE"]
    assert [line.split()[:5] for line in lines[1:]] == [
        ["SN000001", "A1", "passed", "WO-0001", "1"],
        ["-", "B2", "failed", "WO-0001", "2"],
        ["-", "C3", "open", "WO-0001", "3"],
    ]


def test_units_are_listed_by_state(station):
    units = station("unit", "list", "--state", "failed", "--json").stdout.splitlines()

    assert [json.loads(unit)["hardware_id"] for unit in units] == ["B2"]


def test_a_limit_keeps_the_newest_in_their_order(station):
    units = station("unit", "list", "--limit", "2", "--json").stdout.splitlines()

    assert [json.loads(unit)["hardware_id"] for unit in units] == ["B2", "C3"]


def test_a_list_of_nothing_says_so(station):
    result = station("unit", "list", "--order", "none")

    assert (result.stdout, result.stderr) == ("", "no such unit is on record yet\n")


@pytest.mark.parametrize("identity", ["SN000001", "A1", f"{SERIAL:x}", serial_text(SERIAL), (b"k" * 32).hex()])
def test_a_unit_is_found_by_each_of_its_names(station, identity):
    assert json.loads(station("unit", "show", identity, "--json").stdout)["hardware_id"] == "A1"


def test_a_unit_is_shown_with_its_proof(station):
    unit = json.loads(station("unit", "show", "A1", "--json").stdout)

    assert (unit["state"], unit["certificate_serial"], unit["product_serial"]) == (
        "passed",
        shown(SERIAL),
        "SN000001",
    )
    assert [issuance["state"] for issuance in unit["issuances"]] == ["recorded"]
    assert unit["proof"]["locks"] == ["debug", "credentials"]
    assert unit["events"]


def test_a_unit_is_shown_to_people(station):
    output = station("unit", "show", "A1").stdout

    assert [line for line in output.splitlines() if line.startswith("locks") or "locks seen" in line] == [
        "             locks seen: debug credentials"
    ]
    assert f"recorded  {shown(SERIAL)}" in output
    assert serial_text(SERIAL) not in output  # in one form, in the events too


def test_a_failure_shows_sentence_code_and_step(station):
    output = station("unit", "show", "B2").stdout

    assert "silent \\x1b[2J board [link.no_answer, in step key]" in output


def test_no_control_character_reaches_the_terminal(station):
    for command in (
        ["unit", "list"],
        ["unit", "show", "B2"],
        ["unit", "show", "B2", "--json"],
        ["unit", "list", "--json"],
    ):
        assert "\x1b" not in station(*command).stdout


def test_the_certificate_alone_is_pem(station, line):
    output = station("unit", "show", "A1", "--certificate").stdout

    assert x509.load_pem_x509_certificate(output.encode()) == line.certificate


def test_a_unit_without_certificate_has_none_to_print(station):
    result = station("unit", "show", "C3", "--certificate", exit_code=1)

    assert result.stderr == ("station: no certificate is on record for this unit; it gets one when it is plugged in\n")


def test_an_unknown_unit_is_one_line(station):
    result = station("unit", "show", "nobody", exit_code=1)

    assert result.stderr == "station: no unit is known as 'nobody'; 'station unit list' shows those that are\n"


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_stdout_gets_the_bytes_of_the_file(station, line, tmp_path, form):
    station("manifest", "export", form, "--output", str(tmp_path / "units"))
    done = subprocess.run(
        [*STATION, "manifest", "export", form, "--config", str(line.config)],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        check=True,
    )

    assert done.stdout == (tmp_path / "units").read_bytes()


def test_csv_has_the_units_that_passed(station):
    rows = list(csv.DictReader(io.StringIO(station("manifest", "export", "csv").stdout)))

    assert [(row["product_serial"], row["hardware_id"], row["locks"]) for row in rows] == [
        ("SN000001", "A1", "debug credentials")
    ]


def test_jsonl_has_all_units_when_asked(station):
    lines = station("manifest", "export", "jsonl", "--state", "all").stdout.splitlines()

    assert [json.loads(line)["hardware_id"] for line in lines] == ["A1", "B2", "C3"]


def test_an_export_of_an_unknown_order_is_refused(station):
    result = station("manifest", "export", "jsonl", "--order", "none", exit_code=1)
    assert result.stdout == ""
    assert "no order 'none'" in result.stderr


def test_an_export_goes_into_a_file(station, tmp_path):
    result = station("manifest", "export", "jsonl", "--output", str(tmp_path / "units.jsonl"))

    assert (result.stdout, result.stderr) == ("", f"wrote 1 units to {tmp_path / 'units.jsonl'}\n")
    assert json.loads((tmp_path / "units.jsonl").read_text())["hardware_id"] == "A1"


@pytest.mark.parametrize("name", ["manifest.db", "station.toml"])
def test_an_export_never_replaces_the_lines_own_files(station, line, name):
    before = (line.folder / name).read_bytes()
    result = station("manifest", "export", "csv", "--output", str(line.folder / name), exit_code=1)

    assert "name another file" in result.stderr
    assert (line.folder / name).read_bytes() == before


def test_an_export_into_a_missing_folder_is_one_line(station, tmp_path):
    result = station("manifest", "export", "csv", "--output", str(tmp_path / "no" / "units.csv"), exit_code=1)

    assert result.stderr.startswith(f"station: {tmp_path}/no/units.csv: can't be written")
    assert result.stderr.count("\n") == 1


def test_a_full_disk_is_one_line(line):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*STATION, "unit", "list", "--config", str(line.config)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (done.returncode, done.stderr) == (1, "station: input or output: No space left on device; make space\n")


def test_a_manifest_that_is_not_there_is_one_line(tmp_path):
    (tmp_path / "station.toml").write_text(configuration(name="line", slots=SLOTS))

    result = CliRunner().invoke(root, ["unit", "list", "--config", str(tmp_path / "station.toml")])

    assert result.exit_code == 1
    assert result.stderr == f"station: {tmp_path}/manifest.db: no manifest there; check the path\n"
