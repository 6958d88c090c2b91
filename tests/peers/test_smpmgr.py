"""smpmgr, which nobody here wrote, talks to the reference device."""

import os
import re
import subprocess

import pytest


@pytest.fixture
def smpmgr(tty, tool):
    """Run smpmgr on the device's tty; return what it says."""

    def run(*arguments):
        environment = os.environ | {"COLUMNS": "250", "NO_COLOR": "1", "TERM": "dumb"}
        command = [tool("smpmgr"), "--port", tty, "--timeout", "5", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def versions(said):
    """Return (slot, version, flags) of each image that smpmgr lists."""
    images = re.findall(r"ImageState\((.*?)\)\n?(?=ImageState|splitStatus|$)", said, re.DOTALL)
    flags = ("pending", "confirmed", "active")
    return [
        (
            int(re.search(r"slot=(\d)", text)[1]),
            re.search(r"version='([^']+)'", text)[1],
            {name for name in flags if f"{name}=True" in text},
        )
        for text in images
    ]


def test_smpmgr_echoes(smpmgr):
    assert "r='hello'" in smpmgr("os", "echo", "hello").replace('"', "'")


def test_smpmgr_reads_the_parameters(smpmgr):
    said = smpmgr("--loglevel", "DEBUG", "os", "echo", "x")
    assert re.search(r"buf_size=2048\s+buf_count=4", said)


def test_smpmgr_resets(smpmgr):
    assert "ResetWriteResponse" in smpmgr("os", "reset")
    assert "r='again'" in smpmgr("os", "echo", "again")


def test_smpmgr_reads_the_state_of_a_blank_board(smpmgr):
    assert versions(smpmgr("image", "state-read")) == [(0, "1.0.0", {"confirmed", "active"})]


@pytest.mark.slow
def test_smpmgr_uploads_an_image_and_tries_it(smpmgr, image):
    path, digest = image
    smpmgr("image", "upload", str(path))
    smpmgr("image", "state-write", digest.hex())
    smpmgr("os", "reset")
    assert versions(smpmgr("image", "state-read"))[0] == (0, "2.3.4", {"active"})


def test_smpmgr_upgrades_in_one_command(smpmgr, image):
    assert "Upgrade complete" in smpmgr("upgrade", "--slot", "1", "--confirm", str(image[0]))
    assert versions(smpmgr("image", "state-read"))[0] == (0, "2.3.4", {"active", "confirmed"})


@pytest.mark.slow
def test_smpmgr_erases_an_image(smpmgr, image):
    smpmgr("image", "upload", str(image[0]))
    smpmgr("image", "erase", "1")
    assert len(versions(smpmgr("image", "state-read"))) == 1
