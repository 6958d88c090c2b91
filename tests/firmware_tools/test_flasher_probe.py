"""ProbeFlasher: with the installed pyOCD, which finds no probe here, and with a stand-in that says what pyOCD says.

The stand-in keeps the chip's flash in a file and takes pyOCD's arguments; its lines are those of pyOCD 0.46.
"""

import asyncio
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_tools.bundles.manifest import LockStep
from firmware_tools.errors import FlashError
from firmware_tools.flashers import FlasherKind, Payload, Phase, Placed
from firmware_tools.flashers.probe import ProbeFlasher

STAND_IN = r"""
import json, os, sys
from pathlib import Path

folder, arguments = Path(sys.argv[1]), sys.argv[2:]
with open(folder / "calls", "a") as calls:
    calls.write(json.dumps(arguments) + "\n")
flash = folder / "flash"
memory = bytearray(flash.read_bytes() if flash.exists() else b"\xff" * 65536)
said = (folder / "says").read_text() if (folder / "says").exists() else ""
print("0000571 W CMSIS-DAPv1 probes may not be detected because no libusb library was found. [pyusb_backend]",
      file=sys.stderr)

def option(name):
    return arguments[arguments.index(name) + 1]

if arguments[0] == "json":
    board = {"unique_id": "E6614103E7123456", "info": "Raspberry Pi Picoprobe", "board_vendor": None,
             "board_name": "Generic", "target": "cortex_m", "vendor_name": "Raspberry Pi"}
    print(json.dumps({"pyocd_version": "0.46.0", "status": 0, "boards": [board]}, indent=4))
elif arguments[0] == "commander":
    if "locked" in said:
        print("0000812 C " + said + " [__main__]", file=sys.stderr)
        sys.exit(1)
    for number, part in enumerate(arguments):
        if part.startswith("compare "):
            _, address, path = part.split()
            address, wanted = int(address, 0), Path(path).read_bytes()
            print(f"Comparing {len(wanted)} bytes @ 0x{address:08x}")
            have = memory[address : address + len(wanted)]
            different = [i for i, pair in enumerate(zip(have, wanted)) if pair[0] != pair[1]]
            if different:
                i = different[0]
                print(f"Mismatched byte at 0x{address + i:08x} (offset 0x{i:x}): 0x{have[i]:02x} (memory) != "
                      f"0x{wanted[i]:02x} (file)")
            else:
                print(f"All {len(wanted)} bytes match.")
        elif part == "reset":
            print("Resetting target")
elif arguments[0] == "load":
    for place in arguments[arguments.index("--no-reset") + 1 :]:
        path, address = place.rsplit("@", 1)
        content = Path(path).resolve(strict=True).read_bytes()
        with open(folder / "where", "a") as where:
            where.write(path + "\n")
        if "worn" not in said:
            memory[int(address, 0) : int(address, 0) + len(content)] = content
    flash.write_bytes(memory)
    print("[" + "---|" * 9 + "----]\n[", end="", flush=True)
    for _ in range(40):
        print("=", end="", flush=True)
    print("]")
"""

APPLICATION = hashlib.shake_256(b"application").digest(9000)
SECRET = hashlib.shake_256(b"secret").digest(512)


def placed(name, content, address, **more):
    return Placed(name, content, address, hashlib.sha256(content).digest(), **more)


def payload(**options):
    images = (placed("application", APPLICATION, 0x1000), placed("settings", SECRET, 0xF000, is_secret=True))
    return Payload(FlasherKind.PROBE, "nrf52840", "1.0.0", images, options=options)


@pytest.fixture
def flasher(tmp_path):
    (tmp_path / "pyocd.py").write_text(STAND_IN)
    return ProbeFlasher("E6614103", command=[sys.executable, str(tmp_path / "pyocd.py"), str(tmp_path)])


def ignore(_progress):
    pass


async def test_the_installed_pyocd_finds_no_such_probe():
    with pytest.raises(FlashError, match="no debug probe is E6614103; connected: none") as failure:
        await ProbeFlasher("E6614103").look()
    assert failure.value.code == "flash.no_answer"


async def test_the_installed_pyocd_takes_the_arguments_that_it_is_given():
    flasher = ProbeFlasher("E6614103")
    head = ["-W", "-u", "E6614103", "-t", "nrf52840", "-O", "auto_unlock=false", "-f", "4000000", "-M", "attach"]
    for work in (
        ["commander", *head, "-c", "compare 0x0 /dev/null", "-c", "reset"],
        ["load", *head, "-e", "sector", "--format", "bin", "--no-reset", "/dev/null@0x0"],
    ):
        ended = await flasher._run(work, lambda _line: True)
        failure = flasher._failure(ended)
        assert ended.status  # there is no probe
        assert "usage:" not in "\n".join(ended.lines)
        assert failure.code == "flash.no_answer"


async def test_the_probe_is_found_by_a_part_of_its_serial_number(flasher):
    target = await flasher.look()
    assert (target.chip, target.hardware) == ("cortex_m", "E6614103E7123456")


async def test_a_board_is_written_and_compared(flasher, tmp_path):
    seen = []
    report = await flasher.flash(payload(), seen.append)
    memory = (tmp_path / "flash").read_bytes()
    assert memory[0x1000:].startswith(APPLICATION)
    assert memory[0xF000:].startswith(SECRET)
    assert (report.skipped, report.written, report.verified) == (False, len(APPLICATION) + len(SECRET), "read back")
    done = [progress.done for progress in seen if progress.phase is Phase.WRITE]
    assert done == sorted(done)
    assert len(set(done)) == 41  # the bar has forty signs
    assert done[-1] == report.written


def test_images_stand_in_memory_only_and_not_for_long(flasher, tmp_path):
    asyncio.run(flasher.flash(payload(), ignore))
    paths = (tmp_path / "where").read_text().splitlines()
    assert all(path.startswith("/dev/shm/station-flash-") for path in paths)  # noqa: S108 - it is what is tested
    assert not any(Path(path).exists() for path in paths)


def test_what_a_station_left_in_memory_that_was_killed_is_removed(flasher):
    killed = subprocess.Popen(["true"])
    killed.wait()
    left = Path(f"/dev/shm/station-flash-{killed.pid}-left")  # noqa: S108 - it is what is tested
    left.mkdir()
    (left / "0.bin").write_bytes(SECRET)
    asyncio.run(flasher.flash(payload(), ignore))
    assert not left.exists()


@pytest.mark.parametrize("said", ['{"boards": ' + '{"a":' * 1990, '{"boards": [7]}', '{"boards": {"a": 1}}', "{"])
async def test_a_tool_that_lists_rubbish_is_one_clear_line(tmp_path, said):
    (tmp_path / "says").write_text((said + "\n") * 300)
    flasher = ProbeFlasher(
        "E6614103", command=[sys.executable, "-c", f"print(open({str(tmp_path / 'says')!r}).read())"]
    )
    with pytest.raises(FlashError, match="lists no probes") as failure:
        await flasher.look()
    assert failure.value.code == "flash.tool_failed"


async def test_a_board_that_holds_the_payload_is_not_written(flasher, tmp_path):
    await flasher.flash(payload(), ignore)
    (tmp_path / "calls").unlink()
    assert (await flasher.flash(payload(), ignore)).skipped
    assert '"load"' not in (tmp_path / "calls").read_text()


async def test_a_chip_that_does_not_keep_what_is_written_is_told(flasher, tmp_path):
    (tmp_path / "says").write_text("worn out")
    with pytest.raises(FlashError, match="does not hold what was written") as failure:
        await flasher.flash(payload(), ignore)
    assert failure.value.code == "flash.verify"


async def test_a_chip_whose_debug_port_is_closed_is_refused_and_not_erased(flasher, tmp_path):
    (tmp_path / "says").write_text("NRF52840 APPROTECT enabled: target is locked")
    with pytest.raises(FlashError, match="pyocd: NRF52840 APPROTECT enabled: target is locked") as failure:
        await flasher.flash(payload(), ignore)
    assert failure.value.code == "flash.refused"
    assert "auto_unlock=false" in (tmp_path / "calls").read_text()


async def test_a_probe_locks_nothing(flasher):
    with pytest.raises(FlashError, match="can't lock") as failure:
        await flasher.lock(LockStep("debug", "probe", (), irreversible=True))
    assert failure.value.code == "flash.refused"
