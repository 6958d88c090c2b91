"""docs/firmware.md: typed as it stands, and its tables held to the truth."""

import re
import subprocess
import sys
import tomllib
from os import environ
from pathlib import Path

from firmware_tools.bundles.bundle import pack
from firmware_tools.bundles.flasher_options import options_of
from firmware_tools.bundles.manifest import UnitFormat
from firmware_tools.bundles.manifest_toml import read_manifest, write_manifest
from firmware_tools.flashers import FlasherKind
from firmware_tools.testing import unsigned_image
from firmware_tools.unit_files import FACTS
from station.orders import jws

PAGE = (Path(__file__).parents[2] / "docs" / "firmware.md").read_text()
FULL = """
product = "p"
version = "1.0.0"
minimum_bootloader = "1.0.0"
[flash]
kind = "smp"
chip = "p"
options = { boot_seconds = 5 }
[[image]]
name = "app"
file = "app.bin"
address = 0
[[unit_data]]
name = "u"
format = "zephyr-nvs"
address = 1
size = 0x2000
options = { write_block = 4 }
[[unit_data.entry]]
key = "a"
type = "u8"
value = "1"
[[lock]]
name = "debug"
by = "esp"
arguments = ["DIS_PAD_JTAG", "1"]
irreversible = true
"""


def first_cells(heading):
    """Return the names in the first cells of a table that follows a header line."""
    table = PAGE[PAGE.index(heading) :].split("\n\n")[0].splitlines()[2:]
    return [name for row in table for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def keys(content, above=""):
    for key, value in content.items():
        nested = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else value
        if isinstance(nested, dict) and key != "options":
            yield from keys(nested, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def test_the_walk_through_ends_with_a_signed_bundle_and_an_order_that_names_it(tmp_path):
    block = re.search(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[1]
    tools = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=tmp_path,
        env={**environ, "PATH": f"{tools}:{environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    digest = re.search(r"sensor 1\.4\.2, digest ([0-9a-f]{64})", done.stdout)[1]
    order = jws.parse((tmp_path / "WO-1001.order.json").read_text())
    assert digest.encode() in order.payload


def test_every_key_of_a_bundle_is_told():
    content = write_manifest(pack(FULL.encode(), lambda _: unsigned_image()).manifest)
    assert sorted(first_cells("| key | what |")) == sorted(set(keys(tomllib.loads(content.decode()))))


def test_every_option_of_a_loader_is_told():
    assert sorted(first_cells("| option | of | what |")) == sorted(
        option for kind in FlasherKind for option in options_of(kind)
    )


def test_every_fact_and_format_is_told():
    assert sorted(first_cells("| fact | what |")) == sorted(FACTS)
    assert first_cells("| format | what it is |") == [form.value for form in UnitFormat]


def test_the_plan_of_unit_data_is_one():
    example = re.search(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[1]
    plan = FULL[: FULL.index("[[unit_data]]")] + example
    read = read_manifest(pack(plan.encode(), lambda _: unsigned_image()).manifest_bytes)
    assert [entry.type for entry in read.unit_files[0].entries] == ["string", "bytes"]
