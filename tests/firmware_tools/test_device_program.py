"""The device as a Linux program: its tty, its options, what it costs."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from base64 import b64decode
from contextlib import suppress
from pathlib import Path

import pytest
import serial
from smp import packet
from smpclient.requests.os_management import EchoWrite

from firmware_tools.provisioning_group import CsrWrite, IdentRead, ProveWrite

PATIENCE = 10


def command(program, storage, *options):
    return [program, "--storage", storage, "--hardware-id", "HW-0001", *options]


@pytest.fixture
def on_pty(plain, tmp_path):
    """A device with ``--pty``: its process, and the link to its tty, which is there already."""
    link = tmp_path / "tty"
    process = subprocess.Popen(
        command(plain, tmp_path / "board", "--pty", link), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    yield process, link
    process.kill()
    process.communicate()


def echo(port, text):
    port.write(b"".join(packet.encode(EchoWrite(d=text).BYTES)))
    while not (line := port.readline()).startswith(packet.START_DELIMITER):
        assert line
    return text.encode() in b64decode(line[2:])


def test_the_link_leads_to_a_tty_that_talks(on_pty):
    with serial.Serial(str(on_pty[1]), 115200, timeout=PATIENCE) as port:
        assert echo(port, "hello")


def test_the_tty_can_be_opened_again_and_again(on_pty):
    for turn in range(20):
        with serial.Serial(str(on_pty[1]), 115200, timeout=PATIENCE) as port:
            assert echo(port, f"turn {turn}")


def test_the_boot_log_waits_for_the_first_who_opens_the_tty(on_pty):
    descriptor = os.open(on_pty[1], os.O_RDWR | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb", buffering=0) as tty:
        assert tty.readline() == b"*** reference-device 1.0.0 booted ***\r\n"


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_the_link_goes_with_the_device(on_pty, signal_number):
    process, link = on_pty
    process.send_signal(signal_number)
    assert process.wait(PATIENCE) == 0
    assert not link.is_symlink()


def test_a_link_that_another_board_took_stays(on_pty, plain, tmp_path):
    process, link = on_pty
    other = command(plain, tmp_path / "other board", "--pty", link)
    with subprocess.Popen(other, stdout=subprocess.PIPE, text=True) as successor:
        successor.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        try:
            with serial.Serial(str(link), 115200, timeout=PATIENCE) as port:
                assert echo(port, "hello")
        finally:
            successor.kill()


def test_a_stale_link_is_replaced_and_a_file_is_not(plain, tmp_path):
    link = tmp_path / "tty"
    link.write_text("precious")
    done = subprocess.run(
        command(plain, tmp_path / "board", "--pty", link), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (1, "reference-device: the name of the link is taken by a file\n")
    assert link.read_text() == "precious"


def test_a_pty_master_without_anybody_at_its_tty_costs_no_cpu(plain, tmp_path):
    master, tty = pty.openpty()
    os.close(tty)
    process = subprocess.Popen(command(plain, tmp_path / "board", "--fd", str(master)), pass_fds=[master])
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
            pytest.fail("the device ended")
        nanoseconds = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0])
        assert nanoseconds < 25_000_000
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_nobody_reading_does_not_stop_the_device(plain, tmp_path):
    """Three answers of 2 KB are more than the tty holds; the device must drop what nobody takes, as a UART does."""
    master, tty = pty.openpty()
    process = subprocess.Popen(command(plain, tmp_path / "board", "--fd", str(master)), pass_fds=[master])
    try:
        request = b"".join(packet.encode(EchoWrite(d="x" * 1900).BYTES))
        with serial.Serial(os.ttyname(tty), timeout=PATIENCE, write_timeout=PATIENCE) as port:
            for _ in range(3):
                port.write(request)
            port.write(b"\n")
            while echo(port, "alive") is False:
                pass
    finally:
        process.kill()
        process.wait()
        os.close(tty)
        os.close(master)


def test_the_other_end_of_the_socket_gone_is_the_end(power_on, plain):
    board = power_on(plain)
    board.ask(IdentRead())
    assert board.join() == 0


def test_a_device_may_die_with_its_parent(plain, tmp_path):
    script = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    arguments = command(plain, tmp_path / "board", "--pty", tmp_path / "tty", "--die-with-parent")
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    with suppress(ProcessLookupError):  # gone already
        device = os.pidfd_open(int(done.stdout))
        try:
            assert select.select([device], [], [], PATIENCE)[0]
        finally:
            os.close(device)


def test_the_trace_has_a_line_for_each_request(power_on, plain, tmp_path):
    board = power_on(plain, "--trace", str(tmp_path / "trace"))
    board.ask(CsrWrite(off=0))
    board.ask(ProveWrite(nonce=b"short"))
    board.unplug()
    made, refused = (json.loads(line) for line in (tmp_path / "trace").read_text().splitlines())
    assert (made["group"], made["id"], made["op"], made["rc"]) == (80, 1, 2, 0)
    assert (made["in"], refused["rc"]) == (len(b"".join(packet.encode(CsrWrite(off=0).BYTES))), 2)
    assert made["us"] > 0
    assert made["out"] > 300


def test_a_quiet_device_sends_no_log(power_on, plain):
    board = power_on(plain, "--quiet")
    board.ask(IdentRead())
    assert board.noise == b""


def test_the_model_is_told(power_on, plain):
    assert power_on(plain, "--model", "sensor 7").ask(IdentRead()).model == "sensor 7"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--hardware-id", "a b"], "--hardware-id takes 1 to 64 characters from [0-9A-Za-z._:-]"),
        (["--hardware-id", ""], "--hardware-id takes 1 to 64"),
        (["--hardware-id", "x" * 65], "--hardware-id takes 1 to 64"),
        (["--model", "\x1b[2J"], "--model takes 1 to 32 characters of printable ASCII"),
        (["--fd", "three"], "--fd takes a number"),
        (["--line", "7"], "--line takes a number from 8 to 4096, not '7'"),
        ([], "Usage: reference-device"),
        (["--fd", "0", "--pty", "x"], "Usage: reference-device"),
    ],
)
def test_a_wrong_option_is_named(plain, tmp_path, options, complaint):
    arguments = command(plain, tmp_path / "board", *options)
    done = subprocess.run(arguments, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=10, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert not (tmp_path / "board").exists()


def test_help_shows_an_example(plain):
    done = subprocess.run([plain, "--help"], capture_output=True, text=True, check=True)
    assert "Example: reference-device --storage" in done.stdout


def test_a_storage_that_can_not_be_used_is_named(plain, tmp_path):
    (tmp_path / "file").touch()
    arguments = command(plain, tmp_path / "file" / "board", "--fd", "0")
    done = subprocess.run(arguments, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=10, check=False)
    assert (done.returncode, done.stderr) == (1, f"reference-device: {tmp_path}/file/board: Not a directory\n")
