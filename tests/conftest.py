"""Where tests write: into memory, if there is room.

Tests commit thousands of times, and each commit waits until the disk has it: a third of the suite's time, on the disk
where that was measured. Nothing that a test proves is about the disk itself: tests kill processes, never the machine,
and a disk that is full or broken is made by a library before it (``bench/stubborn_disk.c``). Who wants the disk says
so: ``--basetemp``, or ``PYTEST_DEBUG_TEMPROOT``, which is pytest's own.
"""

import os
import shutil
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a folder there that is only ours
TEMPROOT = "PYTEST_DEBUG_TEMPROOT"
ROOM = 4 << 30
"""Bytes; the suite leaves less than a tenth of that at a time, and a station warns when less than this is free."""


def pytest_configure() -> None:
    """Choose, before the first folder is made; xdist's workers get theirs from the process that starts them."""
    if TEMPROOT not in os.environ and _has_room():
        os.environ[TEMPROOT] = str(MEMORY)


def _has_room() -> bool:
    """Tell whether there is memory to write to, from which programs may be started (containers often forbid it)."""
    try:
        return not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC and shutil.disk_usage(MEMORY).free >= ROOM
    except OSError:
        return False
