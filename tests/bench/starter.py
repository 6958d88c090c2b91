"""A program that starts stations quickly: it has imported all of them before, and forks.

``python tests/bench/starter.py`` reads one JSON object a line: ``arguments`` of the program ``station``, files for its
``stdout`` and ``stderr``, and ``strike`` if it is to be hit somewhere (``boundaries.py``): ``boundary``, ``nth`` and
``act``. It answers ``{"pid": …}`` at once and ``{"status": …}`` at the end, negative for a signal. One station runs at
a time. A start costs 30 ms in place of half a second; nothing of a station is shared but the code.

What ``act`` may be: ``kill`` (SIGKILL, of itself), ``full`` and ``frozen`` (from then on no file takes a byte any more:
ENOSPC or EROFS; the starter has to run with ``LD_PRELOAD`` of ``stubborn_disk.c``), ``away PATH`` (a folder is moved to
``PATH.away``).
"""

import ctypes
import errno
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

sys.path[0] = str(Path(__file__).resolve().parents[1])  # so that this folder is a package, and hides no other module

import smpclient  # noqa: E402, F401

from bench.boundaries import strike  # noqa: E402
from station.cli import root, run  # noqa: E402, F401 - what a station needs, before there are stations
from station.devices import smp  # noqa: E402, F401
from station.line import flashing, slot_worker  # noqa: E402, F401
from station.ports import hotplug, link  # noqa: E402, F401

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until stdin ends."""
    _die_with_parent()
    gc.freeze()  # a child that collects would copy every page
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _be_station(order)
        print(json.dumps({"pid": pid}), flush=True)  # noqa: T201 - this is the output
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)  # noqa: T201


def _die_with_parent() -> None:
    """Let the kernel end this process when the one that started it has ended, however that was (``prctl(2)``)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _be_station(order: Mapping[str, object]) -> NoReturn:
    _die_with_parent()
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(str(order[name]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        os.dup2(file, number)
        os.close(file)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    struck = order.get("strike")
    if isinstance(struck, dict):
        strike(struck["boundary"], _act(struck["act"]), nth=struck.get("nth", 1))
    arguments = order["arguments"]
    assert isinstance(arguments, list)
    sys.argv = ["station", *arguments]
    try:
        root.root.main()
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else 0)


def _act(name: str) -> Callable[[], None]:
    verb, _, path = name.partition(" ")
    match verb:
        case "kill":
            return lambda: os.kill(os.getpid(), signal.SIGKILL)
        case "full":
            return lambda: _refuse(errno.ENOSPC)
        case "frozen":
            return lambda: _refuse(errno.EROFS)
        case "away":
            return lambda: os.rename(path, f"{path}.away")  # noqa: PTH104 - the folder may be gone already: an error
        case _:
            raise ValueError(f"there is no act {name!r}")


def _refuse(number: int) -> None:
    """Tell the library that stands before the disk; without it there is no such symbol."""
    ctypes.CDLL(None).stubborn_disk(number)


if __name__ == "__main__":
    main()
