"""The way of a unit that is flashed, with a scripted board and a scripted loader: what comes when, and what ends it."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from bench.images import Releases

from firmware_tools.bundles.manifest import LockStep, UnitEntry, UnitFile, UnitFormat
from firmware_tools.errors import FlashError
from firmware_tools.flashers import FlasherKind, FlashReport, Phase, Progress, Target
from firmware_tools.provisioning import Locks
from hsm import Authority, Profile
from hsm.testing import temporary_ca
from station.config import OrderSection, ProductSection, SlotConfig
from station.devices.smp import SmpDriver
from station.errors import DeviceError, Unplugged
from station.events import SlotState
from station.line import policy
from station.line.flashing import Flashing
from station.line.seat import Seat
from station.line.unit import UnitRun
from station.line.workshop import Workshop
from station.locking import LockPlan
from station.manifest import Act, LifeRequest, Manifest, ManifestReader, UnitState
from station.product_firmware import ProductFirmware, read_bundle
from station.testing import ScriptedBoard, Verb
from station.testing.orders import open_signed

JTAG = LockStep("jtag", "esp", ("DIS_PAD_JTAG", "1"), True)
PRODUCT = ProductSection("reference-device", None, None, Locks.DEBUG | Locks.CREDENTIALS)


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    with temporary_ca(tmp_path_factory.mktemp("ca")) as ca:
        yield ca


@pytest.fixture
def firmware(tmp_path):
    """A bundle as for a chip with a loader in ROM, whose running image nobody knows."""
    releases = Releases(tmp_path / "releases")
    product = replace(PRODUCT, firmware=releases.bundle("1.2.0"), release_key=releases.release_key)
    made = read_bundle(product)
    payload = replace(made.bundle.payload, kind=FlasherKind.ESP, running=None)
    bundle = replace(made.bundle, contents=replace(made.bundle.contents, payload=payload))
    return ProductFirmware(bundle, LockPlan(PRODUCT.locks, (JTAG,)))


@pytest.fixture
async def shop(ca, tmp_path, firmware):
    authority = await Authority.open(ca.signer, issuer=ca.issuer, chain=[ca.root])
    with Manifest.open(tmp_path / "manifest.db") as manifest:
        orders = await open_signed(manifest, station_id=7)
        yield Workshop(
            manifest=manifest,
            authority=authority,
            profile=Profile.load("idevid"),
            product=PRODUCT,
            order=OrderSection(name="WO-1"),
            station_id=7,
            orders=orders,
            firmware=firmware,
        )


class Loader(Seat):
    """A board whose loader does what it is told, and notes it."""

    def __init__(self, board, version="1.2.0"):
        super().__init__(SlotConfig("1", "/dev/ttyTEST", None, 115200), board.plug(), SmpDriver, self._again)
        self.board = board
        self.version = version
        self.done = []
        self.errors = []
        self.payloads = []
        self.fuses = {"DIS_PAD_JTAG": "1"}

    async def _again(self):
        return self.board.plug()

    @asynccontextmanager
    async def flasher(self, payload):
        self.link.close()
        self.is_open = False
        try:
            yield self
        finally:
            await self.open_again()

    async def look(self):
        return Target("esp32c3")

    async def flash(self, payload, watch):
        self.done.append(("flash", len(self.board.requests)))
        self.payloads.append(payload)
        if self.errors:
            raise self.errors.pop(0)
        watch(Progress(Phase.WRITE, 1, 2))
        self.board.firmware_version = self.version
        return FlashReport(False, Target("esp32c3"), Target("esp32c3"), 2, "md5 of the loader", {Phase.WRITE: 0.1})

    async def lock(self, step):
        self.done.append((step.name, len(self.board.requests)))
        return self.fuses


@pytest.fixture
def board():
    board = ScriptedBoard()
    board.firmware_version = "0.9.0"
    return board


async def run(shop, seat, told=None):
    watch = (lambda _event: None) if told is None else told.append
    try:
        return await UnitRun(shop, seat.driver, "1", watch, seat=seat).run()
    finally:
        seat.close()


def history(shop, board):
    with ManifestReader(shop.manifest.path) as reader:
        return reader.unit(board.hardware_id)


async def test_the_steps_come_in_their_order_and_the_chip_is_locked_last(shop, board):
    told, seat = [], Loader(board)
    end = await run(shop, seat, told)
    assert end.state is SlotState.PASSED
    steps = [event.step for event in told if event.state is SlotState.RUNNING and event.percent is None]
    way = [step.name for step in policy.STEPS]
    assert steps == [policy.ASK.name, policy.FLASH.name, *way[:-1], policy.FUSES.name, way[-1]]
    assert [name for name, _ in seat.done] == ["flash", "jtag"]
    asked = [verb for verb, _ in board.requests][seat.done[1][1] :]
    assert set(asked) == {Verb.IDENT}  # who it is, once more, and nothing that reads


async def test_what_was_read_of_the_chip_is_on_record(shop, board):
    await run(shop, Loader(board))
    (facts,) = [event.facts for event in history(shop, board).events if event.kind == "observed"]
    assert facts == {"jtag": "DIS_PAD_JTAG=1"}


async def test_a_chip_that_reads_open_does_not_pass(shop, board):
    seat = Loader(board)
    seat.fuses = {"DIS_PAD_JTAG": "0"}
    end = await run(shop, seat)
    assert (end.code, history(shop, board).unit.state) == ("device.lock_open", UnitState.FAILED)
    seat = Loader(board)
    assert (await run(shop, seat)).state is SlotState.PASSED
    assert [name for name, _ in seat.done] == ["jtag"]


async def test_a_dry_run_asks_the_chip_for_nothing(shop, board):
    seat = Loader(board)
    dry = replace(shop, product=replace(PRODUCT, dry_run_locks=True))
    end = await run(dry, seat)
    assert (end.state, end.code) == (SlotState.STOPPED, "unit.dry_run")
    assert "jtag (esp DIS_PAD_JTAG 1)" in end.detail
    assert [name for name, _ in seat.done] == ["flash"]
    assert board.locks is Locks.NONE


async def test_a_board_that_may_be_locked_by_now_is_not_sent_into_its_loader(shop, board):
    seat = Loader(board)
    seat.fuses = {"DIS_PAD_JTAG": "0"}
    await run(shop, seat)
    seat = Loader(board)
    assert (await run(shop, seat)).state is SlotState.PASSED
    assert [name for name, _ in seat.done] == ["jtag"]
    *_, facts = [event.facts for event in history(shop, board).events if event.kind == "flashed"]
    assert (facts["skipped"], facts["verified"]) == ("True", "the board's word")


async def test_the_loader_of_a_new_board_is_asked_whatever_its_firmware_says(shop, board):
    board.firmware_version = "1.2.0"
    seat = Loader(board)
    assert (await run(shop, seat)).state is SlotState.PASSED
    assert [name for name, _ in seat.done] == ["flash", "jtag"]


async def test_a_board_that_is_swapped_for_a_finished_one_s_place_gets_nothing(shop, board):
    await run(shop, Loader(board))
    seat = Loader(board)

    def swap(_request, answer):
        board.hardware_id, board.chain, board.firmware_version = "B-2", None, "0.9.0"
        return answer

    board.script(Verb.IDENT, swap)
    end = await run(shop, seat)
    assert end.code == "unit.swapped"
    with ManifestReader(shop.manifest.path) as reader:
        assert len(list(reader.units())) == 1


class Renaming(Loader):
    """A board that its new firmware names otherwise."""

    async def flash(self, payload, watch):
        self.board.hardware_id = "B-2"
        return await super().flash(payload, watch)


async def test_a_board_with_a_certificate_does_not_get_another_under_a_new_name(shop, board):
    seat = Loader(board)
    seat.fuses = {"DIS_PAD_JTAG": "0"}
    assert (await run(shop, seat)).state is SlotState.FAILED
    board.firmware_version = "0.9.0"
    assert (await run(shop, Renaming(board))).code == "unit.swapped"
    with ManifestReader(shop.manifest.path) as reader:
        assert len(list(reader.units())) == 1


async def test_what_a_new_board_was_called_before_it_was_flashed_is_on_record(shop, board):
    before = board.hardware_id
    assert (await run(shop, Renaming(board))).state is SlotState.PASSED
    (facts,) = [event.facts for event in history(shop, board).events if event.kind == "flashed"]
    assert facts["hardware_id_before"] == before


async def test_a_board_that_goes_back_to_other_firmware_on_the_way_does_not_pass(shop, board):
    def go_back(_request, answer):
        board.firmware_version = "0.9.0"
        return answer

    board.script(Verb.LOCK_WRITE, go_back)
    end = await run(shop, Loader(board))
    assert (end.state, end.code) == (SlotState.FAILED, "device.firmware_differs")


async def test_a_dry_run_passes_nobody_where_nothing_is_locked_either(shop, board):
    product = replace(PRODUCT, locks=Locks.NONE, dry_run_locks=True)
    firmware = replace(shop.firmware, plan=LockPlan())
    end = await run(replace(shop, product=product, firmware=firmware), Loader(board))
    assert (end.state, end.code) == (SlotState.STOPPED, "unit.dry_run")


async def test_a_unit_that_passed_is_never_sent_into_its_loader_again(shop, board):
    await run(shop, Loader(board))
    board.firmware_version = "1.9.0"
    seat = Loader(board)
    end = await run(shop, seat)
    assert (end.state, seat.done) == (SlotState.DONE_BEFORE, [])


async def test_a_unit_up_for_rework_is_flashed_like_a_new_one(shop, board):
    await run(shop, Loader(board))
    await shop.manifest.act(LifeRequest(Act.REWORK, board.hardware_id, "a test", "alice", "root"))
    board.firmware_version, board.locks = "0.9.0", Locks.NONE
    seat = Loader(board)
    await run(shop, seat)
    assert seat.done[0][0] == "flash"


async def test_a_board_that_runs_something_else_after_it_was_flashed_gets_no_identity(shop, board):
    end = await run(shop, Loader(board, version="1.1.0"))
    assert end.code == "device.firmware_differs"
    assert board.leaf is None
    await shop.manifest.answer()  # the event is on disk then
    with ManifestReader(shop.manifest.path) as reader:
        assert list(reader.units()) == []
        (facts,) = [row[0] for row in reader.rows("SELECT facts FROM event WHERE kind = 'flashed'")]
    assert "1.2.0" in facts


async def test_a_tool_that_hangs_is_tried_once_more(shop, board):
    seat = Loader(board)
    seat.errors = [FlashError("esptool hangs", code="flash.tool_hangs")]
    assert (await run(shop, seat)).state is SlotState.PASSED
    assert [name for name, _ in seat.done] == ["flash", "flash", "jtag"]


@pytest.mark.parametrize("code", ["flash.wrong_chip", "flash.too_large", "flash.refused", "flash.no_answer"])
async def test_what_will_not_change_is_tried_once_and_said(shop, board, code):
    seat = Loader(board)
    seat.errors = [FlashError("no\x1b[31m", code=code)]
    end = await run(shop, seat)
    assert (end.state, end.code) == (SlotState.FAILED, code)
    assert "\x1b" not in end.detail
    assert end.sentence
    assert len(seat.done) == 1


async def test_progress_stands_in_the_events(shop, board):
    told = []
    await run(shop, Loader(board), told)
    assert [event.percent for event in told if event.percent is not None] == [45]


async def test_the_data_of_a_unit_is_written_once_its_serial_is_known(shop, board, firmware):
    file = UnitFile(
        name="factory-data",
        format=UnitFormat.ESP_NVS,
        address=0x9000,
        size=0x3000,
        entries=(UnitEntry("factory/serial", "string", "{product_serial}"),),
    )
    contents = firmware.bundle.contents
    contents = replace(contents, manifest=replace(contents.manifest, unit_files=(file,)))
    shop = replace(shop, firmware=replace(firmware, bundle=replace(firmware.bundle, contents=contents)))
    seat = Loader(board)
    end = await run(shop, seat)
    assert end.state is SlotState.PASSED
    assert [name for name, _ in seat.done] == ["flash", "flash", "jtag"]
    (image,) = seat.payloads[1].images
    assert (image.name, image.address) == ("factory-data", 0x9000)
    assert end.product_serial.encode() in image.content
    asked = [verb for verb, _ in board.requests][: seat.done[1][1]]
    assert Verb.CSR in asked
    assert Verb.CHAIN_WRITE not in asked


async def test_a_board_of_another_model_is_not_flashed(shop, board):
    board.model = "pump"
    seat = Loader(board)
    end = await run(shop, seat)
    assert (end.code, seat.done) == ("unit.wrong_model", [])


async def test_a_flash_may_take_as_long_as_its_bundle_says_that_a_board_needs(board, firmware):
    def deadline(**options):
        payload = replace(firmware.bundle.payload, options=options)
        bundle = replace(firmware.bundle, contents=replace(firmware.bundle.contents, payload=payload))
        return Flashing(replace(firmware, bundle=bundle), Loader(board), lambda _percent: None).step.deadline

    assert deadline(erase_seconds=300, boot_seconds=600) == deadline() + 900


def seat_of(board, reopen):
    return Seat(SlotConfig("1", "/dev/ttyTEST", None, 115200), board.plug(), SmpDriver, reopen)


async def test_a_port_that_a_stopped_flasher_left_closed_is_waited_for_and_taken_back(board, firmware):
    async def again():
        return board.plug()

    seat = seat_of(board, again)
    inside = asyncio.Event()

    async def flash():
        async with seat.flasher(firmware.bundle.payload):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(flash())
    await inside.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not seat.is_open
    with pytest.raises(TimeoutError):  # a closed port is no board that left
        async with asyncio.timeout(0.02):
            await seat.hangs_up()
    await seat.open_again()
    assert (await seat.driver.identify()).hardware_id == board.hardware_id
    seat.close()


async def test_a_flasher_that_fails_for_the_cable_says_so(board, firmware):
    async def again():
        raise Unplugged("no port")

    seat = seat_of(board, again)
    with pytest.raises(Unplugged, match="esptool: could not open port"):
        async with seat.flasher(firmware.bundle.payload):
            raise FlashError("esptool: could not open port", code="flash.tool_failed")


async def test_a_slot_without_a_probe_says_what_to_write(board, firmware):
    seat = seat_of(board, board.plug)
    with pytest.raises(DeviceError, match='probe = "<serial number>"') as caught:
        async with seat.flasher(replace(firmware.bundle.payload, kind=FlasherKind.PROBE)):
            pass
    assert caught.value.code == "flash.no_probe"
    assert (await seat.driver.identify()).hardware_id == board.hardware_id
    seat.close()
