"""What somebody meets who does the obvious wrong thing: one line, what is wrong, and the next move."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hsm.serials import shown
from station.cli.root import root

pytestmark = pytest.mark.usefixtures("here")

STATION = Path(sys.executable).with_name("station")


def station(*arguments, exit_code=0):
    result = CliRunner().invoke(root, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


def refused(*arguments):
    """Return the one line of a command that fails."""
    result = station(*arguments, exit_code=1)
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("station: ")
    return result.stderr


def copy_line(source, target):
    shutil.copytree(source, target, symlinks=True)
    for path in (target / "station.toml", target / "tokens" / "softhsm2.conf"):  # they name their folder
        path.write_text(path.read_text().replace(str(source), str(target)))


@pytest.fixture(scope="module")
def made(tmp_path_factory, pristine, device_build):
    """A line whose boards passed and are gone; nobody changes it."""
    folder = tmp_path_factory.mktemp("made") / "line"
    copy_line(pristine, folder)
    shutil.copytree(device_build, folder / "boards" / "build")
    subprocess.run([STATION, "run", "--once"], cwd=folder, check=True, capture_output=True)
    shutil.rmtree(folder / "boards")
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """Stand in the folder of such a line of one's own."""
    copy_line(made, tmp_path / "line")
    monkeypatch.chdir(tmp_path / "line")


def change(before, after):
    text = Path("station.toml").read_text()
    assert before in text
    Path("station.toml").write_text(text.replace(before, after))


def findings(*command, exit_code=1):
    lines = station(*command, "--json", exit_code=exit_code).stdout.splitlines()
    return {one["check"]: one for one in map(json.loads, lines)}


# -- check and doctor


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('model = "reference-device"', 'model = "other"', "[product] model is 'other', and order WO-0001 is for"),
        ('profile = "idevid"', 'profile = "tls-client"', "[ca] profile is 'tls-client', and order WO-0001 is for"),
    ],
)
def test_a_line_that_would_not_start_fails_its_check(before, after, said):
    change(before, after)
    found = findings("check")["order"]
    assert found["level"] == "fail"
    assert said in found["text"]


def test_doctor_examines_the_token_though_the_order_is_no_good():
    change('model = "reference-device"', 'model = "other"')
    found = findings("doctor")
    assert (found["order"]["level"], found["signature"]["level"]) == ("fail", "ok")


@pytest.mark.parametrize(
    ("before", "after", "check"),
    [
        ("token=intermediate?", "token=gone?", "token"),
        ("token=intermediate?", "token=root?", "token"),
        ("token=intermediate?", "token=oem?", "key"),
        ('model = "reference-device"', 'model = "other"', "order"),
    ],
)
def test_advice_is_for_the_engineer_and_no_sentence_for_operators(before, after, check):
    change(before, after)
    if after.startswith("token"):
        change(f"pins/{before[6:-1]}", f"pins/{after[6:-1]}" if after != "token=gone?" else "pins/intermediate")
    found = findings("doctor")[check]
    assert found["level"] == "fail"
    assert "Call the" not in found["text"] + found["advice"]


# -- the manifest


@pytest.mark.parametrize("target", ["missing/copy.db", "missing/"])
def test_backup_into_a_folder_that_is_not_there_says_so_and_writes_nothing(target):
    assert "there is no folder missing" in refused("manifest", "backup", target)
    assert not Path("missing").exists()


def test_drill_of_a_damaged_backup_blames_the_backup():
    station("manifest", "backup", "copy.db")
    os.truncate("copy.db", 30_000)
    found = findings("manifest", "restore-drill", "copy.db")
    assert "take an older one, and make a new one now" in found["length"]["advice"]
    assert found["loss"]["text"].startswith("the backup can't be read")


def other_key():
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    Path("other.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return "other.pem"


def test_verify_with_another_key_is_no_list_of_changed_rows():
    said = refused("manifest", "verify", "manifest.db", "--key", other_key())
    assert "nothing was checked" in said
    assert "give the ledger key of the station that wrote it" in said


def test_proof_checked_with_another_key_names_the_right_one():
    station("manifest", "prove", "SN000001")
    said = refused("manifest", "check-proof", "SN000001.tlog-proof", "--key", other_key())
    assert "give the ledger key of the station that wrote it" in said


def test_proof_overwrites_nothing_but_itself():
    station("manifest", "prove", "SN000001")
    before = Path("SN000001.tlog-proof").read_bytes()
    station("manifest", "prove", "SN000001")
    assert "is there already" in refused("manifest", "prove", "SN000002", "-o", "SN000001.tlog-proof")
    assert Path("SN000001.tlog-proof").read_bytes() == before
    station("manifest", "prove", "SN000002", "-o", "SN000001.tlog-proof", "--force")
    assert Path("SN000001.tlog-proof").read_bytes() != before


# -- orders and slots


TERMS = ("--name", "WO-9", "--product", "x", "--quantity", "5")


def test_order_is_not_written_over_another():
    station("order", "create", *TERMS, "--until", "2099-01-01")
    before = Path("WO-9.order.json").read_bytes()
    said = refused("order", "create", *TERMS, "--until", "2098-01-01")
    assert "WO-9.order.json is there already" in said
    assert "another --name" in said
    assert Path("WO-9.order.json").read_bytes() == before


def test_order_that_is_over_when_it_is_made_is_refused():
    assert "--until 2020-01-01 has passed" in refused("order", "create", *TERMS, "--until", "2020-01-01")
    assert not Path("WO-9.order.json").exists()


def test_orders_are_listed_with_the_minute_of_their_end():
    end = json.loads(station("order", "list", "--json").stdout)["not_after"]
    assert f"{end[:16]}Z" in station("order", "list").stdout


# -- units


def certificate_serial():
    return int(json.loads(station("unit", "show", "SN000001", "--json").stdout)["certificate_serial"], 16)


@pytest.mark.parametrize("form", ["{:x}", "{:040x}", "0x{:X}", "serial={:032X}"])
def test_unit_is_found_by_its_certificate_however_the_serial_is_written(form):
    text = form.format(certificate_serial())
    assert station("unit", "show", text).stdout.startswith("serial       SN000001\n")
    assert station("manifest", "prove", text, "-o", "-").stdout
    assert "SN000001" in station("ca", "hold", text).stdout


def test_commands_show_a_serial_in_one_form():
    serial = shown(certificate_serial())
    assert json.loads(station("unit", "show", "SN000001", "--json").stdout)["certificate_serial"] == serial
    for command in (("unit", "show", "SN000001"), ("unit", "resume", "SN000001"), ("ca", "hold", serial)):
        assert f" {serial}" in station(*command).stdout
    assert f"certificate {serial} is on hold" in refused("ca", "hold", serial)


def test_unit_shows_what_the_ca_did_to_its_certificate():
    def revocation():
        (issuance,) = json.loads(station("unit", "show", "SN000001", "--json").stdout)["issuances"]
        return issuance["revocation"]

    serial = shown(certificate_serial())
    assert revocation() is None
    station("ca", "hold", serial)
    assert revocation()["act"] == "hold"
    assert "on hold  since" in station("unit", "show", "SN000001").stdout
    station("ca", "release", serial)
    assert "good     released from a hold" in station("unit", "show", "SN000001").stdout
    station("ca", "revoke", serial, "--reason", "keyCompromise")
    assert ": keyCompromise" in station("unit", "show", "SN000001").stdout
    assert revocation()["reason"] == "keyCompromise"


def test_unit_is_shown_without_a_ca_too():
    shutil.rmtree("ca")
    assert "SN000001" in station("unit", "show", "SN000001").stdout
