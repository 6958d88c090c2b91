"""The station dies or is stopped at each step: plugging in again ends with one recorded certificate a board (I5)."""

import signal

import pytest

from station.line.policy import STEPS

NAMES = [step.name for step in STEPS]


@pytest.mark.parametrize("step", NAMES)
def test_kill_9_in_a_step_ends_with_one_certificate_a_board(line, step):
    process = line.start("run", "--once", "--json")
    for event in line.events(process):
        if event.get("step") == step:
            break
    line.finish(process, signal.SIGKILL)

    again = line.station("run", "--once")
    assert again.returncode == 0, again.stdout + again.stderr
    line.judge()


@pytest.mark.parametrize("step", NAMES)
def test_ctrl_c_in_a_step_ends_well(line, step):
    process = line.start("run", "--json")
    for event in line.events(process):
        if event.get("step") == step:
            break
    status, stderr = line.finish(process, signal.SIGINT)
    assert status == 130
    assert len(stderr.splitlines()) <= 1

    again = line.station("run", "--once")
    assert again.returncode == 0, again.stdout + again.stderr
    line.judge()


def test_sigterm_lets_the_boards_in_work_finish(line):
    process = line.start("run", "--json")
    events = []
    for event in line.events(process):
        events.append(event)
        if event.get("step") == "issue":
            process.send_signal(signal.SIGTERM)
            break
    events += line.events(process)
    assert process.wait(timeout=60) == 0
    process.communicate()
    begun = {event["slot"] for event in events if event.get("state") == "running"}
    assert begun
    assert {event["slot"] for event in events if event.get("state") == "passed"} == begun
    assert events[-1]["event"] == "summary"
    assert events[-1]["stopped"] == 0


def test_a_second_ctrl_c_cuts_off_and_loses_nothing(line):
    with line.virtual_line() as boards:
        for board in boards.boards:
            board.power_off()  # their ports are there and nobody answers: identify runs for seconds
        rehearsal = line.config.read_text()
        line.name_slots(boards.ports)
        process = line.start("run", "--json")
        for event in line.events(process):
            if event.get("state") == "running":
                break
        process.send_signal(signal.SIGINT)
        status, stderr = line.finish(process, signal.SIGINT)
    assert status == 130
    assert len(stderr.splitlines()) <= 1
    line.config.write_text(rehearsal)
    again = line.station("run", "--once")
    assert again.returncode == 0, again.stdout + again.stderr
    line.judge()


def test_a_token_that_a_killed_login_left_empty_is_mended(line):
    """SoftHSM writes its token anew at every login; ``kill -9`` in between leaves it empty (``softhsm.spare``)."""
    for path in (line.folder / "tokens" / "tokens").glob("*/token.object"):
        path.write_bytes(b"")
    done = line.station("run", "--once")
    assert done.returncode == 0, done.stdout + done.stderr
    line.judge()
