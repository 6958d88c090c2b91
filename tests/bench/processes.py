"""The two processes of a measurement: the station, and the virtual line with its boards.

Neither shares an interpreter with the other or with the benchmark, so that no lock of ours costs them time.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bench.figures import BenchError

PATIENCE: Final = 120.0
"""Seconds after which a process that says nothing counts as stuck."""

STATION: Final = Path(sys.executable).with_name("station")
"""The command that users type."""


@dataclass(frozen=True, slots=True)
class Event:
    """A line that ``station run --json`` wrote."""

    facts: dict[str, Any]

    @property
    def at(self) -> float:
        """When the station wrote it, in seconds."""
        return datetime.fromisoformat(self.facts["time"]).timestamp()

    @property
    def slot(self) -> str:
        """The slot, or nothing."""
        return str(self.facts.get("slot", ""))

    def says(self, state: str, step: str | None = None) -> bool:
        """Whether a slot is in this state, and step."""
        return self.facts.get("state") == state and step in (None, self.facts.get("step"))


@dataclass(frozen=True, slots=True)
class End:
    """What became of a station's process."""

    status: int
    """Exit status; the negative number of the signal that killed it."""
    events: list[Event]
    seconds: float
    """From its start to its end."""
    processor: float
    """Seconds of processor time, all threads, start included."""
    peak: int
    """Most bytes of memory it held (the kernel's VmHWM)."""
    errors: str
    """What it wrote to stderr."""

    @property
    def summary(self) -> dict[str, Any]:
        """The last line of a run that ended by itself.

        Raises:
            BenchError: there is none.
        """
        last = self.events[-1].facts if self.events else {}
        if last.get("event") != "summary":
            raise BenchError(f"the station ended with {self.status}: {self.errors.strip() or 'no reason given'}")
        return last


class StationRun:
    """``station run --json`` as a process of its own."""

    def __init__(self, config: Path, *, once: bool = False) -> None:
        """Start it."""
        command = [str(STATION), "run", "--json", *(["--once"] if once else []), "--config", str(config)]
        self._errors = (config.parent / "stderr").open("w+")
        self.began = time.monotonic()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._errors)
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._events: list[Event] = []
        self._seen = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith(b"\n"):  # a killed process may leave half a line
                self._lines.put(line)
        self._lines.put(None)

    def _next(self, seconds: float) -> Event | None:
        """Return the next event; None at the end."""
        if self._seen:
            return None
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self.send(signal.SIGKILL)
            raise BenchError(f"the station said nothing for {seconds:g} s") from None
        if line is None:
            self._seen = True
            return None
        self._events.append(Event(json.loads(line)))
        return self._events[-1]

    def wait_for(self, wanted: Callable[[Event], bool]) -> Event:
        """Read events until one is wanted.

        Raises:
            BenchError: the station ended before.
        """
        while (event := self._next(PATIENCE)) is not None:
            if wanted(event):
                return event
        end = self.end()
        raise BenchError(f"the station ended with {end.status} too early: {end.errors.strip() or 'no reason given'}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal; before ``end``, so that the process number is still its own."""
        os.kill(self._process.pid, number)  # Popen's own way may reap the process, and its memory's peak with it

    def end(self) -> End:
        """Wait until it has ended by itself."""
        while self._next(PATIENCE) is not None:
            pass
        _, status, usage = os.wait4(self._process.pid, 0)
        seconds = time.monotonic() - self.began
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.seek(0)
        errors = self._errors.read()
        self._errors.close()
        return End(
            status=self._process.returncode,
            events=self._events,
            seconds=seconds,
            processor=usage.ru_utime + usage.ru_stime,
            peak=usage.ru_maxrss * 1024,
            errors=errors,
        )


@dataclass(frozen=True, slots=True)
class Board:
    """One virtual board."""

    slot: str
    port: Path
    hardware_id: str
    storage: Path

    @property
    def trace(self) -> list[dict[str, int]]:
        """What it was asked: group, id, op, bytes in and out on the wire, microseconds of computing, rc."""
        return [json.loads(line) for line in (self.storage / "trace.jsonl").read_text().splitlines()]


@contextmanager
def board_line(
    program: Path,
    folder: Path,
    boards: int,
    *,
    baud: int | None = None,
    trace: bool = False,
    options: Sequence[str] = (),
) -> Iterator[list[Board]]:
    """Run virtual boards in a process of their own, all plugged in and powered.

    Args:
        program: the device.
        folder: of the line.
        boards: how many.
        baud: paces each wire; None: no wire, bytes take no time.
        trace: let each board write what it was asked.
        options: more of them, such as ``--persona``.
    """
    command = [sys.executable, "-m", "firmware_tools", "line", str(folder), "--program", str(program)]
    command += ["--boards", str(boards)]
    command += (["--baud", str(baud)] if baud else []) + (["--trace"] if trace else [])
    command += options
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as line:
        assert line.stdin is not None
        assert line.stdout is not None
        try:
            plugged = []
            for text in line.stdout:
                facts = json.loads(text)
                if facts["event"] == "ready":
                    break
                where = Path(facts["port"]), str(facts["hardware_id"]), Path(facts["storage"])
                plugged.append(Board(str(facts["slot"]), *where))
            else:
                raise BenchError("the virtual line did not start; its reason stands above")
            yield plugged
        finally:
            line.stdin.close()
            line.wait(PATIENCE)
