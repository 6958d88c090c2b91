"""Stations that are started by ``starter.py``, seen from the outside: pid, end, and what they wrote."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

PATIENCE: Final = 120.0
"""Seconds after which a station that does not end counts as stuck."""

STARTER: Final = Path(__file__).with_name("starter.py")
DISK: Final = Path(__file__).with_name("stubborn_disk.c")


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a station."""

    status: int
    """Exit status; the negative number of the signal that killed it."""
    events: list[dict[str, Any]]
    """What ``station run --json`` wrote; a line that was cut off by its death is left out."""
    errors: str

    @property
    def killed(self) -> bool:
        """Whether it died of ``kill -9``."""
        return self.status == -signal.SIGKILL

    def codes(self) -> set[str]:
        """Return the codes of what failed."""
        return {str(event["code"]) for event in self.events if event.get("state") == "failed"}

    def last_steps(self) -> list[str]:
        """Return the step of each slot that was at work at the end."""
        last = {event["slot"]: event for event in self.events if "slot" in event}
        return [str(event["step"]) for event in last.values() if event.get("state") == "running"]


class Station:
    """A station that runs."""

    def __init__(self, starter: "Starter", pid: int, folder: Path) -> None:
        self._starter = starter
        self._folder = folder
        self._descriptor = os.pidfd_open(pid)  # the starter may reap it at any moment: a pid could be another's by then

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal; nothing happens if it has ended."""
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError:
            return

    def ends_within(self, seconds: float) -> bool:
        """Wait, at most so long, and tell whether it has ended."""
        return bool(select.select([self._descriptor], [], [], seconds)[0])

    def end(self, seconds: float = PATIENCE) -> Ended:
        """Wait until it has ended.

        Raises:
            TimeoutError: it has not, and was killed.
        """
        stuck = not self.ends_within(seconds)
        if stuck:
            self.kill()
        status = self._starter.hear("status")
        os.close(self._descriptor)
        events, errors = self.events(), (self._folder / "stderr").read_text(errors="replace")
        if stuck:
            raise TimeoutError(f"a station did not end in {seconds:g} s; last it said {events[-3:]} {errors[-300:]}")
        return Ended(status, events, errors)

    def says(self, word: bytes) -> bool:
        """Tell whether a word stands in what it has written up to now."""
        return word in (self._folder / "stdout").read_bytes()

    def events(self) -> list[dict[str, Any]]:
        """Return what it has written up to now."""
        lines = (self._folder / "stdout").read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("}\n")]


class Starter:
    """The program, for as long as it is entered."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it; with more variables, if given."""
        self._process = subprocess.Popen(
            [sys.executable, STARTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def __enter__(self) -> Self:
        """Return the starter."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(PATIENCE)

    def start(
        self, config: Path, *options: str, boundary: str | None = None, act: str = "kill", nth: int = 1
    ) -> Station:
        """Start ``station run --json``.

        Args:
            config: the configuration; what the station writes goes beside it.
            options: such as ``--once``.
            boundary: where it is to be hit, or None.
            act: with what; see ``starter.py``.
            nth: at which crossing of the boundary.
        """
        assert self._process.stdin is not None
        folder = config.parent
        order: dict[str, object] = {
            "arguments": ["run", "--json", *options, "--config", str(config)],
            "stdout": str(folder / "stdout"),
            "stderr": str(folder / "stderr"),
        }
        for name in ("stdout", "stderr"):
            (folder / name).write_bytes(b"")  # nobody may take the last station's words for this one's
        if boundary is not None:
            order["strike"] = {"boundary": boundary, "act": act, "nth": nth}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Station(self, self.hear("pid"), folder)

    def hear(self, what: str) -> int:
        """Read what the starter says next."""
        assert self._process.stdout is not None
        return int(json.loads(self._process.stdout.readline())[what])


@contextmanager
def starter(build: Path | None = None) -> Iterator[Starter]:
    """Run a starter; with ``build``, a folder, one whose stations can have their disk filled."""
    environment = {} if build is None else {"LD_PRELOAD": str(stubborn_disk(build))}
    with Starter(environment) as running:
        yield running


def stubborn_disk(build: Path) -> Path:
    """Compile ``stubborn_disk.c`` and return the library."""
    library = build / "stubborn_disk.so"
    command: Sequence[str | Path] = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, "-o", library, DISK, "-ldl"], check=True)
    return library
