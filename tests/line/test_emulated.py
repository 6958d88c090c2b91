"""The line on emulated microcontrollers: from blank flash to PASS, and through kills on the way."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bench.images import Releases

from firmware_tools.build import build_firmware
from firmware_tools.errors import ToolMissing
from firmware_tools.virtual_line.line import VirtualLine
from station.manifest import ManifestReader, UnitState

STATION = Path(sys.executable).with_name("station")
BUILD = Path(__file__).parents[2] / "build"
OPT_OUT = "WITHOUT_MBEDTLS_3_6"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Build the firmware once; a missing cross compiler or emulator is named at the end of the run."""
    if os.environ.get(OPT_OUT):
        pytest.skip(f"{OPT_OUT} is set")
    try:
        firmware = build_firmware(BUILD)
        key = Releases(tmp_path_factory.mktemp("keys")).image_key
        VirtualLine(firmware.bootloader, BUILD / "none", 1, machine="ast1030", image_key=key)
    except ToolMissing as missing:
        pytest.skip(str(missing))
    return BUILD


@pytest.fixture
def demo(tmp_path, build):
    """Return what starts the demo in a folder, with the firmware built before."""
    folder = tmp_path / "demo"
    (folder / "boards").mkdir(parents=True)
    (folder / "boards" / "build").symlink_to(build, target_is_directory=True)

    def start(*arguments):
        command = [STATION, "demo", "--emulated", "--boards", "2", "--baud", "921600", "--json", "--dir", folder]
        return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    start.folder = folder
    return start


def ended(process):
    output, errors = process.communicate(timeout=100)
    return process.returncode, [json.loads(line) for line in output.splitlines()], errors


def flashings(folder):
    with ManifestReader(folder / "manifest.db") as reader:
        assert all(unit.state is UnitState.PASSED for unit in reader.units())
        return [
            [event.facts for event in reader.unit(unit.hardware_id).events if event.kind == "flashed"]
            for unit in reader.units()
        ]


def test_blank_microcontrollers_get_their_firmware_and_pass(demo):
    status, told, errors = ended(demo())
    assert status == 0, errors
    assert (told[-1]["passed"], told[-1]["failed"]) == (2, 0)
    for (facts,) in flashings(demo.folder):
        assert (facts["loader_before"], facts["skipped"]) == ("True", "False")


def test_a_station_that_is_killed_while_it_flashes_goes_on_where_it_was(demo):
    process = demo()
    for line in process.stdout:
        if json.loads(line).get("percent", 0) >= 30:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    status, told, errors = ended(demo())
    assert status == 0, errors
    assert told[-1]["passed"] == 2
    assert all(facts for facts in flashings(demo.folder))
