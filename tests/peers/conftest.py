"""The reference device on a pty, for programs that others wrote."""

import struct
import subprocess
import sys
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

from firmware_tools.build import build_device

BUILD = Path(__file__).parents[2] / "build"


@pytest.fixture(scope="session")
def device():
    return build_device(BUILD)


@pytest.fixture
def start(tmp_path):
    """Start a device; ``start(program, *options)`` returns its tty. One a test."""
    with ExitStack() as stack:

        def run(program, *options):
            link = tmp_path / "tty"
            command = [program, "--storage", tmp_path / "board", "--hardware-id", "HW-0001", "--pty", link, *options]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            process.stdout.readline()  # the link is there
            return link

        yield run


@pytest.fixture
def tty(device, start):
    """A running device's tty."""
    return start(device)


@pytest.fixture(scope="session")
def tool():
    """Where a program of the test environment is."""
    return lambda name: Path(sys.executable).parent / name


@pytest.fixture
def image(tmp_path):
    """An unsigned image of version 2.3.4, and its hash."""
    header = struct.pack("<IIHHIIBBHII", 0x96F3B83D, 0, 32, 0, 20000, 0, 2, 3, 4, 0, 0)
    body = bytes(range(250)) * 80
    digest = sha256(header + body).digest()
    path = tmp_path / "image.bin"
    path.write_bytes(header + body + struct.pack("<HHHH", 0x6907, 40, 0x10, 32) + digest)
    return path, digest
