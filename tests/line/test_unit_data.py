"""The data of one unit, written to a virtual chip by esptool: beside the firmware, and nothing else is touched."""

import hashlib
from contextlib import closing
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from firmware_tools.bundles.archive import unzipped
from firmware_tools.bundles.bundle import Bundle, contents_of
from firmware_tools.rom_loaders.esp import EspLoader
from firmware_tools.rom_loaders.esp_chips import CHIPS
from firmware_tools.rom_loaders.flash_file import FlashFile
from firmware_tools.rom_loaders.ports import PtyPort
from firmware_tools.testing import signed_bundle
from station.config import SlotConfig
from station.devices.smp import SmpDriver
from station.errors import ConfigError, DeviceError
from station.line.seat import Seat
from station.line.unit_data import UnitData
from station.locking import LockPlan
from station.manifest import UnitRecord, UnitState
from station.ports.link import open_link
from station.product_firmware import ProductFirmware
from station.unit_facts import check_unit_data

KEY = ec.generate_private_key(ec.SECP256R1())
APPLICATION = hashlib.shake_256(b"application").digest(20_000)
PLAN = """
product = "sensor"
version = "1.4.2"
[flash]
kind = "esp"
chip = "esp32c3"
options = { erase_all = true }
[[image]]
name = "app"
file = "app.bin"
address = 0x10000
[[unit_data]]
name = "factory-data"
format = "esp-nvs"
address = 0x9000
size = 0x3000
[[unit_data.entry]]
key = "factory/serial"
type = "string"
value = "{product_serial}"
"""
RECORD = UnitRecord(
    id=1,
    hardware_id="HW-1",
    product_serial="SN000001",
    order="WO-1",
    model="sensor",
    firmware_version="1.4.2",
    firmware_sha256=bytes(32),
    state=UnitState.OPEN,
    attempts=1,
    slot="1",
    first_seen_at="",
    changed_at="",
    failure_code=None,
    failure_sentence=None,
    failure_step=None,
    mac=None,
    issuance=None,
)


def bundle(plan=PLAN):
    contents = contents_of(unzipped(signed_bundle(plan, {"app.bin": APPLICATION}, KEY), "x"), "x")
    return Bundle.of(contents, [KEY.public_key()])


@pytest.fixture
async def seat(tmp_path):
    """A chip in a slot; it holds the application already."""
    with closing(FlashFile(tmp_path / "flash.bin", 1 << 20)) as flash:
        flash.write(0x10000, APPLICATION)
        port = PtyPort(EspLoader(CHIPS["esp32c3"], flash), tmp_path / "tty")
        config = SlotConfig(name="1", port=str(tmp_path / "tty"), usb=None, baud=115_200)

        async def reopen():
            return await open_link(config.port, config.baud)

        seat = Seat(config, await reopen(), SmpDriver, reopen)
        yield seat, tmp_path / "flash.bin"
        seat.close()
        port.close()


def unit_data(seat, record=RECORD, plan=PLAN):
    return UnitData(ProductFirmware(bundle(plan), LockPlan()), seat, lambda _percent: None, record)


async def test_the_data_stand_in_the_flash_beside_the_firmware(seat):
    board, path = seat
    data = unit_data(board)
    report = await data.flash()
    held = path.read_bytes()
    assert b"SN000001\0" in held[0x9000:0xC000]
    assert held[0x10000:].startswith(APPLICATION)
    assert (report.skipped, report.written) == (False, 0x3000)
    assert data.written() == {"factory-data": hashlib.sha256(held[0x9000:0xC000]).hexdigest()}


async def test_data_that_are_there_are_not_written_again(seat):
    board, _ = seat
    await unit_data(board).flash()
    assert (await unit_data(board).flash()).skipped


async def test_a_unit_without_a_serial_gets_none(seat):
    with pytest.raises(DeviceError) as caught:
        unit_data(seat[0], replace(RECORD, product_serial=None))
    assert caught.value.code == "unit_file.fact_missing"


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (PLAN.replace('"esp"', '"stm32"', 1).replace("erase_all", "go"), "can't write a part"),
        (PLAN.replace("{product_serial}", "{matter_passcode}"), "prints no labels"),
    ],
)
def test_a_line_that_could_not_write_them_does_not_start(plan, told):
    with pytest.raises(ConfigError, match=told):
        check_unit_data(bundle(plan))


def test_a_line_that_can_write_them_starts():
    check_unit_data(bundle())
