"""``station firmware``: from a build's image to a signed bundle, with a real token."""

import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import pytest

from firmware_tools.bundles.bundle import read_contents
from firmware_tools.bundles.release_signature import MAX_SIGNATURES
from firmware_tools.mcuboot_image import read_mcuboot
from firmware_tools.testing import unsigned_image
from hsm import TokenUri
from softhsm import make_tokens
from station.cli.root import root
from station.config.folder import make_line
from station.manifest import Manifest, ManifestReader
from station.manifest.testing import begin
from station.product_firmware import reason_of

PLAN = """\
product = "sensor"
version = "1.4.2"
minimum_bootloader = "1.0.0"

[flash]
kind = "smp"
chip = "sensor"

[[image]]
name = "app"
file = "app.bin"
address = 0
"""
UNIT_DATA = """
[[unit_data]]
name = "factory-data"
format = "esp-nvs"
address = 0x9000
size = 0x6000
[[unit_data.entry]]
key = "factory/serial"
type = "string"
value = "{product_serial}"
[[unit_data.entry]]
key = "factory/certificate"
type = "bytes"
value = "{certificate}"
"""
MATTER = """
[[unit_data]]
name = "matter"
format = "cbor"
address = 0x20000
size = 0x1000
[[unit_data.entry]]
key = "passcode"
type = "u32"
value = "{matter_passcode}"
"""


class Desk:
    """A folder with a token, and who works in it."""

    def __init__(self, folder):
        self.folder = folder
        self.tokens = make_tokens(folder / "tokens", ["oem", "second"])
        (folder / "app.bin").write_bytes(unsigned_image((1, 4, 2, 0)))
        (folder / "sensor.toml").write_text(PLAN)
        (folder / "data.toml").write_text(PLAN.replace("1.4.2", "1.5.0") + UNIT_DATA + MATTER)

    def __call__(self, *arguments, code=0):
        """Type a command here; it runs in this process, which saves most of a second each."""
        stdout, stderr = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.tokens.environment),
            mock.patch("sys.stdin", io.StringIO()),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            pytest.raises(SystemExit) as left,
        ):
            root.main(["firmware", *map(str, arguments)], prog_name="station")
        assert left.value.code == code, stderr.getvalue()
        return SimpleNamespace(stdout=stdout.getvalue(), stderr=stderr.getvalue())

    def refused(self, *arguments, code=1):
        """Return the one line of a refusal."""
        done = self(*arguments, code=code)
        assert (done.stdout, done.stderr.count("\n")) == ("", 1)
        return done.stderr

    def key(self, token="oem", label=None):  # noqa: S107 - labels
        uri = self.tokens.uri(token)
        return str(TokenUri.parse(uri.replace("?", f";object={label}?", 1) if label else uri))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    desk = Desk(tmp_path_factory.mktemp("firmware"))
    for token in ("oem", "second"):
        desk("key", "--token", desk.key(token), "--out", f"{token}.pem")
    return desk


@pytest.fixture
def desk(made):
    """The desk, with no bundle on it."""
    yield made
    for left in (*made.folder.glob("*.bundle"), *made.folder.glob("*.out")):
        left.unlink()


@pytest.fixture
def bundle(desk):
    """A signed bundle."""
    desk("pack", "sensor.toml")
    desk("sign", "sensor-1.4.2.bundle", "--key", desk.key(), "--yes")
    return "sensor-1.4.2.bundle"


def test_a_bundle_packed_by_one_and_signed_by_another_is_verified(desk, bundle):
    done = desk("verify", bundle, "--release-key", "second.pem", "--release-key", "oem.pem")
    assert "signed by oem.pem" in done.stdout


def test_a_program_reads_what_is_in_a_bundle(desk, bundle):
    said = json.loads(desk("verify", bundle, "--release-key", "oem.pem", "--json").stdout)
    contents = read_contents(desk.folder / bundle)
    assert (said["product"], said["version"], said["digest"]) == ("sensor", "1.4.2", contents.digest.hex())
    assert (said["verified"], said["signers"]) == (True, ["oem.pem"])
    assert said["images"][0]["sha256"] == contents.payload.images[0].sha256.hex()


def test_show_says_that_it_verifies_no_signature(desk, bundle):
    assert "not verified" in desk("show", bundle).stdout
    assert json.loads(desk("show", bundle, "--json").stdout)["verified"] is False


def test_a_second_signature_is_added(desk, bundle):
    digest = read_contents(desk.folder / bundle).digest
    assert "signatures: 2" in desk("sign", bundle, "--key", desk.key("second"), "--yes").stdout
    assert read_contents(desk.folder / bundle).digest == digest
    assert desk("verify", bundle, "--release-key", "second.pem").stdout


def test_the_same_key_signs_once(desk, bundle):
    assert "before" in desk.refused("sign", bundle, "--key", desk.key(), "--yes")


def test_a_bundle_that_is_full_of_signatures_is_not_spoilt_by_one_more(desk, bundle):
    path = desk.folder / bundle
    contents = read_contents(path)
    path.write_bytes(replace(contents, signatures=contents.signatures * MAX_SIGNATURES).packed())
    assert "no more fit" in desk.refused("sign", bundle, "--key", desk.key("second"), "--yes")
    assert desk("verify", bundle, "--release-key", "oem.pem").stdout


def test_nothing_is_signed_without_a_yes(desk):
    desk("pack", "sensor.toml")
    before = (desk.folder / "sensor-1.4.2.bundle").read_bytes()
    desk("sign", "sensor-1.4.2.bundle", "--key", desk.key(), code=130)
    assert (desk.folder / "sensor-1.4.2.bundle").read_bytes() == before


def test_a_bundle_that_nobody_signed_is_not_verified(desk):
    desk("pack", "sensor.toml")
    assert "nobody signed" in desk.refused("verify", "sensor-1.4.2.bundle", "--release-key", "oem.pem")


def test_a_bundle_of_somebody_else_is_not_verified(desk, bundle):
    assert "somebody else" in desk.refused("verify", bundle, "--release-key", "second.pem")


def test_a_changed_bundle_is_neither_shown_nor_signed(desk, bundle):
    path = desk.folder / bundle
    path.write_bytes(path.read_bytes()[:-30])
    for arguments in (("show", bundle), ("sign", bundle, "--key", desk.key(), "--yes")):
        assert "cut off" in desk.refused(*arguments)


def test_a_bundle_is_not_packed_over_another_one(desk, bundle):
    before = (desk.folder / bundle).read_bytes()
    assert "there already" in desk.refused("pack", "sensor.toml")
    assert (desk.folder / bundle).read_bytes() == before


def test_a_missing_image_is_told(desk):
    (desk.folder / "other.toml").write_text(PLAN.replace("app.bin", "nix.bin"))
    assert "nix.bin" in desk.refused("pack", "other.toml")


def test_a_plan_that_makes_no_sense_is_told_by_its_name(desk):
    (desk.folder / "other.toml").write_text(PLAN.replace("1.4.2", "one"))
    assert "other.toml: 'version'" in desk.refused("pack", "other.toml")


def test_a_full_disk_leaves_no_half_bundle(desk):
    run = f"ulimit -f 1; exec {sys.executable} -m station.cli firmware pack sensor.toml --out full.bundle"
    script = run.replace("-m station.cli", "-c 'from station.cli import main; main()'")
    (desk.folder / "app.bin").write_bytes(unsigned_image((1, 4, 2, 0), os.urandom(8192)))
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=desk.folder, check=False, capture_output=True, text=True, env=os.environ
        )
    finally:
        (desk.folder / "app.bin").write_bytes(unsigned_image((1, 4, 2, 0)))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert not list(desk.folder.glob("*full*"))


def test_a_key_is_made_once(desk):
    assert "release-key" in desk.refused("key", "--token", desk.key(), "--out", "again.pem")
    assert not (desk.folder / "again.pem").exists()


def test_a_key_whose_public_half_can_not_be_written_does_not_stay(desk):
    uri = desk.key(label="fourth")
    assert "nowhere" in desk.refused("key", "--token", uri, "--out", "nowhere/fourth.pem")
    assert desk("key", "--token", uri, "--out", "fourth.pem").stdout


def test_a_public_key_is_not_written_over_another_file(desk):
    assert "there already" in desk.refused("key", "--token", desk.key(label="third"), "--out", "oem.pem")


def test_bundles_are_signed_with_one_kind_of_key(desk):
    assert "p256" in desk.refused("key", "--kind", "rsa3072", "--token", desk.key(), "--out", "x.pem", code=2)


def test_a_file_that_is_no_key_is_told(desk, bundle):
    assert "neither a public key" in desk.refused("verify", bundle, "--release-key", "sensor.toml")
    assert "nix.pem" in desk.refused("verify", bundle, "--release-key", "nix.pem")


def test_an_image_key_signs_no_bundle(desk):
    desk("key", "--use", "image", "--kind", "ed25519", "--token", desk.key(label="boot"), "--out", "boot.pem")
    desk("pack", "sensor.toml")
    assert "no key called 'boot'" in desk.refused(
        "sign", "sensor-1.4.2.bundle", "--key", desk.key(label="boot"), "--yes"
    )


def test_an_image_is_signed_and_packed(desk):
    desk("key", "--use", "image", "--token", desk.key(label="app"), "--out", "app.pem")
    (desk.folder / "body.out").write_bytes(bytes(range(256)) * 16)
    signing = ("sign-image", "body.out", "--version", "1.4.2", "--slot-size", "0x40000", "--key", desk.key(label="app"))
    said = json.loads(desk(*signing, "--out", "signed.out", "--json").stdout)
    image = read_mcuboot((desk.folder / "signed.out").read_bytes())
    assert (said["version"], said["sha256"]) == ("1.4.2", image.sha256.hex())
    (desk.folder / "other.toml").write_text(PLAN.replace("app.bin", "signed.out"))
    assert image.sha256.hex() in desk("pack", "other.toml", "--out", "x.bundle").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--version", "1.4.2"), "--slot-size"),
        (("--slot-size", "4096"), "--version"),
        (("--version", "1.4", "--slot-size", "4096"), "1.4.2-rc.1"),
        (("--version", "1.4.2", "--slot-size", "4k"), "0x200"),
        (("--version", "1.4.2", "--slot-size", "4096", "--append"), "--append"),
        (("--format", "esp", "--version", "1.4.2"), "--format mcuboot"),
    ],
)
def test_an_image_is_signed_only_with_options_that_make_sense(desk, arguments, told):
    assert told in desk.refused("sign-image", "app.bin", "--out", "x.out", "--key", desk.key(), *arguments, code=2)


# The data of one unit

FACTS = ("--fact", "product_serial=SN000001", "--fact", "certificate=3003020101")


@pytest.fixture
def data(desk):
    desk("pack", "data.toml")
    return "sensor-1.5.0.bundle"


def test_the_data_of_a_unit_can_be_looked_at(desk, data):
    shown = desk("unit-data", data, "--name", "factory-data", *FACTS, "--out", "unit.out").stdout
    assert "SN000001" in shown
    assert b"SN000001\0" in (desk.folder / "unit.out").read_bytes()


def test_it_is_given_as_the_csv_that_espressifs_tools_read(desk, data):
    lines = desk("unit-data", data, "--name", "factory-data", *FACTS, "--csv").stdout.splitlines()
    assert lines[:3] == ["key,type,encoding,value", "factory,namespace,,", "serial,data,string,SN000001"]


def test_secrets_are_neither_shown_nor_written(desk, data):
    shown = desk("unit-data", data, "--name", "matter", "--fact", "matter_passcode=20202021").stdout
    assert "20202021" not in shown
    assert "SHA-256" not in shown  # of eight digits, each could be tried
    said = json.loads(
        desk("unit-data", data, "--name", "matter", "--fact", "matter_passcode=20202021", "--json").stdout
    )
    assert said["value"] is None
    assert "secrets" in desk.refused("unit-data", data, "--name", "matter", "--matter", "--out", "secret.out")
    assert not (desk.folder / "secret.out").exists()


def test_a_fact_that_is_missing_is_told(desk, data):
    assert "certificate" in desk.refused("unit-data", data, "--name", "factory-data", *FACTS[:2])


def test_which_file_has_to_be_said_where_there_are_several(desk, data):
    assert "factory-data, matter" in desk.refused("unit-data", data)
    assert "factory-data, matter" in desk.refused("unit-data", data, "--name", "nix")


def test_a_bundle_without_data_of_units_says_so(desk, bundle):
    assert "[[unit_data]]" in desk.refused("unit-data", bundle)


@pytest.mark.parametrize("fact", ["serial=1", "product_serial", "certificate=zz", "matter_passcode=x"])
def test_a_fact_that_is_none_is_refused(desk, data, fact):
    assert "--fact" in desk.refused("unit-data", data, "--fact", fact, code=2)


def test_the_data_of_a_unit_on_record_come_from_the_manifest(desk, tmp_path):
    make_line(tmp_path / "line", ca_name="DEVELOPMENT", boards=1)
    with Manifest.open(tmp_path / "line" / "manifest.db") as manifest, ManifestReader(manifest.path) as reader:
        asyncio.run(begin(manifest, "HW-77", order=reader.order_names()[0]))
    plan = PLAN + MATTER.replace("{matter_passcode}", "{hardware_id}").replace("u32", "string")
    (desk.folder / "hw.toml").write_text(plan)
    desk("pack", "hw.toml", "--out", "hw.bundle")
    config = str(tmp_path / "line" / "station.toml")
    assert "HW-77" in desk("unit-data", "hw.bundle", "--unit", "HW-77", "-c", config).stdout
    assert "no unit on record" in desk.refused("unit-data", "hw.bundle", "--unit", "HW-78", "-c", config)


# Who may bring an older bundle back


def test_only_an_order_that_names_this_very_bundle_brings_it_back():
    assert reason_of("WO-1", b"x" * 32, b"x" * 32) == "order WO-1 names this bundle"
    assert reason_of("WO-1", b"y" * 32, b"x" * 32) == ""
    assert reason_of("WO-1", None, b"x" * 32) == ""
