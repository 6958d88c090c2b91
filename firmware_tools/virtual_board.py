"""One slot of a virtual line: a serial port, and the board in it, which is a device process with its flash in a folder.

What a hand can do to a board, this one can suffer: power off and on, cable out and in, another board in its place. The
board lives on the power of its cable, so pulling the plug ends it too. Power is cut with ``SIGKILL``: the device gets
no chance to put its house in order.
"""

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firmware_tools.errors import LineError, ProgramError
from firmware_tools.pseudo_terminal import PseudoTerminal
from firmware_tools.relay import Relay, WireThread
from firmware_tools.wire import Cut, CutKind, Direction, Traffic, Wire

__all__ = ["Bench", "VirtualBoard"]

_LOG: Final = "program.log"
_TRACE: Final = "trace.jsonl"


@dataclass(frozen=True, slots=True)
class Bench:
    """What the slots of one line share while it runs."""

    directory: Path
    command: Sequence[str]
    """The device program, and the arguments that all boards have in common."""
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
    on_cut: Callable[["VirtualBoard", Cut], None]


class VirtualBoard:
    """One slot and the board in it. Methods may be called from any thread, and block for some milliseconds."""

    def __init__(self, bench: Bench, slot: str, hardware_id: str, wire: Wire | None) -> None:
        self.slot: Final = slot
        """Name of the slot, such as ``slot1``."""
        self.hardware_id = hardware_id
        """Of the board in the slot now."""
        self.wire = wire
        """What lies between port and board from the next ``plug`` on. None: nothing, and nothing can be harmed."""
        self.port: Final = bench.directory / slot
        """Symbolic link to the terminal; missing while the board is unplugged."""
        self._bench = bench
        self._lock = threading.RLock()
        self._terminal: PseudoTerminal | None = None
        self._watch = -1
        self._relay: Relay | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def storage(self) -> Path:
        """Folder of the board's flash; it survives everything that happens to the board."""
        return self._bench.directory / self.hardware_id

    @property
    def log(self) -> Path:
        """File with what the device program wrote on stdout and stderr."""
        return self.storage / _LOG

    @property
    def trace(self) -> Path:
        """File with one JSON line a request; written only if the line was asked to trace."""
        return self.storage / _TRACE

    @property
    def plugged(self) -> bool:
        """Whether the port is there."""
        return self._terminal is not None

    @property
    def exit_status(self) -> int | None:
        """Exit status of the device program if it ended by itself; None while it runs or has no power."""
        process = self._process
        return None if process is None else process.poll()

    @property
    def running(self) -> bool:
        """Whether the board has power and its program runs."""
        process = self._process
        return process is not None and process.poll() is None

    def traffic(self) -> Mapping[Direction, Traffic] | None:
        """What has crossed the wire since the cable was plugged in; None without a wire."""
        with self._lock:
            relay = self._relay
            return None if relay is None else self._bench.wires.call(relay.traffic)

    def inject(self, data: bytes) -> None:
        """Send bytes to the station as if the board had.

        Raises:
            LineError: the board is unplugged.
        """
        with self._lock:
            terminal, relay = self._plugged_terminal(), self._relay
            if relay is None:
                os.write(terminal.master, data)
            else:
                self._bench.wires.call(lambda: relay.inject(data))

    def power_on(self) -> None:
        """Give the board power; what the station sent before is lost. Nothing happens if it runs already.

        Raises:
            LineError: the board is unplugged.
            ProgramError: the device program can't be started.
        """
        with self._lock:
            terminal, relay = self._plugged_terminal(), self._relay
            if self.running:
                return
            self.power_off()
            terminal.discard_requests()
            if relay is None:
                self._process = self._start(terminal.master)
                return
            ours, devices = socket.socketpair()
            with devices:
                self._bench.wires.call(lambda: relay.connect(ours))
                self._process = self._start(devices.fileno())

    def power_off(self) -> None:
        """Cut the board's power: its process is killed. The port stays, and is silent."""
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                process.kill()
                process.wait()
            if (relay := self._relay) is not None:
                self._bench.wires.call(lambda: relay.connect(None))

    def kill(self) -> None:
        """End the device process and wait for nothing; ``power_off`` and ``unplug`` do the rest."""
        process = self._process
        if process is not None:
            process.kill()

    def plug(self) -> None:
        """Put the cable in: a new terminal under the old name, and power. Nothing happens if it is in already.

        Raises:
            ProgramError: the device program can't be started.
        """
        with self._lock:
            if self._terminal is not None:
                return
            terminal = self._terminal = PseudoTerminal(self.port)
            wires = self._bench.wires
            self._watch = wires.call(lambda: wires.openers.watch(terminal.slave_path, terminal.unlock))
            if self.wire is not None:
                relay = self._relay = Relay(wires, terminal, self._watch, self.wire, self._cut)
                wires.call(relay.open)
            self.power_on()
            terminal.publish()

    def unplug(self) -> None:
        """Pull the cable: the board loses its power, the name goes, who has the port open finds it hung up."""
        with self._lock:
            terminal, self._terminal = self._terminal, None
            if terminal is None:
                return
            terminal.withdraw()
            self.power_off()
            wires = self._bench.wires
            relay, self._relay = self._relay, None
            if relay is not None:
                wires.call(relay.close)
            wires.call(lambda: wires.openers.forget(self._watch))
            terminal.close()

    def replace_by_blank(self) -> None:
        """Put a blank board with a new hardware id into the slot. The flash of the old one stays in its folder.

        Raises:
            ProgramError: the device program can't be started.
        """
        with self._lock:
            self.unplug()
            self.hardware_id = self._bench.fresh_id(self.slot)
            self.plug()

    def ship(self) -> Path:
        """Take the board out, move its flash to ``shipped/<hardware id>``, and put a blank one into the slot.

        Returns:
            The folder of the board that was shipped.

        Raises:
            ProgramError: the device program can't be started.
        """
        with self._lock:
            self.unplug()
            box = self._bench.directory / "shipped" / self.hardware_id
            box.parent.mkdir(mode=0o700, exist_ok=True)
            self.storage.rename(box)
            self.replace_by_blank()
            return box

    def _plugged_terminal(self) -> PseudoTerminal:
        if self._terminal is None:
            raise LineError(
                f"{self.slot} is unplugged: plug it in first", code="line.unplugged", operator="Plug the board in."
            )
        return self._terminal

    def _start(self, uart: int) -> "subprocess.Popen[bytes]":
        self.storage.mkdir(mode=0o700, exist_ok=True)
        command = [
            *self._bench.command,
            *("--storage", str(self.storage)),
            *("--hardware-id", self.hardware_id),
            *("--fd", str(uart)),
            *(("--trace", str(self.trace)) if self._bench.trace else ()),
        ]

        def start() -> "subprocess.Popen[bytes]":
            with self.log.open("ab") as log:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(uart, self._bench.lock),
                    process_group=0,  # a Ctrl-C is meant for the station, not for its boards
                )

        try:
            return self._bench.starter.submit(start).result()
        except OSError as error:
            program = command[0]
            raise ProgramError(
                f"the device program {program} does not start: {error.strerror}. Build it with"
                " firmware_tools.build.build_device",
                program=program,
            ) from error

    def _cut(self, relay: Relay, cut: Cut) -> None:
        """The wire's cut has come. We are in the wires' thread and must not wait for anybody: kill, leave the rest."""
        self.kill()
        self._bench.cutter.submit(self._after_cut, relay, cut)

    def _after_cut(self, relay: Relay, cut: Cut) -> None:
        with self._lock:
            if self._relay is not relay:
                return  # a hand was faster and has pulled the plug
            if self.wire is not None and self.wire.cut is cut:
                self.wire = self.wire.without_cut()
            if cut.kind is CutKind.UNPLUG:
                self.unplug()
            else:
                self.power_off()
        self._bench.on_cut(self, cut)
