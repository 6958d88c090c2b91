"""An image that MCUboot's own imgtool made and signed runs on the reference device."""

import subprocess

import pytest
from smpclient import SMPClient
from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import ResetWrite
from smpclient.transport.serial import SMPSerialTransport


@pytest.fixture
def signed(tool, tmp_path):
    key, body, image = tmp_path / "key.pem", tmp_path / "app.bin", tmp_path / "signed.bin"
    body.write_bytes(bytes(range(256)) * 100)
    imgtool = tool("imgtool")
    subprocess.run([imgtool, "keygen", "-k", key, "-t", "ecdsa-p256"], check=True, capture_output=True)
    options = [
        "--version",
        "3.1.4+159",
        "--header-size",
        "0x200",
        "--pad-header",
        "--slot-size",
        "0x40000",
        "--align",
        "8",
    ]
    sign = [imgtool, "sign", "--key", key, *options, "--security-counter", "7", body, image]
    subprocess.run(sign, check=True, capture_output=True)
    return image


async def test_an_image_signed_by_imgtool_runs(tty, signed):
    async with SMPClient(SMPSerialTransport(), str(tty)) as client:
        async for _ in client.upload(signed.read_bytes()):
            pass
        uploaded = (await client.request(ImageStatesRead())).images[1]
        await client.request(ImageStatesWrite(hash=uploaded.hash, confirm=True))
        await client.request(ResetWrite())
        running = (await client.request(ImageStatesRead())).images[0]
    assert (running.version, running.hash) == ("3.1.4.159", uploaded.hash)
