"""An emulated microcontroller: its firmware register by register, over a terminal, with smpclient as it is.

A board takes a fifth of a second to start and a second and a half to take its application, so a test goes a good way
with one board, and images that are only to be refused are small.
"""

import asyncio
import os
import random
import select
import signal
import struct
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from smp.exceptions import SMPException
from smp.image_management import IMG_MGMT_ERR
from smpclient import SMPClient
from smpclient.exceptions import SMPBadSequence, SMPClientException, SMPUploadError
from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import BootloaderInformationRead, ResetWrite
from smpclient.transport.serial import SMPSerialTransport

from firmware_tools.build import build_firmware
from firmware_tools.errors import LineError, SourceMissing, ToolMissing
from firmware_tools.provisioning import PROOF_DOMAIN, DeviceState, Locks
from firmware_tools.provisioning_group import (
    ChainRead,
    ChainWrite,
    CsrWrite,
    IdentRead,
    LockRead,
    LockWrite,
    ProveWrite,
)
from firmware_tools.virtual_line.emulated_board import FUSES
from firmware_tools.virtual_line.faults import Faults, FlashDeath
from firmware_tools.virtual_line.line import VirtualBoard, VirtualLine

PATIENCE = 20.0
ASK_AGAIN = 2.0
"""Seconds after which a question is put again: a board that starts may have lost it."""
UNHEARD = (TimeoutError, SMPClientException, SMPException)
ALL = Locks.DEBUG | Locks.CREDENTIALS
DEBUG_FUSE = FUSES + 0x100


@pytest.fixture(scope="module")
def firmware(build_folder, mbedtls_source):
    try:
        return build_firmware(build_folder, mbedtls_source=mbedtls_source)
    except ToolMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def application(firmware, signed_image):
    """Sign the application as a version: ``application((1, 0, 0, 0))``."""
    body = firmware.application.read_bytes()
    return lambda version: signed_image(version, body=body, header_size=firmware.header_size)


@pytest.fixture
def start(firmware, image_key_file, tmp_path):
    """Describe a line of emulated boards; the same folder again brings the same boards back."""

    def start(boards=1, **options):
        try:
            return VirtualLine(
                firmware.bootloader, tmp_path / "line", boards, machine="ast1030", image_key=image_key_file, **options
            )
        except ToolMissing as missing:
            pytest.skip(str(missing))

    return start


@asynccontextmanager
async def talk(board):
    """A client that is connected: its first question may meet the answer to one that was asked before a reset."""
    client = SMPClient(SMPSerialTransport(), str(board.port))
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(SMPBadSequence):
                await client.connect()
                break
            await client.disconnect()
    try:
        yield client
    finally:
        await client.disconnect()


async def ask(client, request, **wishes):
    """Ask until there is an answer, each time with another sequence number, so that none is taken for another's."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(*UNHEARD):
                return await client.request(request(**wishes), timeout_s=ASK_AGAIN)


async def listed(client):
    """Return (slot, version, confirmed) of the images."""
    images = (await ask(client, ImageStatesRead)).images
    return [(image.slot, image.version, image.confirmed) for image in images]


async def running(client):
    """Version of the application; None: the bootloader waits for one."""
    return getattr(await ask(client, IdentRead), "fw", None)


async def upload(client, image):
    async for _ in client.upload(image, first_timeout_s=ASK_AGAIN, subsequent_timeout_s=ASK_AGAIN):
        pass


async def install(client, image):
    await upload(client, image)
    await ask(client, ResetWrite)


async def try_out(client, image):
    await upload(client, image)
    spare = (await ask(client, ImageStatesRead)).images[1]
    await ask(client, ImageStatesWrite, hash=spare.hash)
    await ask(client, ResetWrite)


async def public_key(client):
    return x509.load_der_x509_csr((await ask(client, CsrWrite, off=0)).data).public_key()


async def install_chain(client, ca):
    """Send the board its chain in one piece."""
    chain = ca.chain(await public_key(client))
    answer = await ask(client, ChainWrite, off=0, data=chain, len=len(chain), sha=sha256(chain).digest())
    assert answer.off == len(chain)


def debug_is_closed(board):
    return (board.storage / "flash.bin").read_bytes()[DEBUG_FUSE] == 0


async def test_a_blank_board_waits_in_recovery(start):
    with start() as line:
        async with talk(line.boards[0]) as client:
            assert await running(client) is None
            assert await listed(client) == []
            assert (await ask(client, BootloaderInformationRead, query="version")).response == "1.0.0"


async def test_from_blank_to_locked_and_the_same_board_the_next_day(start, application, ca):
    with start(2, model="Sensor 3") as line:
        board, other = line.boards
        async with talk(board) as client:
            await install(client, application((1, 2, 3, 0)))
            ident = await ask(client, IdentRead)
            assert (ident.fw, ident.hw, ident.model) == ("1.2.3", board.hardware_id, "Sensor 3")
            key = await public_key(client)
            await install_chain(client, ca)
            proof = await ask(client, ProveWrite, nonce=bytes(32))
            key.verify(proof.sig, PROOF_DOMAIN + bytes(32) + sha256(ca.leaf(key)).digest(), ec.ECDSA(hashes.SHA256()))
            assert not debug_is_closed(board)
            assert (await ask(client, LockWrite, locks=ALL)).locks == ALL
            assert debug_is_closed(board)
        other.clone(board)
        async with talk(other) as client:
            assert (await ask(client, IdentRead)).hw == other.hardware_id
            assert await public_key(client) == key
    with start(2) as line:
        async with talk(line.boards[0]) as client:
            ident = await ask(client, IdentRead)
            assert (ident.hw, ident.st, ident.leaf) == (board.hardware_id, DeviceState.LOCKED, proof_leaf(ca, key))
            assert (await ask(client, LockRead)).locks == ALL


def proof_leaf(ca, key):
    return sha256(ca.leaf(key)).digest()


async def test_a_trial_goes_back_and_a_confirmed_image_stays_and_nothing_older_comes(start, application, signed_image):
    with start() as line:
        board = line.boards[0]
        async with talk(board) as client:
            await install(client, application((2, 0, 0, 0)))
            assert await listed(client) == [(0, "2.0.0", True)]
            await try_out(client, application((3, 0, 0, 0)))
            assert await listed(client) == [(0, "3.0.0", False), (1, "2.0.0", True)]
            board.reset()
            assert await listed(client) == [(0, "2.0.0", True), (1, "3.0.0", False)]
            spare = (await ask(client, ImageStatesRead)).images[1]
            await ask(client, ImageStatesWrite, hash=spare.hash, confirm=True)
            board.power_off()
            board.power_on()
            assert await listed(client) == [(0, "3.0.0", True), (1, "2.0.0", False)]
            with pytest.raises(SMPUploadError, match=IMG_MGMT_ERR.CURRENT_VERSION_IS_NEWER.name):
                await upload(client, signed_image((2, 9, 9, 0)))


async def test_what_is_not_signed_or_no_program_does_not_run(start, signed_image):
    stranger = ec.derive_private_key(8, ec.SECP256R1())
    tampered = bytearray(signed_image((1, 0, 0, 0)))
    tampered[100] ^= 1
    with start() as line:
        async with talk(line.boards[0]) as client:
            for image in (signed_image((1, 0, 0, 0), keys=(stranger,)), bytes(tampered)):
                with pytest.raises(SMPUploadError):
                    await upload(client, image)
                assert await listed(client) == []
            await install(client, signed_image((1, 0, 0, 0)))  # well signed, and its vectors are zeros
            assert await running(client) is None


RESETS_AT_ONCE = struct.pack(
    "<II4HII",
    *(0xC0000, 0x30200 + 8 + 1),  # its stack, and where it starts
    *(0x4801, 0x4902, 0x6001, 0xE7FE),  # ldr r0, [pc, #4]; ldr r1, [pc, #8]; str r1, [r0]; b .
    *(0xE000ED0C, 0x05FA0004),  # the reset register, and what resets
)
"""A program that does nothing but reset the board."""


async def test_a_new_image_that_crashes_gives_way_to_the_one_before(start, application, signed_image):
    with start() as line:
        async with talk(line.boards[0]) as client:
            await install(client, application((1, 0, 0, 0)))
            await running(client)
            await try_out(client, signed_image((2, 0, 0, 0), body=RESETS_AT_ONCE, header_size=0x200))
            assert await listed(client) == [(0, "1.0.0", True), (1, "2.0.0", False)]


class Life:
    """A board's way from blank to updated, in steps that may be taken again, and what the board has promised so far."""

    def __init__(self, ca, first, second):
        self.ca, self.first, self.second = ca, first, second
        self.key = None
        self.has_chain = self.is_locked = False
        self.versions = {None}

    async def flash(self, client):
        self.versions = {None, "1.0.0"}
        if await running(client) is None:
            await install(client, self.first)
        assert await running(client) == "1.0.0"
        self.versions = {"1.0.0"}

    async def make_key(self, client):
        self.key = await public_key(client)

    async def certify(self, client):
        await install_chain(client, self.ca)
        self.has_chain = True

    async def lock(self, client):
        assert (await ask(client, LockWrite, locks=ALL)).locks == ALL
        self.is_locked = True

    async def update(self, client):
        self.versions = {"1.0.0", "2.0.0"}
        if await running(client) == "1.0.0":
            await try_out(client, self.second)
        assert await running(client) == "2.0.0"
        await ask(client, ImageStatesWrite, confirm=True)
        self.versions = {"2.0.0"}

    async def hold_to_it(self, board):
        async with talk(board) as client:
            assert await running(client) in self.versions
            if self.key is None:
                return
            assert await public_key(client) == self.key
            chain = self.ca.chain(self.key)
            stored = getattr(await ask(client, ChainRead, off=0), "data", None)
            assert stored in ({chain} if self.has_chain else {None, chain})
            assert not self.is_locked or (await ask(client, LockRead)).locks == ALL


async def take(board, step):
    async with talk(board) as client:
        await step(client)


async def cut_short(board, step, moment, cut):
    """Begin a step, and cut it off after so many seconds."""
    taking = asyncio.ensure_future(take(board, step))
    await asyncio.wait([taking], timeout=moment)
    cut(board)
    taking.cancel()
    await asyncio.wait([taking])


def cut_power(board):
    board.power_off()
    board.power_on()


@pytest.mark.slow
@pytest.mark.parametrize("cut", [cut_power, VirtualBoard.reset])
async def test_a_cut_at_any_moment_loses_nothing(start, application, ca, cut):
    life = Life(ca, application((1, 0, 0, 0)), application((2, 0, 0, 0)))
    steps = (  # with the seconds that each takes about, and how often it is cut off before it may end
        (life.flash, 1.5, 3),
        (life.make_key, 0.08, 4),
        (life.certify, 0.3, 4),
        (life.lock, 0.05, 3),
        (life.update, 2.2, 3),
    )
    dice = random.Random(5)  # noqa: S311 - not for secrets; moments that repeat
    with start() as line:
        board = line.boards[0]
        for step, longest, cuts in steps:
            for _ in range(cuts):
                await cut_short(board, step, dice.uniform(0, longest), cut)
                await life.hold_to_it(board)
            await take(board, step)
        cut(board)
        await life.hold_to_it(board)


def test_boards_die_with_the_program_that_started_them(firmware, image_key_file, tmp_path):
    command = [sys.executable, "-m", "firmware_tools", "line", tmp_path / "line", "--boards", "2"]
    command += ["--machine", "ast1030", "--program", firmware.bootloader, "--image-key", image_key_file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        while '"ready"' not in process.stdout.readline():
            pass
        tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
        watches = [os.pidfd_open(int(pid)) for task in tasks for pid in task.read_text().split()]
        assert len(watches) == 2
        process.send_signal(signal.SIGKILL)
        for watch in watches:
            assert select.select([watch], [], [], PATIENCE)[0]
            os.close(watch)


def test_a_reset_is_a_command_of_the_line(firmware, image_key_file, tmp_path):
    command = [sys.executable, "-m", "firmware_tools", "line", tmp_path / "line", "--boards", "1"]
    command += ["--machine", "ast1030", "--program", firmware.bootloader, "--image-key", image_key_file]
    done = subprocess.run(command, input="reset slot1\nreset slot1\n", capture_output=True, text=True, check=True)
    assert done.stdout.count('"done"') == 2


def test_a_reset_of_a_board_without_power_leaves_it_off(start):
    with start() as line:
        line.boards[0].power_off()
        line.boards[0].reset()
        assert not line.boards[0].running


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"machine": "z80"}, "line.machine"),
        ({"image_key": None}, "line.image_key"),
        ({"trace": True}, "line.machine"),
        ({"persona": "nrf91"}, "line.machine"),
        ({"arguments": ["--quiet"]}, "line.machine"),
    ],
)
def test_what_an_emulated_board_can_not_be_is_said_at_once(tmp_path, image_key_file, options, code):
    wanted = {"machine": "ast1030", "image_key": image_key_file} | options
    with pytest.raises(LineError) as caught:
        VirtualLine(tmp_path / "bootloader.elf", tmp_path / "line", 1, **wanted)
    assert caught.value.code == code


def test_an_image_key_that_is_none_is_named(tmp_path):
    path = tmp_path / "key.pem"
    for content in (None, b"rubbish"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(LineError, match=r"key\.pem") as caught:
            VirtualLine(tmp_path / "device", tmp_path / "line", 1, image_key=path)
        assert caught.value.code == "line.image_key"


def test_deaths_in_flash_operations_are_for_other_boards(start):
    with start() as line:
        line.boards[0].unplug()
        line.boards[0].faults = Faults(deaths=(FlashDeath(1),))
        with pytest.raises(LineError, match="use a board of machine linux"):
            line.boards[0].plug()


def test_firmware_that_was_built_stays_as_it_is(firmware, build_folder, mbedtls_source):
    built = firmware.application.stat().st_mtime_ns
    assert build_firmware(build_folder, mbedtls_source=mbedtls_source) == firmware
    assert firmware.application.stat().st_mtime_ns == built


def test_a_missing_emulator_is_named_with_its_package(tmp_path, image_key_file, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="qemu-system-arm is missing: apt-get install qemu-system-arm"):
        VirtualLine(tmp_path / "bootloader.elf", tmp_path / "line", 1, machine="ast1030", image_key=image_key_file)


def test_a_missing_cross_compiler_is_named_with_its_packages(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match=r"arm-none-eabi-gcc is missing: apt-get install make gcc-arm-none-eabi"):
        build_firmware(tmp_path)


def test_firmware_for_a_machine_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(SourceMissing, match="no firmware for the machine 'z80'"):
        build_firmware(tmp_path, machine="z80")
