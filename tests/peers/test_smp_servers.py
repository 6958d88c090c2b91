"""The SMP flasher against servers that are not ours, and clients that are not ours against our device.

The servers are of ``bench.smp_servers``, written from the specification; ``bench.smp_manners`` has what each does
differently.
"""

import asyncio
import re
import subprocess
from types import SimpleNamespace

import pytest
from bench.smp_flash import QUICK, flasher_on, image, payload_of
from bench.smp_manners import SERVERS
from bench.smp_servers import SmpServer
from smpclient import SMPClient
from smpclient.requests.image_management import ImageStatesRead
from smpclient.transport.serial import SMPSerialTransport
from smpclient.transport.serial.unencoded import SMPSerialRawTransport

from firmware_tools.errors import FlashError
from firmware_tools.flashers import Phase
from firmware_tools.smp_framing import Framing

IMAGE = image()


async def flash(server, payload=None, watch=lambda _progress: None):
    framing = Framing.RAW if server.manners.raw else Framing.BASE64
    async with flasher_on(server.path, framing=framing, patience=QUICK) as flasher:
        return await flasher.flash(payload or payload_of(IMAGE), watch)


@pytest.mark.parametrize("name", SERVERS)
async def test_a_board_runs_the_image_whatever_its_server_is_like(name):
    with SmpServer(SERVERS[name]) as server:
        report = await flash(server)
        assert server.slots[0].content == IMAGE
    assert (server.slots[0].confirmed, server.resets > 0) == (True, True)
    assert (report.written, report.skipped) == (len(IMAGE), False)


@pytest.mark.parametrize("name", ["96 bytes", "128 bytes", "256 bytes, not told", "96 bytes, not told"])
async def test_no_request_is_larger_than_the_buffer(name):
    with SmpServer(SERVERS[name]) as server:
        await flash(server)
    assert max(server.sizes) <= SERVERS[name].buffer


async def test_a_buffer_that_is_not_told_is_found():
    with SmpServer(SERVERS["1024 bytes, not told, one at a time"]) as server:
        await flash(server)
    assert max(server.sizes) > 900


@pytest.mark.parametrize("name", ["zephyr, one buffer", "zephyr, more told than kept"])
async def test_a_server_with_one_buffer_gets_one_at_a_time_after_it_was_tried(name):
    with SmpServer(SERVERS[name]) as server:
        report = await flash(server, payload_of(image(size=80_000)))
    assert report.seconds[Phase.WRITE] < 2


async def test_a_server_with_buffers_gets_several_requests_at_once():
    with SmpServer(SERVERS["takes the later one first"]) as server:
        await flash(server)
    assert server.most_waiting > 1


async def test_the_first_piece_is_not_repeated_while_the_flash_is_erased():
    with SmpServer(SERVERS["slow erase"]) as server:
        await flash(server)
    assert server.first_pieces == 1


# Clients that others wrote, and our device.


async def test_smpclient_uploads_to_the_device(tty, image):
    path, digest = image
    async with SMPClient(SMPSerialTransport(), str(tty)) as client:
        async for _ in client.upload(path.read_bytes()):
            pass
        listed = (await client.request(ImageStatesRead())).images
    assert listed[1].hash == digest


async def test_smpclient_uploads_to_the_device_without_framing(device, start, image):
    path, digest = image
    async with SMPClient(SMPSerialRawTransport(2044), str(start(device, "--raw"))) as client:
        async for _ in client.upload(path.read_bytes()):
            pass
        listed = (await client.request(ImageStatesRead())).images
    assert listed[1].hash == digest


@pytest.fixture
def smpmgr(tool):
    """Run smpmgr on a tty; return what it says, in one line and upper case."""

    async def run(port, *arguments):
        command = [tool("smpmgr"), "--port", port, *arguments]
        environment = {"COLUMNS": "250", "NO_COLOR": "1", "TERM": "dumb"}
        process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-2, env=environment)
        said = (await process.communicate())[0].decode()
        assert process.returncode == 0, said
        return re.sub(r"\s", "", said).upper()

    return run


async def test_smpmgr_finds_what_the_flasher_has_flashed(tty, image, smpmgr):
    path, digest = image
    async with flasher_on(tty) as flasher:
        await flasher.flash(payload_of(path.read_bytes(), "2.3.4"), lambda _progress: None)
    assert digest.hex().upper() in await smpmgr(tty, "image", "state-read")


# Our bootloader, with images that imgtool alone has signed.


@pytest.fixture(scope="session")
def signed(tool, tmp_path_factory):
    """Make images signed by imgtool: ``key`` is the public key's file, ``image(version)`` an image's."""
    folder = tmp_path_factory.mktemp("signed")
    key, public, body = folder / "key.pem", folder / "public.pem", folder / "app.bin"
    body.write_bytes(bytes(range(256)) * 100)

    def imgtool(*arguments):
        subprocess.run([tool("imgtool"), *arguments], check=True, capture_output=True)

    imgtool("keygen", "-k", key, "-t", "ecdsa-p256")
    imgtool("getpub", "-k", key, "-e", "pem", "-o", public)

    def image(version):
        path = folder / f"{version}.bin"
        slots = ["--header-size", "0x200", "--pad-header", "--slot-size", "0x40000", "--align", "8"]
        imgtool("sign", "--key", key, "--version", version, *slots, body, path)
        return path

    return SimpleNamespace(key=public, image=image)


@pytest.fixture
def blank(device, start, signed):
    """A blank board that waits in serial recovery."""
    return start(device, "--bootloader", "--image-key", signed.key)


async def look(port):
    async with flasher_on(port) as flasher:
        return await flasher.look()


async def test_the_flasher_brings_a_blank_board_to_run(blank, signed):
    async with flasher_on(blank) as flasher:
        report = await flasher.flash(payload_of(signed.image("2.0.0").read_bytes()), lambda _progress: None)
    assert (report.before.is_loader, report.after.version, report.before.bootloader) == (True, "2.0.0", "1.0.0")


async def test_smpmgr_brings_a_blank_board_to_run(blank, signed, smpmgr):
    await smpmgr(blank, "image", "upload", str(signed.image("2.0.0")))
    await smpmgr(blank, "os", "reset")
    assert (await look(blank)).version == "2.0.0"


async def test_the_flasher_is_told_of_a_downgrade(blank, signed):
    async with flasher_on(blank) as flasher:
        await flasher.flash(payload_of(signed.image("2.0.0").read_bytes()), lambda _progress: None)
        with pytest.raises(FlashError) as error:
            await flasher.flash(payload_of(signed.image("1.0.0").read_bytes(), "1.0.0"), lambda _progress: None)
    assert error.value.code == "flash.downgrade"
    assert (await look(blank)).version == "2.0.0"


async def test_a_bootloader_refuses_what_is_not_signed(blank):
    async with flasher_on(blank, patience=QUICK) as flasher:
        with pytest.raises(FlashError) as error:
            await flasher.flash(payload_of(IMAGE), lambda _progress: None)
    assert error.value.code == "flash.refused"
    assert (await look(blank)).is_loader
