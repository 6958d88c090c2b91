"""esptool, espefuse, espsecure and stm32loader, as their authors wrote them, against the virtual chips."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_tools.rom_loaders import Mode
from firmware_tools.rom_loaders.esp import EspLoader
from firmware_tools.rom_loaders.esp_chips import CHIPS, XTS_AES_128_KEY, Fuses
from firmware_tools.rom_loaders.flash_file import FlashFile
from firmware_tools.rom_loaders.ports import PtyPort, Rfc2217Port
from firmware_tools.rom_loaders.stm32 import CHIPS as STM32_CHIPS
from firmware_tools.rom_loaders.stm32 import Stm32Loader

SITE = Path(__file__).parents[2] / "firmware_tools" / "flashers" / "stm32_site"
MENDED = {"PYTHONPATH": f"{SITE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
"""stm32loader as it is, over a pyserial that takes URLs and ports without modem lines."""

SIZE = 2 << 20
IMAGE = hashlib.shake_256(b"firmware").digest(30_000) + bytes(20_000)

# pyserial 3.5 calls Thread.setDaemon and setName, which are deprecated since Python 3.10.
pytestmark = [pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")]


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.bin"
    path.write_bytes(IMAGE)
    return path


@pytest.fixture
def flash(tmp_path):
    flash = FlashFile(tmp_path / "flash.bin", SIZE)
    yield flash
    flash.close()


@pytest.fixture
def on_pty(tmp_path):
    ports = []

    def plug(chip, **settings):
        ports.append(PtyPort(chip, tmp_path / "tty", **settings))
        return str(ports[-1].link)

    yield plug
    for port in ports:
        port.close()


@pytest.fixture
def on_rfc2217():
    ports = []

    def plug(chip):
        ports.append(Rfc2217Port(chip))
        return ports[-1].url

    yield plug
    for port in ports:
        port.close()


def run(module, *arguments, environment=None):
    command = [sys.executable, "-P", "-m", module, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, env={**os.environ, **(environment or {})}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", CHIPS)
def test_esptool_detects_writes_and_verifies(name, on_pty, flash, image):
    port = on_pty(EspLoader(CHIPS[name], flash, fuses=Fuses(mac=bytes.fromhex("7cdfa1123456"))))
    said = run("esptool", "--port", port, "--baud", 921600, "write-flash", "--flash-size", "detect", "0x10000", image)
    assert CHIPS[name].name.replace("esp32", "esp32-").removesuffix("-").upper() in said
    assert "7c:df:a1:12:34:56" in said
    assert "Auto-detected flash size: 2MB" in said
    assert "Hash of data verified." in said
    assert flash.read(0x10000, len(IMAGE)) == IMAGE


def test_esptool_writes_through_the_rom_without_its_stub(on_pty, flash, image):
    port = on_pty(EspLoader(CHIPS["esp32c3"], flash))
    said = run("esptool", "--no-stub", "--port", port, "write-flash", "--compress", "0x10000", image)
    assert "Hash of data verified." in said
    assert flash.read(0x10000, len(IMAGE)) == IMAGE


@pytest.mark.parametrize("stub", [(), ("--no-stub",)], ids=["stub", "ROM"])
def test_esptool_reads_what_is_there(stub, on_pty, flash, tmp_path):
    flash.write(0x8000, IMAGE)
    port = on_pty(EspLoader(CHIPS["esp32s3"], flash))
    run("esptool", *stub, "--port", port, "read-flash", "0x8000", 10_000, tmp_path / "read.bin")
    assert (tmp_path / "read.bin").read_bytes() == IMAGE[:10_000]


def test_esptool_erases_a_region(on_pty, flash):
    flash.write(0, bytes(0x3000))
    run("esptool", "--port", on_pty(EspLoader(CHIPS["esp32c6"], flash)), "erase-region", "0x1000", "0x1000")
    assert flash.read(0, 0x3000) == bytes(0x1000) + b"\xff" * 0x1000 + bytes(0x1000)


def test_espsecure_decrypts_what_esptool_let_the_chip_encrypt(on_pty, flash, image, tmp_path):
    key = bytes(range(32))
    fuses = Fuses(crypt_count=1, key_purposes=(XTS_AES_128_KEY, 0, 0, 0, 0, 0, 0), encryption_key=key)
    port = on_pty(EspLoader(CHIPS["esp32c3"], flash, fuses=fuses))
    run("esptool", "--port", port, "write-flash", "--encrypt", "0x10010", image)
    (tmp_path / "key").write_bytes(key)
    (tmp_path / "secret").write_bytes(flash.read(0x10010, len(IMAGE)))
    arguments = ["--aes-xts", "--keyfile", tmp_path / "key", "--address", "0x10010", "--output", tmp_path / "plain"]
    run("espsecure", "decrypt-flash-data", *arguments, tmp_path / "secret")
    assert (tmp_path / "plain").read_bytes() == IMAGE


def test_espefuse_burns_a_fuse_and_reads_it_back(on_pty, flash):
    port = on_pty(EspLoader(CHIPS["esp32c3"], flash))
    said = run("espefuse", "--port", port, "--do-not-confirm", "burn-efuse", "DIS_PAD_JTAG", "1")
    assert "Successful." in said
    summary = run("espefuse", "--port", port, "summary", environment={"COLUMNS": "200"})
    assert re.search(r"^DIS_PAD_JTAG \(BLOCK0\).* = True ", summary, re.MULTILINE)


def test_a_chip_that_speaks_another_baud_is_not_understood(on_pty, flash):
    chip = EspLoader(CHIPS["esp32c3"], flash)
    port = on_pty(chip)
    with Path(port).open("rb", buffering=0):  # the port stays open, so that the chip stays as it is
        run("esptool", "--port", port, "--baud", 460800, "--after", "no-reset-stub", "flash-id")
        assert chip.mode is Mode.STUB
        command = [sys.executable, "-m", "esptool", "--connect-attempts", "1", "--port", port, "flash-id"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "Failed to connect" in done.stdout + done.stderr


def test_reset_lines_bring_a_chip_into_its_loader_and_out_again(on_rfc2217, flash):
    chip = EspLoader(CHIPS["esp32c3"], flash)
    chip.power_on(boot=False)
    said = run("esptool", "--port", on_rfc2217(chip), "--no-stub", "read-mac")
    assert "MAC:                7c:df:a1:00:00:01" in said
    assert chip.commands > 0
    assert chip.mode is Mode.RUNNING


@pytest.mark.slow
def test_esptool_writes_and_verifies_through_a_serial_server(on_rfc2217, flash, tmp_path):
    small = tmp_path / "small.bin"
    small.write_bytes(IMAGE[:1000])  # pyserial waits for the server at every change of a timeout
    chip = EspLoader(CHIPS["esp32c3"], flash)
    said = run("esptool", "--no-stub", "--port", on_rfc2217(chip), "write-flash", "0x1000", small)
    assert "Hash of data verified." in said
    assert flash.read(0x1000, 1000) == IMAGE[:1000]
    assert chip.mode is Mode.RUNNING


@pytest.mark.parametrize("name", STM32_CHIPS)
def test_stm32loader_erases_writes_and_verifies(name, on_pty, tmp_path):
    kind = STM32_CHIPS[name]
    flash = FlashFile(tmp_path / "flash.bin", kind.size)
    flash.write(0, b"before")
    (tmp_path / "image.bin").write_bytes(IMAGE[:5000])
    port = on_pty(Stm32Loader(kind, flash))
    said = run("stm32loader", "-p", port, "-f", name, "-e", "-w", "-v", tmp_path / "image.bin", environment=MENDED)
    assert f"Chip id: 0x{kind.device_id:X}" in said
    assert "Device UID: 0201-0403-08070605-0C0B0A09" in said
    assert f"Flash size: {kind.size >> 10} KiB" in said
    assert "Verification OK" in said
    assert flash.read(0, 5000) == IMAGE[:5000]


def test_reset_lines_bring_an_st_chip_into_its_loader_and_out_again(on_rfc2217, tmp_path):
    kind = STM32_CHIPS["F4"]
    flash = FlashFile(tmp_path / "flash.bin", kind.size)
    flash.write(0, IMAGE[:1000])
    chip = Stm32Loader(kind, flash)
    chip.power_on(boot=False)
    arguments = ["-r", "-a", "0x08000000", "-l", "1000", tmp_path / "read.bin"]
    run("stm32loader", "-p", on_rfc2217(chip), *arguments, environment=MENDED)
    assert (tmp_path / "read.bin").read_bytes() == IMAGE[:1000]
    assert chip.mode is Mode.RUNNING
