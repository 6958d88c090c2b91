"""``python -m firmware_tools line``, as an engineer or a benchmark starts it."""

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from firmware_tools.build import build_device
from firmware_tools.errors import ToolMissing

PATIENCE = 10


@pytest.fixture(scope="session")
def program(build_folder):
    try:
        return build_device(build_folder)
    except ToolMissing as missing:
        pytest.skip(str(missing))


class Running:
    """The program at work, its stdin and stdout in our hands."""

    def __init__(self, process):
        self.process = process
        self.boards = []
        while (line := self.hear())["event"] != "ready":
            self.boards.append(line)

    def hear(self):
        return json.loads(self.process.stdout.readline())

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.hear()

    def children(self):
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]


@contextmanager
def starting(program, folder):
    with ExitStack() as stack:

        def start(*options):
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "firmware_tools", "line", folder, "--program", program, *options],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return Running(process)

        yield start


@pytest.fixture
def start(program, tmp_path):
    with starting(program, tmp_path / "line") as start:
        yield start


@pytest.fixture(scope="module")
def one_board(program, tmp_path_factory):
    """A line that no test harms."""
    with starting(program, tmp_path_factory.mktemp("one-board") / "line") as start:
        yield start("--boards", "1")


def test_each_port_is_told_before_ready(start):
    line = start("--boards", "3")
    assert [board["slot"] for board in line.boards] == ["slot1", "slot2", "slot3"]
    assert {Path(board["port"]).readlink().parent for board in line.boards} == {Path("/dev/pts")}


def test_the_line_ends_well_when_stdin_ends(start):
    line = start("--boards", "1")
    line.process.stdin.close()
    assert line.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_line_and_takes_the_ports_away(start, how):
    line = start("--boards", "1")
    line.process.send_signal(how)
    line.process.wait(PATIENCE)
    assert not os.path.lexists(line.boards[0]["port"])


def test_boards_die_with_a_line_that_is_killed(start):
    line = start("--boards", "4")
    boards = [os.pidfd_open(pid) for pid in line.children()]
    line.process.kill()
    dead = [bool(select.select([board], [], [], PATIENCE)[0]) for board in boards]
    for board in boards:
        os.close(board)
    assert dead == [True] * 4


def test_a_killed_line_can_be_started_again_at_once(start):
    first = start("--boards", "2")
    first.process.kill()
    second = start("--boards", "2")
    assert second.boards == first.boards


def test_a_board_can_be_unplugged_and_plugged(start):
    line = start("--boards", "2")
    assert line.tell("unplug slot1")["event"] == "done"
    assert not os.path.lexists(line.boards[0]["port"])
    assert line.tell("plug slot1")["hardware_id"] == line.boards[0]["hardware_id"]
    assert os.path.lexists(line.boards[0]["port"])


def test_power_can_be_taken_and_given(start):
    line = start("--boards", "1")
    line.tell("off slot1")
    assert line.tell("stats")["boards"][0]["running"] is False
    line.tell("on slot1")
    assert line.tell("stats")["boards"][0]["running"] is True


def test_a_board_can_be_cloned_and_told_to_die(start):
    line = start("--boards", "2")
    for command in ("clone slot1 slot2", "twin slot1 slot2", "die slot1 1", "die slot1 3 16"):
        assert line.tell(command)["event"] == "done"


@pytest.mark.parametrize("verb", ["blank", "ship", "swap"])
def test_another_board_can_take_the_slot(start, verb):
    line = start("--boards", "1")
    assert line.tell(f"{verb} slot1")["hardware_id"] != line.boards[0]["hardware_id"]


def test_stats_count_the_bytes_of_a_wire(start):
    line = start("--boards", "1", "--baud", "115200")
    assert line.tell("stats")["boards"][0]["wire"]["to_device"]["sent"] == 0


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("fly slot1", "line.command"),
        ("off slot9", "line.no_slot"),
        ("off", "line.command"),
        ("clone slot1", "line.command"),
        ("clone slot1 slot1", "line.command"),
        ("die slot1 0", "line.command"),
        ("die slot1 soon", "line.command"),
    ],
)
def test_a_wrong_command_is_answered_and_ends_nothing(one_board, command, code):
    assert one_board.tell(command)["code"] == code
    assert one_board.tell("stats")["event"] == "stats"


@pytest.mark.usefixtures("quick_compiler")
def test_the_program_is_built_if_none_is_given(program, tmp_path):
    del program  # it shows that there is a compiler
    done = subprocess.run(
        [sys.executable, "-m", "firmware_tools", "line", tmp_path / "line", "--boards", "1"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == {"event": "ready", "boards": 1}


def test_a_missing_program_is_one_line_on_stderr(tmp_path):
    failed = subprocess.run(
        [sys.executable, "-m", "firmware_tools", "line", tmp_path / "line", "--program", tmp_path / "nothing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1
    assert "nothing does not start" in failed.stderr


def test_a_rate_that_is_none_is_refused(tmp_path):
    failed = subprocess.run(
        [sys.executable, "-m", "firmware_tools", "line", tmp_path / "line", "--lose-rate", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "lose_rate is 2.0: give a probability" in failed.stderr
