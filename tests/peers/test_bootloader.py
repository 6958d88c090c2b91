"""Images that imgtool alone has signed, sent by smpmgr or smpclient to our bootloader and to what it starts."""

import os
import re
import subprocess

import pytest
from smpclient import SMPClient
from smpclient.exceptions import SMPUploadError
from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import ResetWrite
from smpclient.transport.serial import SMPSerialTransport

from firmware_tools.provisioning_group import IdentRead

FORM = ("--header-size", "0x200", "--pad-header", "--slot-size", "0x40000", "--align", "8")


@pytest.fixture(scope="module")
def imgtool(tool):
    def run(*arguments):
        return subprocess.run([tool("imgtool"), *map(str, arguments)], check=True, capture_output=True).stdout

    return run


@pytest.fixture(scope="module")
def keys(imgtool, tmp_path_factory):
    """Two keys of imgtool's, with the public half of the first one as PEM."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "foreign"):
        imgtool("keygen", "-k", folder / f"{name}.pem", "-t", "ecdsa-p256")
    (folder / "public.pem").write_bytes(imgtool("getpub", "-k", folder / "ours.pem", "-e", "pem"))
    return folder


@pytest.fixture
def sign(imgtool, keys, tmp_path):
    """Sign some bytes as a version: ``sign("1.2.3", *options, key="ours")``."""

    def sign(version, *options, key="ours"):
        body, image = tmp_path / "app.bin", tmp_path / f"{version}-{key}.bin"
        body.write_bytes(bytes(range(256)) * 40)
        imgtool("sign", "-k", keys / f"{key}.pem", "--version", version, *FORM, *options, body, image)
        return image

    return sign


@pytest.fixture
def port(start, device, keys):
    """The port of a blank board with a bootloader that knows our key."""
    return start(device, "--bootloader", "--image-key", keys / "public.pem")


async def upload(client, image):
    async for _ in client.upload(image.read_bytes()):
        pass


async def listed(client):
    images = (await client.request(ImageStatesRead())).images
    return [(image.slot, image.version, image.confirmed) for image in images]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--security-counter", "7"),
        ("--pad-sig",),
        ("--custom-tlv", "0xa1", "0x1234"),
        ("--load-addr", "0x30000"),
        ("--pad",),
        ("--pad", "--confirm"),
    ],
)
async def test_what_imgtool_signs_is_what_the_bootloader_runs(port, sign, imgtool, keys, options):
    image = sign("3.1.4+159", *options)
    imgtool("verify", "-k", keys / "ours.pem", image)
    async with SMPClient(SMPSerialTransport(), str(port)) as client:
        await upload(client, image)
        await client.request(ResetWrite())
        assert await listed(client) == [(0, "3.1.4.159", True)]
        assert (await client.request(IdentRead())).fw == "3.1.4.159"


@pytest.mark.parametrize("algorithm", ["rsa-2048", "ed25519", "ecdsa-p384"])
async def test_a_signature_of_another_kind_is_refused(port, sign, imgtool, keys, algorithm):
    imgtool("keygen", "-k", keys / f"{algorithm}.pem", "-t", algorithm)
    async with SMPClient(SMPSerialTransport(), str(port)) as client:
        with pytest.raises(SMPUploadError):
            await upload(client, sign("1.0.0", key=algorithm))
        assert await listed(client) == []


async def test_an_image_that_imgtool_signed_with_another_key_is_refused(port, sign):
    async with SMPClient(SMPSerialTransport(), str(port)) as client:
        with pytest.raises(SMPUploadError, match="rc=11"):
            await upload(client, sign("1.0.0", key="foreign"))


@pytest.fixture
def smpmgr(port, tool):
    def run(*arguments, fails=False):
        environment = os.environ | {"COLUMNS": "250", "NO_COLOR": "1", "TERM": "dumb"}
        command = [tool("smpmgr"), "--port", port, "--timeout", "5", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.slow
def test_smpmgr_flashes_a_blank_board_and_updates_what_runs_then(smpmgr, sign):
    smpmgr("image", "upload", str(sign("1.0.0")))
    smpmgr("os", "reset")
    assert re.findall(r"version='(\S+?)'", smpmgr("image", "state-read")) == ["1.0.0"]
    assert "Upgrade complete" in smpmgr("upgrade", "--slot", "1", "--confirm", str(sign("1.1.0")))
    assert re.findall(r"version='(\S+?)'", smpmgr("image", "state-read")) == ["1.1.0", "1.0.0"]
    smpmgr("image", "upload", str(sign("1.0.9")), fails=True)


async def test_smpclient_goes_back_after_a_trial(port, sign):
    async with SMPClient(SMPSerialTransport(), str(port)) as client:
        await upload(client, sign("1.0.0"))
        await client.request(ResetWrite())
        await upload(client, sign("2.0.0"))
        spare = (await client.request(ImageStatesRead())).images[1]
        await client.request(ImageStatesWrite(hash=spare.hash))
        await client.request(ResetWrite())
        assert await listed(client) == [(0, "2.0.0", False), (1, "1.0.0", True)]
        await client.request(ResetWrite())
        assert await listed(client) == [(0, "1.0.0", True), (1, "2.0.0", False)]
