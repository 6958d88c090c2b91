"""The SMP flasher: what it does to a board in each state, and what it says when that can't be done.

The boards are servers of ``bench.smp_servers``. What servers in the field do differently is in
tests/peers/test_smp_servers.py; the reference device is in test_flasher_smp_device.py.
"""

import asyncio
from dataclasses import replace

import pytest
from bench.smp_flash import QUICK, flasher_on, image, payload_of
from bench.smp_manners import Manners
from bench.smp_servers import OLD_HASH, Slot, SmpServer

from firmware_tools.errors import FlashError
from firmware_tools.flashers import FlasherKind, Payload, Phase, Target
from firmware_tools.flashers.smp import SmpFlasher
from firmware_tools.mcuboot_image import read_mcuboot
from firmware_tools.smp_framing import Framing
from station.devices.smp_wire import SmpTransport
from station.errors import Unplugged
from station.ports.link import open_link

IMAGE = image()
HASH = read_mcuboot(IMAGE).sha256
NEW = Slot(IMAGE, HASH, "2.0.0", confirmed=True)
OLD = Slot(b"old", OLD_HASH, "1.0.0", confirmed=True)


def quiet(_progress):
    pass


@pytest.fixture
def serve():
    """Start a server; ``serve(first, second, **manners)``: what its slots hold."""
    servers = []

    def start(*slots, **manners):
        server = SmpServer(Manners(**manners))
        for number, slot in enumerate(slots):
            server.slots[number] = replace(slot)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.close()


async def flash(server, payload=None, watch=quiet):
    async with flasher_on(server.path, patience=QUICK) as flasher:
        return await flasher.flash(payload or payload_of(IMAGE), watch)


async def refused(server, payload=None):
    with pytest.raises(FlashError) as error:
        await flash(server, payload)
    return error.value.code


async def test_a_look_changes_nothing(serve):
    server = serve()
    async with flasher_on(server.path, patience=QUICK) as flasher:
        assert await flasher.look() == Target(chip="", running=OLD_HASH, version="1.0.0")
    assert (server.pieces, server.resets) == (0, 0)


async def test_a_look_at_a_loader_says_that_it_is_one(serve):
    async with flasher_on(serve(is_loader=True).path, patience=QUICK) as flasher:
        assert (await flasher.look()).is_loader


async def test_a_board_that_runs_the_image_is_left_alone(serve):
    server = serve(NEW)
    report = await flash(server)
    assert (report.skipped, report.written, server.pieces, server.resets) == (True, 0, 0, 0)


async def test_a_board_on_trial_with_the_image_is_only_confirmed(serve):
    server = serve(replace(NEW, confirmed=False), OLD)
    await flash(server)
    assert (server.pieces, server.resets, server.slots[0].confirmed) == (0, 0, True)


async def test_an_image_that_waits_in_the_second_slot_is_only_tried(serve):
    server = serve(OLD, replace(NEW, confirmed=False))
    report = await flash(server)
    assert (server.pieces, server.slots[0].content, report.written) == (0, IMAGE, 0)


async def test_a_board_on_trial_with_another_image_goes_back_first(serve):
    other = Slot(b"other", bytes(32), "1.5.0")
    server = serve(other, OLD)
    await flash(server)
    assert (server.resets, server.slots[1].digest) == (2, OLD_HASH)


async def test_the_report_tells_both_states(serve):
    report = await flash(serve())
    assert (report.before.running, report.after.running) == (OLD_HASH, HASH)
    assert report.verified == "hash of the board"
    assert set(report.seconds) == set(Phase)


async def test_progress_ends_with_all_bytes_and_never_goes_back(serve):
    seen = []
    await flash(serve(buffer=512), watch=seen.append)
    written = [step.done for step in seen if step.phase is Phase.WRITE]
    assert (written, written[-1]) == (sorted(written), len(IMAGE))


async def test_two_images_go_where_they_belong_with_one_reset(serve):
    server = serve(images=2)
    radio = image((3, 0, 0, 0), 9_000)
    one = payload_of(IMAGE)
    two = replace(one, images=(*one.images, replace(payload_of(radio).images[0], name="radio", address=1)))
    report = await flash(server, two)
    assert [bank[0].content for bank in server.banks] == [IMAGE, radio]
    assert [bank[0].confirmed for bank in server.banks] == [True, True]
    assert (server.resets, report.written) == (1, len(IMAGE) + len(radio))


async def test_only_the_image_that_differs_is_written(serve):
    server = serve(NEW, images=2)
    radio = image((3, 0, 0, 0), 9_000)
    one = payload_of(IMAGE)
    two = replace(one, images=(*one.images, replace(payload_of(radio).images[0], name="radio", address=1)))
    assert (await flash(server, two)).written == len(radio)


async def test_two_images_of_one_number_are_an_error(serve):
    payload = payload_of(IMAGE)
    twice = replace(payload, images=payload.images * 2)
    with pytest.raises(FlashError, match="give each image one of its own"):
        await flash(serve(), twice)


async def test_an_image_that_is_too_large_is_refused_by_the_board(serve):
    assert await refused(serve(slot=10_000)) == "flash.too_large"


async def test_a_board_that_goes_back_to_the_old_image_is_told(serve):
    assert await refused(serve(boots=False)) == "flash.reverted"


async def test_a_board_that_goes_back_and_does_not_tell_what_waits_is_told(serve):
    assert await refused(serve(boots=False, tells_pending=False)) == "flash.reverted"


async def test_a_downgrade_that_the_bootloader_refuses_is_told(serve):
    older = image((0, 9, 0, 0))
    assert await refused(serve(refuses_downgrade=True), payload_of(older, "0.9.0")) == "flash.downgrade"


async def test_a_loader_that_does_not_start_the_image_is_told(serve):
    server = serve(is_loader=True, boots=False, boot=0.01)
    assert await refused(server) == "flash.refused"


async def test_a_board_that_got_other_bytes_is_told(serve):
    assert await refused(serve(damages=True)) == "flash.verify"


async def test_a_board_that_took_all_and_lists_nothing_gets_it_once_more_one_by_one(serve):
    server = serve(forgets_images=1, work=0.001)
    assert (await flash(server)).after.running == HASH
    assert server.first_pieces == 2


async def test_a_board_that_never_lists_what_it_took_is_told(serve):
    assert await refused(serve(forgets_images=9)) == "flash.verify"


async def test_a_board_that_says_nothing_is_told(serve):
    server = serve()
    server._deaf_until = float("inf")
    assert await refused(server) == "flash.no_answer"


@pytest.mark.parametrize("told", [None, "1.9.9", "new"])
async def test_a_bootloader_that_is_older_or_does_not_tell_is_refused_before_a_piece_is_sent(serve, told):
    server = serve(bootloader=told)
    assert await refused(server, replace(payload_of(IMAGE), minimum_bootloader="2.0.0")) == "flash.bootloader_too_old"
    assert server.pieces == 0


async def test_a_bootloader_that_is_new_enough_is_in_the_report(serve):
    server = serve(bootloader="2.0.0")
    report = await flash(server, replace(payload_of(IMAGE), minimum_bootloader="2.0.0"))
    assert report.before.bootloader == "2.0.0"


@pytest.mark.parametrize("option", [{"erase_seconds": 0}, {"boot_seconds": -1}])
async def test_an_option_that_makes_no_sense_is_named(serve, option):
    with pytest.raises(FlashError, match=next(iter(option))):
        await flash(serve(), payload_of(IMAGE, **option))


async def test_a_payload_without_images_is_an_error(serve):
    with pytest.raises(FlashError):
        await flash(serve(), Payload(FlasherKind.SMP, "", "1.0.0", ()))


async def test_the_time_of_an_erase_is_an_option(serve):
    server = serve(erase=3.0)  # more than the two seconds of this test's patience
    await flash(server, payload_of(IMAGE, erase_seconds=10))
    assert server.first_pieces == 1


async def test_who_cancels_leaves_a_board_that_goes_on_where_it_was(serve):
    server = serve(buffer=512, work=0.01)
    halfway = asyncio.Event()

    def watch(progress):
        if progress.done > len(IMAGE) // 2:
            halfway.set()

    async with flasher_on(server.path, patience=QUICK) as flasher:
        flashing = asyncio.create_task(flasher.flash(payload_of(IMAGE), watch))
        await halfway.wait()
        flashing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flashing
    report = await flash(server)
    assert report.written < len(IMAGE) / 2
    assert server.slots[0].content == IMAGE


async def test_a_port_that_is_gone_is_the_wires_own_error(serve):
    server = serve(buffer=256, work=0.01)
    async with flasher_on(server.path, patience=QUICK) as flasher:
        writing = asyncio.Event()
        flashing = asyncio.create_task(flasher.flash(payload_of(IMAGE), lambda _progress: writing.set()))
        await writing.wait()
        server.close()
        with pytest.raises(Unplugged):
            await flashing


class UsbWire(SmpTransport):
    """A wire that is gone once the board was reset, as that of a board with a USB port of its own."""

    async def send(self, data, *, after_silence=False):
        if data[4:6] == b"\0\0" and data[7] == 5:
            await super().send(data, after_silence=after_silence)
            raise Unplugged("gone", port="usb")
        await super().send(data, after_silence=after_silence)


async def test_a_port_that_goes_away_at_the_reset_is_opened_again(serve):
    server = serve()
    links = [await open_link(server.path, 115200)]
    attempts = []

    async def reopen():
        attempts.append(1)
        if len(attempts) < 3:
            raise Unplugged("not there yet", port="usb")
        links.pop().close()
        links.append(await open_link(server.path, 115200))
        return SmpTransport(links[0], Framing.BASE64)

    try:
        await SmpFlasher(UsbWire(links[0]), reopen=reopen, patience=QUICK).flash(payload_of(IMAGE), quiet)
    finally:
        links[0].close()
    assert server.slots[0].confirmed


async def test_a_port_that_does_not_come_back_is_the_wires_own_error(serve):
    async def reopen():
        raise Unplugged("pulled", port="usb")

    link = await open_link(serve().path, 115200)
    try:
        with pytest.raises(Unplugged, match="pulled"):
            await SmpFlasher(UsbWire(link), reopen=reopen, patience=replace(QUICK, boot=0.3)).flash(
                payload_of(IMAGE), quiet
            )
    finally:
        link.close()
