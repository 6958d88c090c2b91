"""``station firmware flash``, as a program, with boards of several kinds; and ``station demo --flash``."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from bench.images import Releases

from firmware_tools.build import build_device
from firmware_tools.provisioning import Locks
from firmware_tools.rom_loaders.esp import EspLoader
from firmware_tools.rom_loaders.esp_chips import CHIPS
from firmware_tools.rom_loaders.flash_file import FlashFile
from firmware_tools.rom_loaders.ports import PtyPort
from firmware_tools.testing import signed_bundle
from firmware_tools.version import Version
from firmware_tools.virtual_line.line import VirtualLine
from firmware_tools.virtual_line.wire import Cut, CutKind, Direction, Wire
from station.cli.root import EXIT_BROKEN_PIPE
from station.config import ProductSection, SlotConfig
from station.line.batch import FlashProgress, Result, flash_slots
from station.manifest import FirmwareRelease, Manifest
from station.manifest.firmware import take_up
from station.product_firmware import read_bundle

BUILD = Path(__file__).parents[2] / "build"
STATION = [sys.executable, "-c", "from station.cli import main; main()"]

pytestmark = pytest.mark.slow


def flash(line, *arguments):
    command = [*STATION, "firmware", "flash", *map(str, arguments), "--config", str(line.config)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, cwd=line.folder)


def events(output):
    return [json.loads(line) for line in output.splitlines()]


@dataclass
class Line:
    """A folder with a configuration, and who releases firmware for it."""

    folder: Path
    releases: Releases
    text: Callable[..., str]

    @property
    def config(self):
        return self.folder / "station.toml"

    def has(self, ports):
        """Give each port a slot."""
        self.config.write_text(self.text(ports))


@pytest.fixture(scope="module")
def program():
    return build_device(BUILD)


@pytest.fixture
def line(tmp_path, config_text):
    (tmp_path / "line").mkdir()
    return Line(tmp_path / "line", Releases(tmp_path / "releases"), config_text)


@pytest.fixture
def boards(line, program):
    """Power blank boards in slots of the line."""

    @contextmanager
    def power(count=3, **options):
        with VirtualLine(program, line.folder / "boards", count, image_key=line.releases.image_key, **options) as made:
            line.has(made.ports)
            yield made.boards

    return power


def keyed(line):
    return "--key", line.releases.release_key


def test_all_boards_are_flashed_at_once_and_not_written_again(line, boards):
    with boards() as made:
        done = flash(line, line.releases.bundle(), "--all", *keyed(line))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1].startswith(f"{len(made)} flashed, 0 failed")
        again = flash(line, line.releases.bundle(), "--all", *keyed(line))
        assert again.stdout.splitlines()[-1].startswith("0 flashed, 0 failed, 3 ran it already")


def test_a_program_reads_begin_progress_and_end_of_each_task(line, boards):
    with boards(2, wire=Wire(baud=921_600)):
        bundle = line.releases.bundle(body=bytes(100_000))
        told = events(flash(line, bundle, "--slot", "2", "--json", *keyed(line)).stdout)
    assert {event.get("task", "flash-2") for event in told} == {"flash-2"}
    names = [event["event"] for event in told]
    assert (names[0], names[-2:]) == ("task_begin", ["task_end", "summary"])
    assert set(names[1:-2]) == {"task_progress"}
    assert (told[-2]["result"], told[-2]["verified"], told[-2]["code"]) == ("flashed", "hash of the board", "")
    assert told[-1]["flashed"] == 1


def test_one_board_that_fails_does_not_keep_the_others_from_their_end(line, boards):
    wire = {"slot2": Wire(cut=Cut(Direction.TO_DEVICE, 9_000, CutKind.UNPLUG))}
    with boards(wire=wire):
        done = flash(line, line.releases.bundle(), "--all", *keyed(line))
        assert done.returncode == 1
        assert done.stdout.splitlines()[-1].startswith("2 flashed, 1 failed")
        (said,) = done.stderr.splitlines()
        assert said.startswith("station: slot 2: ")
        assert "[link.unplugged]" in said


def test_ctrl_c_leaves_a_board_that_can_be_flashed_again(line, boards):
    with boards(1, wire=Wire(baud=115_200)):
        bundle = line.releases.bundle(body=bytes(150_000))
        command = [*STATION, "firmware", "flash", str(bundle), "--all", "--json", *map(str, keyed(line))]
        process = subprocess.Popen(
            [*command, "--config", str(line.config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for said in process.stdout:
            if json.loads(said).get("percent", 0) > 10:
                break
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Traceback" not in errors
        ended, summary = events(output)[-2:]
        assert (ended["result"], summary["event"], summary["stopped"]) == ("stopped", "summary", 1)
    with boards(1):
        assert flash(line, line.releases.bundle(), "--all", *keyed(line)).returncode == 0


def test_a_reader_that_goes_away_ends_it_without_a_word(line, boards):
    with boards(2, wire=Wire(baud=115_200)):
        command = [*STATION, "firmware", "flash", str(line.releases.bundle()), "--all", "--json"]
        process = subprocess.Popen(
            [*command, *map(str, keyed(line)), "--config", str(line.config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        process.stderr.close()
        assert process.wait(20) == EXIT_BROKEN_PIPE


async def test_a_bug_in_one_slot_does_not_keep_the_others_from_their_end(line, boards):
    def stumble(event):
        if isinstance(event, FlashProgress) and event.slot == "1":
            raise ZeroDivisionError

    with boards(2) as made:
        product = ProductSection("reference-device", None, None, Locks.NONE)
        product = replace(product, firmware=line.releases.bundle(), release_key=line.releases.release_key)
        slots = [SlotConfig(str(number), str(board.port), None, 115_200) for number, board in enumerate(made, 1)]
        broken, whole = await flash_slots(slots, read_bundle(product), product, stumble)
    assert (broken.result, broken.code) == (Result.FAILED, "station.bug")
    assert whole.result is Result.FLASHED


def test_an_older_bundle_than_the_line_worked_by_is_refused_before_a_port_is_opened(line):
    line.has(["/dev/null"])
    with Manifest.open(line.folder / "manifest.db") as manifest:
        release = FirmwareRelease("reference-device", Version.parse("2.0.0"), b"b" * 32)
        manifest.perform_blocking(partial(take_up, release=release))
    done = flash(line, line.releases.bundle("1.9.0"), "--all", *keyed(line))
    assert (done.returncode, done.stdout) == (1, "")
    assert "2.0.0 was here before" in done.stderr


WRONG = {
    "no boards": ([], "say which boards", 2),
    "all and one": (["--all", "--slot", "1"], "say which boards", 2),
    "no such slot": (["--slot", "9"], "there is no slot '9' here", 1),
    "no such key": (["--all", "--key", "nowhere.pem"], "nowhere.pem: No such file", 1),
    "another key": (["--all", "--key", "IMAGE"], "no signature verifies", 1),
}


@pytest.mark.parametrize(("arguments", "said", "status"), WRONG.values(), ids=WRONG)
def test_what_makes_no_sense_is_one_line_and_no_board_is_touched(line, arguments, said, status):
    line.has(["/dev/null"])
    arguments = [line.releases.image_key if one == "IMAGE" else one for one in arguments]
    key = [] if "--key" in arguments else keyed(line)
    done = flash(line, line.releases.bundle(), *arguments, *key)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_bundle_that_was_changed_after_it_was_signed_is_refused(line):
    line.has(["/dev/null"])
    bundle = line.releases.bundle()
    content = bytearray(bundle.read_bytes())
    content[len(content) // 3] ^= 1
    bundle.write_bytes(content)
    done = flash(line, bundle, "--all", *keyed(line))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_a_bundle_for_another_product_is_refused(line):
    line.has(["/dev/null"])
    plan = '{}\n[flash]\nkind = "esp"\nchip = "esp32c3"\n[[image]]\nname = "a"\nfile = "a"\naddress = 0x1000\n'
    plan = plan.format('product = "pump"\nversion = "1.0.0"')
    bundle = line.folder / "pump.bundle"
    bundle.write_bytes(signed_bundle(plan, {"a": bytes(range(256))}, line.releases.release))
    assert "the bundle is for 'pump'" in flash(line, bundle, "--all", *keyed(line)).stderr


def test_chips_with_a_loader_in_rom_are_flashed_by_their_own_tool(line):
    plan = 'product = "reference-device"\nversion = "1.0.0"\n[flash]\nkind = "esp"\nchip = "esp32c3"\n'
    plan += '[[image]]\nname = "a"\nfile = "a"\naddress = 0x10000\n'
    content = os.urandom(30_000)
    bundle = line.folder / "esp.bundle"
    bundle.write_bytes(signed_bundle(plan, {"a": b"data" + content}, line.releases.release))
    files = [line.folder / f"chip{number}.bin" for number in range(2)]
    ports = []
    try:
        for number, file in enumerate(files):
            chip = EspLoader(CHIPS["esp32c3"], FlashFile(file, 4 << 20))
            ports.append(PtyPort(chip, line.folder / f"esp{number}"))
        line.has([port.link for port in ports])
        done = flash(line, bundle, "--all", *keyed(line))
    finally:
        for port in ports:
            port.close()
    assert (done.returncode, done.stderr) == (0, "")
    for file in files:
        assert file.read_bytes()[0x10004 : 0x10004 + len(content)] == content


def test_a_terminal_gets_a_bar_for_each_board(line, boards):
    with boards(2):
        master, slave = pty.openpty()
        command = [*STATION, "firmware", "flash", line.releases.bundle(), "--all", *keyed(line)]
        done = subprocess.Popen(
            [*map(str, command), "--config", str(line.config)],
            stdout=slave,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"},
        )
        os.close(slave)
        shown = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                shown += os.read(master, 4096)
            except OSError:
                break
        os.close(master)
        assert done.wait(20) == 0
    assert b"slot 2" in shown
    assert b"flashed" in shown


@pytest.mark.usefixtures("quick_compiler")
def test_a_demo_of_blank_boards_makes_its_firmware_and_brings_them_to_pass(tmp_path):
    command = [*STATION, "demo", "--flash", "--boards", "2", "--baud", "0", "--json", "--dir", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    told = events(done.stdout)
    assert {event["step"] for event in told if event["event"] == "slot"} >= {"look", "flash", "identify", "pass"}
    assert told[-1]["passed"] == 2
    check = subprocess.run(
        [*STATION, "check", "--json", "--config", str(tmp_path / "demo" / "station.toml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found = {finding["check"]: finding["level"] for finding in events(check.stdout)}
    assert (check.returncode, found["firmware"], found["locks"]) == (0, "ok", "ok")
