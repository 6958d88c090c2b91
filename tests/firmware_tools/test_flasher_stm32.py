"""Stm32Flasher and the installed stm32loader, against a virtual chip on a pseudo-terminal."""

import hashlib
import sys
from contextlib import closing

import pytest
from bench.chips import Fixture, placed

from firmware_tools.bundles.manifest import LockStep
from firmware_tools.errors import FlashError
from firmware_tools.flashers import FlasherKind, Payload, Phase
from firmware_tools.flashers.stm32 import FLASH_START, Stm32Flasher
from firmware_tools.rom_loaders import Faults, Mode
from firmware_tools.rom_loaders.flash_file import FlashFile
from firmware_tools.rom_loaders.ports import Rfc2217Port
from firmware_tools.rom_loaders.stm32 import CHIPS, Stm32Loader

APPLICATION = hashlib.shake_256(b"application").digest(8001)  # an odd number: the tool fills up the last word
SECRET = hashlib.shake_256(b"secret").digest(1024)
HASTY = """
import runpy, sys, time
nap = time.sleep
time.sleep = lambda seconds: nap(seconds / 50)
runpy.run_module("stm32loader", run_name="__main__", alter_sys=True)
"""
"""The tool, which gives each chip more than half a second for its boot; a virtual one needs none."""
READOUT = LockStep("read-out protection", "stm32", ("readout",), irreversible=True)
IMAGE = placed("application", APPLICATION, FLASH_START)
FACTORY_DATA = placed("factory-data", SECRET, FLASH_START + 0xC000, is_secret=True)


def payload(*images, chip="F4", **options):
    images = images or (IMAGE,)
    return Payload(FlasherKind.STM32, chip, "1.0.0", tuple(images), options=options)


class Bench(Fixture):
    """One chip of ST's."""

    def plug(self, chip="F4", *, protected=False, unplug_after=None, command=(sys.executable, "-c", HASTY), **faults):
        kind = CHIPS[chip]

        def loader(flash):
            self.chip = Stm32Loader(kind, flash, protected=protected, faults=Faults(**faults))
            return self.chip

        self.put_in(kind.size, loader, unplug_after=unplug_after)
        return Stm32Flasher(str(self.link), patience=20, family=chip, command=command)


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path, start=FLASH_START)
    yield bench
    bench.unplug()


def ignore(_progress):
    pass


@pytest.mark.parametrize("chip", ["F1", "F4"], ids=["erase by pages", "extended erase"])
async def test_a_board_is_erased_written_and_read_back(bench, chip):
    wanted, seen = payload(IMAGE, FACTORY_DATA, chip=chip), []
    flasher = bench.plug(chip, command=None)  # the installed tool, as it is
    bench.flash.write(0x1000, b"\0")  # an image of before
    report = await flasher.flash(wanted, seen.append)
    assert all(bench.holds(image) for image in wanted.images)
    assert (report.skipped, report.written, report.verified) == (False, len(APPLICATION) + len(SECRET), "read back")
    assert report.before.hardware == "0201-0403-08070605-0C0B0A09"
    assert report.after.fuses == {"RDP": "off"}
    assert set(report.seconds) >= {Phase.CONNECT, Phase.ERASE, Phase.WRITE, Phase.VERIFY}
    for phase in (Phase.WRITE, Phase.VERIFY):
        done = [progress.done for progress in seen if progress.phase is phase]
        assert done == sorted(done)
        assert done[-1] == report.written


async def test_a_board_that_holds_the_payload_is_not_written(bench):
    flasher = bench.plug()
    await flasher.flash(payload(), ignore)
    written = bench.flash.written
    report = await flasher.flash(payload(), ignore)
    assert (report.skipped, report.written) == (True, 0)
    assert bench.flash.written == written


async def test_a_board_that_differs_in_its_last_byte_is_written(bench):
    flasher = bench.plug()
    await flasher.flash(payload(), ignore)
    other = placed("application", APPLICATION[:-1] + b"\0", FLASH_START)
    report = await flasher.flash(payload(other), ignore)
    assert not report.skipped
    assert bench.holds(other)


async def test_firmware_for_another_family_is_refused_before_anything_is_erased(bench):
    flasher = bench.plug("L4")
    bench.flash.write(0, b"kept")
    with pytest.raises(
        FlashError, match=r"the chip is 0x435 \(STM32L4xx\), the firmware is for the family F4"
    ) as failure:
        await flasher.flash(payload(), ignore)
    assert failure.value.code == "flash.wrong_chip"
    assert bench.flash.read(0, 4) == b"kept"


async def test_an_image_beyond_the_end_of_the_flash_is_refused_before_anything_is_erased(bench):
    flasher = bench.plug("F1")
    bench.flash.write(0, b"kept")
    with pytest.raises(FlashError, match="does not fit into the chip's 131072 bytes of flash") as failure:
        await flasher.flash(payload(placed("application", APPLICATION, FLASH_START + 0x1F000), chip="F1"), ignore)
    assert failure.value.code == "flash.too_large"
    assert bench.flash.read(0, 4) == b"kept"


async def test_a_chip_that_is_protected_against_reading_out_is_refused(bench):
    with pytest.raises(FlashError, match="protected against reading out") as failure:
        await bench.plug(protected=True).flash(payload(), ignore)
    assert failure.value.code == "flash.refused"
    assert bench.chip.protected


async def test_read_out_protection_is_set_and_seen(bench):
    flasher = bench.plug()
    assert await flasher.read_fuses() == {"RDP": "off"}
    assert await flasher.lock(READOUT) == {"RDP": "on"}
    assert bench.chip.protected


async def test_a_chip_that_is_protected_already_is_not_touched(bench):
    flasher = bench.plug(protected=True)
    assert await flasher.lock(READOUT) == {"RDP": "on"}


async def test_a_byte_that_reads_back_wrong_is_told(bench):
    with pytest.raises(FlashError, match="Verification FAILED") as failure:
        await bench.plug(wrong_hash=True).flash(payload(), ignore)
    assert failure.value.code == "flash.verify"


async def test_a_cable_pulled_at_half_time_is_no_answer_and_the_board_can_be_flashed_again(bench):
    flasher = bench.plug(unplug_after=4500)
    with pytest.raises(FlashError, match="is gone") as failure:
        await flasher.flash(payload(), ignore)
    assert failure.value.code == "flash.no_answer"
    assert 0 < bench.flash.written < len(APPLICATION)
    await bench.plug().flash(payload(), ignore)
    assert all(bench.holds(image) for image in payload().images)


async def test_a_power_cut_in_a_write_is_no_answer(bench):
    with pytest.raises(FlashError, match="Can't read port or timeout") as failure:
        await bench.plug(power_cut_after=4000).flash(payload(), ignore)
    assert failure.value.code == "flash.no_answer"
    assert bench.flash.written == 4000


async def test_a_loader_that_falls_silent_is_not_waited_for(bench):
    flasher = bench.plug(silent_from=2)
    flasher._patience = 2
    with pytest.raises(FlashError, match="showed no progress") as failure:
        await flasher.look()
    assert failure.value.code == "flash.tool_hangs"


async def test_a_board_without_lines_is_started_with_go(bench):
    await bench.plug().flash(payload(go=True), ignore)
    assert bench.chip.mode is Mode.RUNNING


async def test_a_board_behind_a_serial_server_is_looked_at_and_restarted(tmp_path):
    kind = CHIPS["F4"]
    chip = Stm32Loader(kind, FlashFile(tmp_path / "flash.bin", kind.size))
    with closing(Rfc2217Port(chip)) as port:
        target = await Stm32Flasher(port.url, family="F4").look()
    assert target.chip.startswith("0x413 ")
    assert chip.mode is Mode.RUNNING


async def test_a_port_that_is_not_there_is_no_answer(tmp_path):
    with pytest.raises(FlashError, match="is gone") as failure:
        await Stm32Flasher(str(tmp_path / "tty")).look()
    assert failure.value.code == "flash.no_answer"


async def test_an_option_of_the_wrong_type_is_refused(bench):
    with pytest.raises(FlashError, match="option go of the firmware has to be bool") as failure:
        await bench.plug().flash(payload(go="yes"), ignore)
    assert failure.value.code == "flash.refused"


# A tool that lies


def liar(bench, on):
    """Make a flasher whose tool ends well, and does nothing where an argument is given."""
    real = "os.execv(sys.executable, [sys.executable, '-m', 'stm32loader', *sys.argv[1:]])"
    command = [sys.executable, "-c", f"import os, sys; sys.exit(0) if {on!r} in sys.argv else {real}"]
    return Stm32Flasher(str(bench.link), family="F4", command=command)


@pytest.mark.parametrize(("on", "code"), [("-r", "flash.tool_failed"), ("-v", "flash.verify")])
async def test_a_tool_that_ends_well_and_does_nothing_is_not_believed(bench, on, code):
    bench.plug()
    with pytest.raises(FlashError) as failure:
        await liar(bench, on).flash(payload(), ignore)
    assert failure.value.code == code
