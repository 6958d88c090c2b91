"""What the slots of one virtual line share while it runs, and how the program of a board is started."""

import subprocess
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from firmware_tools.errors import ProgramError
from firmware_tools.virtual_line.machine import Machine, Supply
from firmware_tools.virtual_line.relay import WireThread

__all__ = ["Bench"]


@dataclass(frozen=True, slots=True)
class Bench:
    """What the slots of one line share while it runs."""

    directory: Path
    machine: Machine
    """What the boards are made of."""
    trace: bool
    wires: WireThread
    starter: Executor
    """One thread that starts every device and lives as long as the line: ``PR_SET_PDEATHSIG`` fires when the *thread*
    that started a process ends."""
    cutter: Executor
    """Does what the cut of a wire asks for."""
    lock: int
    """File descriptor of the folder's lock. Each device holds a copy, so that no second line can start on the same
    flash while one of them lives."""
    fresh_id: Callable[[str], str]
    """Gives a slot (by its name) a blank board: writes it down and returns its hardware id."""

    def start(self, supply: Supply, log: Path) -> "subprocess.Popen[bytes]":
        """Start the program of a board.

        Args:
            supply: what the board gets from its slot.
            log: what it writes on stdout and stderr is added to this file.

        Raises:
            ProgramError: it can't be started.
        """
        command = self.machine.command(supply)

        def start() -> "subprocess.Popen[bytes]":
            with log.open("ab") as output:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(supply.uart, self.lock, *(() if supply.control is None else (supply.control,))),
                    process_group=0,  # a Ctrl-C is meant for the station, not for its boards
                )

        try:
            return self.starter.submit(start).result()
        except OSError as error:
            program = command[0]
            raise ProgramError(
                f"the device program {program} does not start: {error.strerror}. Build it with"
                " firmware_tools.build.build_device",
                program=program,
            ) from error
