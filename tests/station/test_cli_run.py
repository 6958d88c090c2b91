"""``station run``, ``station unit resume`` and ``station demo``, as programs, with compiled boards."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509

from station.config import load
from station.config.folder import make_line
from station.line.demo import CA_NAME, ORDER

BUILD = Path(__file__).parents[2] / "build"
STATION = [sys.executable, "-c", "from station.cli import main; main()"]

TERMINAL = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24", "NO_COLOR": "1"}

pytestmark = pytest.mark.slow


def station(*arguments, **options):
    return subprocess.run(
        [*STATION, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60, **options
    )


@contextmanager
def started(*arguments, **options):
    """Start a command; end it if the test does not."""
    process = subprocess.Popen(
        [*STATION, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def line(tmp_path):
    """Make a line with two blank virtual boards."""
    path = make_line(tmp_path / "line", ca_name="DEVELOPMENT", boards=2)
    load(path).rehearsal.directory.mkdir()
    (load(path).rehearsal.directory / "build").symlink_to(BUILD, target_is_directory=True)
    return path


def events(output):
    return [json.loads(line) for line in output.splitlines()]


def test_once_provisions_each_board_and_ends(line):
    done = station("run", "--once", "--json", "--config", line)

    told = events(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert {event["slot"] for event in told if event.get("state") == "passed"} == {"1", "2"}
    assert (told[-1]["event"], told[-1]["passed"], told[-1]["failed"]) == ("summary", 2, 0)


def test_a_second_run_finds_the_boards_done_before(line):
    station("run", "--once", "--config", line)

    done = station("run", "--once", "--config", line)

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "0 passed, 0 failed, 2 done before")


def test_a_board_that_fails_is_exit_1(line):
    text = line.read_text()
    line.write_text(text.replace('model = "reference-device"', 'model = "reference-device"\nfirmware_version = "9.9"'))

    done = station("run", "--once", "--json", "--config", line)

    told = events(done.stdout)
    assert (done.returncode, told[-1]["failed"]) == (1, 2)
    assert all(event["code"] and event["sentence"] for event in told if event.get("state") == "failed")


@pytest.mark.parametrize(
    ("number", "exit_code", "said"),
    [(signal.SIGINT, 130, "station: interrupted\n"), (signal.SIGTERM, 0, ""), (signal.SIGHUP, 0, "")],
)
def test_a_signal_ends_a_run_well(line, number, exit_code, said):
    with started("run", "--json", "--config", line) as process:
        ends = 0
        for event in map(json.loads, process.stdout):
            ends += event.get("state") == "passed"
            if ends == 2:
                break
        process.send_signal(number)
        rest, stderr = process.communicate(timeout=30)

    assert (process.returncode, stderr) == (exit_code, said)
    assert events(rest)[-1]["passed"] == 2


def test_a_terminal_that_is_closed_ends_a_run_well(line):
    master, slave = pty.openpty()
    command = [*STATION, "run", "--config", str(line)]
    with subprocess.Popen(
        command, stdout=slave, stderr=subprocess.PIPE, text=True, env=TERMINAL, start_new_session=True
    ) as process:
        os.close(slave)
        with os.fdopen(master, "rb", buffering=0) as terminal:
            read_until(terminal, b"passed 2")
        process.send_signal(signal.SIGHUP)
        try:
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()

    assert (process.returncode, said) == (0, "")


def test_a_station_under_nohup_stays_when_its_terminal_goes(line):
    with started(
        "run", "--json", "--config", line, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        assert any(json.loads(event).get("state") == "passed" for event in process.stdout)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)

    assert process.returncode == 0


def test_an_issuer_that_is_not_valid_yet_is_one_line_at_the_start(line):
    issuer = load(line).ca.certificate
    begin = x509.load_pem_x509_certificate(issuer.read_bytes()).not_valid_before_utc
    early = "import sys, datetime as d; from station.line import daemon; from station.cli import main\n"
    early += (
        "class Clock(d.datetime):\n    @classmethod\n    def now(cls, zone=None): return cls(2001, 1, 1, tzinfo=zone)\n"
    )
    early += "daemon.datetime = Clock; main()"
    done = subprocess.run(
        [sys.executable, "-c", early, "run", "--once", "--config", line],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"is valid from {begin:%Y-%m-%d %H:%M} UTC on only; set this machine's clock" in done.stderr
    assert not station("unit", "list", "--config", line, "--json").stdout


def test_a_reader_that_goes_away_does_not_disturb_the_boards(line):
    with started("run", "--once", "--config", line) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0

    units = station("unit", "list", "--json", "--config", line).stdout
    assert [event["state"] for event in events(units)] == ["passed", "passed"]


def test_a_terminal_gets_a_table(line):
    master, slave = pty.openpty()
    with (
        os.fdopen(master, "rb", buffering=0) as terminal,
        subprocess.Popen([*STATION, "run", "--once", "--config", str(line)], stdout=slave, env=TERMINAL) as process,
    ):
        os.close(slave)
        screen = b"".join(pieces(terminal)).decode()

    assert process.returncode == 0
    assert "REHEARSAL" in screen
    assert screen.count("✔ passed") >= 2
    assert "2 passed, 0 failed, " in screen.rstrip().splitlines()[-1]


def test_a_pin_is_asked_for_before_the_table_is_drawn(line):
    text = line.read_text()
    pin = line.parent / "tokens" / "pins" / "intermediate"
    line.write_text(text.replace(f"file:{pin}", "prompt:"))
    master, slave = pty.openpty()
    command = [*STATION, "run", "--once", "--config", str(line)]
    with (
        os.fdopen(master, "r+b", buffering=0) as terminal,
        subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=TERMINAL
        ) as process,
    ):
        os.close(slave)
        asked = read_until(terminal, b"PIN of intermediate: ")
        terminal.write(pin.read_bytes())
        shown = b"".join(pieces(terminal)).decode()

    assert process.returncode == 0
    assert b"Slot" not in asked
    assert shown.count("✔ passed") >= 2
    assert pin.read_text().strip() not in shown


def test_ctrl_c_at_the_question_for_the_pin_ends_at_once(line):
    text = line.read_text()
    line.write_text(text.replace(f"file:{line.parent / 'tokens' / 'pins' / 'intermediate'}", "prompt:"))
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    command = [*STATION, "run", "--once", "--config", str(line)]
    with (
        os.fdopen(master, "r+b", buffering=0) as terminal,
        subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True) as process,
    ):
        read_until(terminal, b"PIN of intermediate: ")
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=20) == 130
        finally:
            process.kill()
        assert termios.tcgetattr(slave) == before  # what is typed shows again
        os.close(slave)
        said = b"".join(pieces(terminal)).decode()

    assert said.split() == ["station:", "interrupted"]


def read_until(terminal, end):
    shown = b""
    while not shown.endswith(end):
        shown += terminal.read(1)
    return shown


def pieces(terminal):
    """Read what a terminal shows until the other end is closed."""
    with suppress(OSError):  # EIO: the end of a pty
        while piece := terminal.read(65536):
            yield piece


def test_resume_serves_one_slot(line):
    done = station("unit", "resume", "2", "--json", "--config", line)

    assert done.returncode == 0
    assert {event["slot"] for event in events(done.stdout)[:-1]} == {"2"}


def test_resume_of_an_unknown_slot_is_one_line(line):
    done = station("unit", "resume", "12", "--config", line)

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("station: there is no slot and no unit '12'; ")


def test_resume_beside_a_running_station_is_refused(line):
    with started("run", "--json", "--config", line) as process:
        process.stdout.readline()
        done = station("unit", "resume", "1", "--config", line)

    assert done.returncode == 1
    assert (f"process {process.pid}" in done.stderr, done.stderr.count("\n")) == (True, 1)


def test_a_wrong_pin_is_one_line(line):
    (line.parent / "tokens" / "pins" / "intermediate").write_text("0000000000\n")

    done = station("run", "--once", "--config", line)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "wrong PIN" in done.stderr
    assert "0000000000" not in done.stderr


@pytest.mark.usefixtures("quick_compiler")
def test_demo_passes_from_nothing(tmp_path):
    done = station("demo", "--boards", "2", "--dir", tmp_path / "demo")

    assert done.returncode == 0
    assert "a CA named 'REHEARSAL - not for production'" in done.stderr
    assert "2 passed, 0 failed" in done.stdout
    assert f" doctor --config {tmp_path}/demo/station.toml" in done.stdout
    assert " unit show SN00000" in done.stdout


@pytest.mark.usefixtures("quick_compiler")
def test_a_demo_of_modems_passes_and_stays_one_of_modems(tmp_path):
    done = station("demo", "--boards", "2", "--persona", "nrf91", "--baud", "0", "--dir", tmp_path / "demo")

    assert done.returncode == 0, done.stderr
    assert "2 passed, 0 failed" in done.stdout

    other = station("demo", "--boards", "2", "--persona", "zephyr-shell", "--dir", tmp_path / "demo")

    assert (other.returncode, other.stderr.count("\n")) == (1, 1)
    assert "a demo with boards 'nrf91'" in other.stderr


@pytest.mark.usefixtures("quick_compiler")
def test_the_hints_of_a_demo_without_a_good_board_name_none(tmp_path):
    make_line(tmp_path / "demo", ca_name=CA_NAME, order=ORDER, boards=1)
    toml = tmp_path / "demo" / "station.toml"
    toml.write_text(toml.read_text().replace('# firmware_version = "1.0.0"', 'firmware_version = "9.9"'))

    done = station("demo", "--boards", "1", "--baud", "0", "--dir", tmp_path / "demo")

    assert (done.returncode, "unit show" in done.stdout, " unit list " in done.stdout) == (1, False, True)


@pytest.mark.parametrize("baud", ["1", "1199", "-5", "12000001", "fast"])
def test_a_baud_that_no_uart_has_is_refused(tmp_path, baud):
    done = station("demo", "--baud", baud, "--dir", tmp_path / "demo")

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "demo").exists()


def test_demo_refuses_a_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.txt").touch()

    done = station("demo", "--dir", tmp_path)

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
