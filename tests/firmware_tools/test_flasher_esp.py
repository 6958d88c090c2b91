"""EspFlasher and the installed esptool, against a virtual chip on a pseudo-terminal."""

import asyncio
import hashlib
import struct
import sys
from contextlib import suppress

import pytest
from bench.chips import Fixture, placed

from firmware_tools.bundles.manifest import LockStep
from firmware_tools.errors import FlashError
from firmware_tools.flashers import FlasherKind, Payload, Phase
from firmware_tools.flashers.esp import EspFlasher
from firmware_tools.rom_loaders import Faults
from firmware_tools.rom_loaders.esp import EspLoader
from firmware_tools.rom_loaders.esp_chips import CHIPS, SECURE_DOWNLOAD, XTS_AES_128_KEY, Fuses

SIZE = 1 << 20
APPLICATION = hashlib.shake_256(b"application").digest(40_000) + bytes(20_000)
SECRET = hashlib.shake_256(b"secret").digest(4096)
FUSES = Fuses(mac=bytes.fromhex("7cdfa1123456"))


def payload(*images, chip="esp32c3", **options):
    images = images or (
        placed("application", APPLICATION, 0x1_0000),
        placed("factory-data", SECRET, 0x9000, is_secret=True),
    )
    return Payload(FlasherKind.ESP, chip, "1.0.0", tuple(images), options=options)


class Bench(Fixture):
    """One chip of Espressif's."""

    def plug(self, chip="esp32c3", *, fuses=FUSES, unplug_after=None, paced=False, **faults):
        self.put_in(
            SIZE,
            lambda flash: EspLoader(CHIPS[chip], flash, fuses=fuses, faults=Faults(**faults)),
            unplug_after=unplug_after,
            paced=paced,
        )
        return EspFlasher(str(self.link), patience=20)


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.unplug()


def ignore(_progress):
    pass


async def test_a_blank_board_is_flashed_and_verified(bench):
    wanted, seen = payload(), []
    report = await bench.plug().flash(wanted, seen.append)
    assert all(bench.holds(image) for image in wanted.images)
    assert not report.skipped
    assert report.written == len(APPLICATION) + len(SECRET)
    assert report.verified == "md5 of the loader"
    assert (report.before.chip, report.before.hardware) == ("ESP32-C3", "7c:df:a1:12:34:56")
    assert report.before.fuses == report.after.fuses
    assert report.after.fuses["SECURE_BOOT_EN"] == "0"
    assert set(report.seconds) >= {Phase.CONNECT, Phase.WRITE, Phase.VERIFY, Phase.RESTART}
    done = [progress.done for progress in seen]
    assert done == sorted(done)
    assert (done[-1], seen[-1].total) == (report.written, report.written)


async def test_a_board_that_holds_the_payload_is_not_written(bench):
    flasher = bench.plug()
    await flasher.flash(payload(), ignore)
    written = bench.flash.written
    report = await flasher.flash(payload(), ignore)
    assert report.skipped
    assert report.written == 0
    assert bench.flash.written == written


async def test_only_the_image_that_differs_is_written(bench):
    flasher = bench.plug()
    await flasher.flash(payload(), ignore)
    other = placed("factory-data", SECRET[::-1], 0x9000, is_secret=True)
    report = await flasher.flash(payload(placed("application", APPLICATION, 0x1_0000), other), ignore)
    assert (report.skipped, report.written) == (False, len(SECRET))
    assert bench.holds(other)


async def test_what_a_chip_without_security_info_has_burnt_is_read_with_espefuse(bench):
    target = await bench.plug("esp32").look()
    assert (target.chip, target.hardware) == ("ESP32", "7c:df:a1:12:34:56")
    assert target.fuses["FLASH_CRYPT_CNT"] == "0"
    assert not any(name.startswith("BLOCK") for name in target.fuses)


async def test_firmware_for_another_chip_is_refused_before_anything_is_written(bench):
    flasher = bench.plug("esp32s3")
    with pytest.raises(FlashError, match="the chip is ESP32-S3, the firmware is for esp32c3") as failure:
        await flasher.flash(payload(), ignore)
    assert failure.value.code == "flash.wrong_chip"
    assert bench.flash.written == 0


async def test_a_bootloader_for_another_chip_is_refused_before_anything_is_written(bench):
    s3 = (
        struct.pack("<BBBBI", 0xE9, 1, 0, 0, 0x40380000)
        + bytes([0xEE, 0, 0, 0])
        + struct.pack("<HBHH", 9, 0, 0, 0xFFFF)
    )
    image = (s3.ljust(24, b"\0") + struct.pack("<II", 0x3FC80000, 8) + bytes(8)).ljust(63, b"\0") + b"\xef"
    flasher = bench.plug()
    with pytest.raises(FlashError, match="is not an ESP32-C3 image") as failure:
        await flasher.flash(payload(placed("bootloader", image, 0)), ignore)
    assert failure.value.code == "flash.wrong_chip"
    assert bench.flash.written == 0


async def test_an_image_beyond_the_end_of_the_flash_is_refused_before_anything_is_written(bench):
    flasher = bench.plug()
    with pytest.raises(FlashError, match="will not fit in 1048576 bytes") as failure:
        await flasher.flash(payload(placed("application", APPLICATION, SIZE - 4096)), ignore)
    assert failure.value.code == "flash.too_large"
    assert bench.flash.written == 0


async def test_a_cable_pulled_at_half_time_is_no_answer_and_the_board_can_be_flashed_again(bench):
    flasher = bench.plug(unplug_after=60_000)  # the stub takes about half of it
    with pytest.raises(FlashError, match="is gone") as failure:
        await flasher.flash(payload(), ignore)
    assert failure.value.code == "flash.no_answer"
    assert 0 < bench.flash.written < len(APPLICATION) + len(SECRET)
    report = await bench.plug().flash(payload(), ignore)
    assert all(bench.holds(image) for image in payload().images)
    assert not report.skipped


async def test_a_power_cut_in_a_write_ends_and_the_board_can_be_flashed_again(bench):
    flasher = bench.plug(power_cut_after=30_000)
    flasher._patience = 4  # esptool itself tries three times
    with pytest.raises(FlashError) as failure:
        await flasher.flash(payload(), ignore)
    assert failure.value.code in ("flash.tool_hangs", "flash.no_answer")
    assert bench.flash.written == 30_000
    await bench.plug().flash(payload(), ignore)
    assert all(bench.holds(image) for image in payload().images)


async def test_a_hash_that_differs_after_writing_is_told(bench):
    flasher = bench.plug(wrong_hash=True)
    with pytest.raises(FlashError, match="MD5 of file does not match") as failure:
        await flasher.flash(payload(), ignore)
    assert failure.value.code == "flash.verify"


async def test_a_loader_that_falls_silent_is_not_waited_for(bench):
    flasher = bench.plug(silent_from=3)
    flasher._patience = 2
    with pytest.raises(FlashError) as failure:
        await flasher.look()
    assert failure.value.code in ("flash.tool_hangs", "flash.no_answer")


async def test_a_port_that_is_not_there_is_no_answer(tmp_path):
    with pytest.raises(FlashError, match="is gone") as failure:
        await EspFlasher(str(tmp_path / "tty")).look()
    assert failure.value.code == "flash.no_answer"


async def test_a_cancelled_flash_ends_at_once_and_the_board_can_be_flashed_again(bench):
    flasher = bench.plug(paced=True)
    writing = asyncio.Event()
    task = asyncio.create_task(
        flasher.flash(payload(), lambda progress: writing.set() if progress.done > len(SECRET) else None)
    )
    await writing.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert bench.flash.written < len(APPLICATION) + len(SECRET)
    await bench.plug().flash(payload(), ignore)
    assert all(bench.holds(image) for image in payload().images)


async def test_no_folder_for_temporary_files_is_needed(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    await bench.plug().flash(payload(), ignore)
    assert all(bench.holds(image) for image in payload().images)


async def test_an_image_that_esptool_would_unpack_to_a_file_is_refused(bench):
    with pytest.raises(FlashError, match="Intel HEX") as failure:
        await bench.plug().flash(payload(placed("settings", b":00000001FF\n", 0)), ignore)
    assert failure.value.code == "flash.refused"


async def test_an_unknown_option_is_refused(bench):
    with pytest.raises(
        FlashError, match="option fast of the firmware is unknown here; known: compress, encrypt"
    ) as failure:
        await bench.plug().flash(payload(fast=True), ignore)
    assert failure.value.code == "flash.refused"


async def test_without_the_stub_the_rom_writes_the_same(bench):
    report = await bench.plug().flash(payload(stub=False, compress=False), ignore)
    assert report.verified == "md5 of the loader"
    assert all(bench.holds(image) for image in payload().images)


async def test_an_encrypted_write_is_not_called_verified(bench):
    purposes = (XTS_AES_128_KEY, 0, 0, 0, 0, 0, 0)
    fuses = Fuses(crypt_count=1, key_purposes=purposes, encryption_key=bytes(range(32)))
    report = await bench.plug(fuses=fuses).flash(payload(encrypt=True), ignore)
    assert report.verified == "nothing: the chip hides its flash"
    assert report.before.fuses["SPI_BOOT_CRYPT_CNT"] == "0x1"
    assert report.before.fuses["KEY_PURPOSE_0"] == "XTS_AES_128_KEY"
    assert not any(bench.holds(image) for image in payload().images)


async def test_an_encrypted_write_to_a_chip_without_a_key_is_refused(bench):
    with pytest.raises(FlashError, match="Can't perform encrypted flash write") as failure:
        await bench.plug().flash(payload(encrypt=True), ignore)
    assert failure.value.code == "flash.refused"
    assert bench.flash.written == 0


async def test_a_chip_in_secure_download_mode_is_written_and_not_called_verified(bench):
    report = await bench.plug(fuses=Fuses(flags=SECURE_DOWNLOAD)).flash(payload(), ignore)
    assert report.before.fuses["SECURE_DOWNLOAD_ENABLE"] == "1"
    assert report.verified == "nothing: the chip hides its flash"
    assert all(bench.holds(image) for image in payload().images)


async def test_a_fuse_is_burnt_once_and_read_back(bench):
    flasher = bench.plug()
    step = LockStep("JTAG", "esp", ("DIS_PAD_JTAG", "1"), irreversible=True)
    assert (await flasher.read_fuses())["DIS_PAD_JTAG"] == "0"
    assert (await flasher.lock(step))["DIS_PAD_JTAG"] == "1"


async def test_a_tool_that_prints_rubbish_is_one_clear_line(bench):
    bench.plug()
    command = [sys.executable, "-c", "import os; os.write(1, bytes(range(256)) * 99); raise SystemExit(7)"]
    with pytest.raises(FlashError) as failure:
        await EspFlasher(str(bench.link), command=command).look()
    assert failure.value.code == "flash.tool_failed"
    assert "\n" not in str(failure.value)
    assert str(failure.value).isprintable()


# A tool that lies

REAL = "os.execv(sys.executable, [sys.executable, '-m', 'esptool', *sys.argv[1:]])"


async def test_a_tool_that_ends_well_and_writes_nothing_is_not_believed(bench):
    bench.plug()
    liar = [sys.executable, "-c", f"import os, sys; sys.exit(0) if 'write-flash' in sys.argv else {REAL}"]
    with pytest.raises(FlashError, match="esptool verified 0 and skipped 0 of 2 images") as failure:
        await EspFlasher(str(bench.link), command=liar).flash(payload(), ignore)
    assert failure.value.code == "flash.verify"
    assert bench.flash.written == 0


async def test_a_tool_that_ends_well_and_names_no_chip_is_not_believed(bench):
    bench.plug()
    with pytest.raises(FlashError, match="names no chip") as failure:
        await EspFlasher(str(bench.link), command=[sys.executable, "-c", "pass"]).look()
    assert failure.value.code == "flash.tool_failed"


async def test_a_board_that_is_changed_in_the_middle_is_told(bench, tmp_path):
    bench.plug()
    (tmp_path / "other").mkdir()
    other = Bench(tmp_path / "other")
    other.plug(fuses=Fuses(mac=bytes.fromhex("7cdfa1999999")))
    to_the_other = f"sys.argv[sys.argv.index('--port') + 1] = {str(other.link)!r}"
    swapped = [sys.executable, "-c", f"import os, sys\nif 'write-flash' in sys.argv: {to_the_other}\n{REAL}"]
    try:
        with pytest.raises(FlashError, match="MAC 7c:df:a1:12:34:56, then 7c:df:a1:99:99:99, then") as failure:
            await EspFlasher(str(bench.link), command=swapped).flash(payload(), ignore)
    finally:
        other.unplug()
    assert failure.value.code == "flash.verify"


@pytest.mark.parametrize(
    "arguments",
    [(), ("DIS_PAD_JTAG",), ("DIS_PAD_JTAG", "1", "burn-key", "BLOCK_KEY0"), ("--force", "1"), ("DIS_PAD_JTAG", "-1")],
)
async def test_a_lock_step_burns_fuses_and_gives_no_other_command(arguments):
    step = LockStep("JTAG", "esp", arguments, irreversible=True)
    with pytest.raises(FlashError, match="step JTAG: ") as failure:
        await EspFlasher("/dev/null", command=[sys.executable, "-c", "pass"]).lock(step)
    assert failure.value.code == "flash.refused"
