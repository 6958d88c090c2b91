import asyncio
import os
import sys
from pathlib import Path

import pytest

from firmware_tools.errors import FlashError
from firmware_tools.flashers import child
from firmware_tools.flashers.child import Tool, in_memory, memory_path, run_child

QUICK = 0.5


def python(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


def anything(_line):
    return True


def nothing(_line):
    return False


def is_dead(pid):
    """Whether a process is gone, or waits only for whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def until_dead(pid):
    async with asyncio.timeout(5):
        while not is_dead(pid):  # noqa: ASYNC110  a process that is no child of ours tells nobody
            await asyncio.sleep(0.01)


HANGS = """
import subprocess, sys, time
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("Connecting...", inner.pid, flush=True)
time.sleep(600)
"""


async def test_a_child_that_hangs_is_killed_with_its_children():
    lines = []
    with pytest.raises(FlashError, match=r"tool showed no progress for 0\.5 s and was killed.*Connecting") as failure:
        await run_child("tool", python(HANGS), lambda line: lines.append(line) or True, patience=QUICK)
    assert failure.value.code == "flash.tool_hangs"
    await until_dead(int(lines[0].split()[1]))


async def test_a_child_that_talks_and_does_nothing_is_killed():
    code = "import time\nwhile True: print('still here', flush=True); time.sleep(0.01)"
    with pytest.raises(FlashError, match="showed no progress") as failure:
        await run_child("tool", python(code), nothing, patience=QUICK)
    assert failure.value.code == "flash.tool_hangs"


async def test_rubbish_without_end_is_not_read_for_long():
    code = "import os\nwhile True: os.write(1, os.urandom(65536))"
    with pytest.raises(FlashError, match="4 MB that mean nothing") as failure:
        await run_child("tool", python(code), nothing, patience=30)
    assert failure.value.code == "flash.tool_failed"


async def test_a_line_without_end_takes_no_memory():
    code = "import os\nfor _ in range(48): os.write(1, b'x' * 65536)"
    ended = await run_child("tool", python(code), nothing, patience=30)
    assert ended.status == 0
    assert sum(map(len, ended.lines)) < 5000


async def test_a_child_that_works_may_take_longer_than_its_patience():
    code = "import time\nfor i in range(8): print(i, flush=True); time.sleep(0.1)"
    ended = await run_child("tool", python(code), anything, patience=QUICK)
    assert ended.lines == tuple("01234567")


async def test_a_cancelled_child_is_dead():
    started = asyncio.Event()
    lines = []

    def on_line(line):
        lines.append(line)
        started.set()
        return True

    task = asyncio.create_task(run_child("tool", python(HANGS), on_line, patience=60))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_dead(int(lines[0].split()[1]))


async def test_control_characters_do_not_come_through():
    code = r"print('\x1b[31mred\x1b[0m\x07\rbell')"
    ended = await run_child("tool", python(code), anything)
    assert ended.lines == ("red", "bell")


async def test_a_secret_of_our_environment_stays_with_us(monkeypatch):
    monkeypatch.setenv("STATION_PIN", "123456")
    code = "import os; print('STATION_PIN' in os.environ, 'PATH' in os.environ)"
    assert (await run_child("tool", python(code), anything)).lines == ("False True",)


async def test_a_child_reads_images_out_of_memory():
    code = "import sys; print(*(open(path, 'rb').read().hex() for path in sys.argv[1:]))"
    with in_memory([b"\x01\x02", b"\x03"]) as fds:
        ended = await run_child("tool", python(code, *map(memory_path, fds)), anything, fds=fds)
    assert ended.lines == ("0102 03",)


def test_an_image_in_memory_can_not_be_changed():
    with in_memory([b"image"]) as fds, pytest.raises(PermissionError):
        os.pwrite(fds[0], b"x", 0)


def test_a_tool_that_is_not_installed_is_one_clear_line():
    with pytest.raises(FlashError) as failure:
        Tool("no-such-tool", "no_such_tool", "esp").command()
    assert failure.value.code == "flash.tool_missing"
    assert str(failure.value) == "no-such-tool is not installed: run pip install 'provisioning-station[esp]'"


async def test_a_program_that_can_not_be_started_is_one_clear_line(tmp_path):
    with pytest.raises(FlashError, match="tool can't be started: No such file or directory") as failure:
        await run_child("tool", [str(tmp_path / "missing")], anything)
    assert failure.value.code == "flash.tool_missing"


# What a child leaves behind

DAEMON = """
import asyncio, sys
from firmware_tools.flashers.child import run_child

def told(line):
    print(line, flush=True)
    return True

asyncio.run(run_child("tool", [sys.executable, "-c", sys.argv[1]], told))
"""


async def test_a_child_and_its_children_die_with_a_daemon_that_is_killed():
    daemon = await asyncio.create_subprocess_exec(*python(DAEMON, HANGS), stdout=asyncio.subprocess.PIPE)
    inner = int((await daemon.stdout.readline()).split()[1])
    tool = parent_of(inner)
    daemon.kill()
    await daemon.wait()
    await until_dead(tool)
    await until_dead(inner)


LEAVES = """
import subprocess, sys
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("left", inner.pid, flush=True)
sys.exit(3)
"""


async def test_what_a_child_leaves_behind_is_killed_and_not_waited_for():
    ended = await run_child("tool", python(LEAVES), anything, patience=30)
    assert ended.status == 3
    await until_dead(int(ended.lines[0].split()[1]))


async def test_a_child_that_is_killed_by_a_signal_is_told_so():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    assert (await run_child("tool", python(code), anything)).status == -15


async def test_a_child_that_shows_progress_for_ever_is_killed():
    code = "import time\nwhile True: print('Writing at 0x0', flush=True); time.sleep(0.01)"
    with pytest.raises(FlashError, match=r"did not end in 0\.5 s and was killed") as failure:
        await run_child("tool", python(code), anything, patience=30, longest=QUICK)
    assert failure.value.code == "flash.tool_hangs"


async def test_progress_without_end_is_not_read_for_long(monkeypatch):
    monkeypatch.setattr(child, "_TALK", 1 << 20)
    code = "import os\nwhile True: os.write(1, b'Writing at 0x0\\n' * 999)"
    with pytest.raises(FlashError, match="1 MB, more than any work takes") as failure:
        await run_child("tool", python(code), anything, patience=30)
    assert failure.value.code == "flash.tool_failed"


async def test_a_child_that_crashes_dumps_no_memory():
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
    assert (await run_child("tool", python(code), anything)).lines == ("(0, 0)",)


async def test_a_child_gets_the_images_of_its_own_slot_only():
    code = "import os; print(*(fd for fd in range(99) if 'memfd' in os.path.realpath(f'/proc/self/fd/{fd}')))"
    with in_memory([b"of another unit"]), in_memory([b"of this one"]) as fds:
        (line,) = (await run_child("tool", python(code), anything, fds=fds)).lines
    assert [int(fd) for fd in line.split()] == fds


async def test_what_turns_a_terminal_over_does_not_come_through():
    code = r"print('\x1b]0;title\x07a\u202eb\u2028c\u200bd')"
    assert (await run_child("tool", python(code), anything)).lines == ("abcd",)
