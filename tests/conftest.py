"""What all tests are spared: waiting for the disk, and compiling again and again.

Tests commit thousands of times, and each commit waits until the disk has it: a third of the suite's time, on the disk
where that was measured. Nothing that a test proves is about the disk itself: tests kill processes, never the machine,
and a disk that is full or broken is made by a library before it (``bench/stubborn_disk.c``). So they write to memory if
there is room. Who wants the disk says so: ``--basetemp``, or ``PYTEST_DEBUG_TEMPROOT``, which is pytest's own.

Tests start the programs hundreds of times. Where Python is told to keep no bytecode (images of containers do that),
each start would compile the project anew: then it is kept in ``build``, for the tests only.
"""

import os
import shutil
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a folder there that is only ours
TEMPROOT = "PYTEST_DEBUG_TEMPROOT"
ROOM = 4 << 30
"""Bytes; the suite leaves less than a tenth of that at a time, and a station warns of a fourth."""
BYTECODE = Path(__file__).parents[1] / "build" / "bytecode"


def pytest_configure() -> None:
    """Choose, before the first folder is made; xdist's workers and all children inherit it."""
    if TEMPROOT not in os.environ and _has_room():
        os.environ[TEMPROOT] = str(MEMORY)
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ.setdefault("PYTHONPYCACHEPREFIX", str(BYTECODE))


def _has_room() -> bool:
    """Tell whether there is memory to write to, from which programs may be started (containers often forbid it)."""
    try:
        return not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC and shutil.disk_usage(MEMORY).free >= ROOM
    except OSError:
        return False


@pytest.fixture
def quick_compiler(monkeypatch):
    """Let boards' programs be built without being optimised, in less than half of the time; its flags come last."""
    monkeypatch.setenv("CFLAGS", "-O0")
