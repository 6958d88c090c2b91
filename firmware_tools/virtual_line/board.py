"""One slot of a virtual line: a serial port, and the board in it, which is a process with its flash in a folder.

What a hand can do to a board, this one can suffer: power off and on, cable out and in, another board in its place, its
flash copied to another one. What it suffers by itself stands in its ``faults``. The board lives on the power of its
cable, so pulling the plug ends it too. Power is cut with ``SIGKILL``: the device gets no chance to put its house in
order.
"""

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, assert_never

from firmware_tools.errors import LineError
from firmware_tools.virtual_line.bench import Bench
from firmware_tools.virtual_line.faults import SOUND, Faults, FlashDeath, StateDeath
from firmware_tools.virtual_line.machine import FLASH, Supply
from firmware_tools.virtual_line.pseudo_terminal import PseudoTerminal
from firmware_tools.virtual_line.relay import Relay
from firmware_tools.virtual_line.wire import Cut, CutKind, Direction, Traffic, Wire

__all__ = ["VirtualBoard"]

_LOG: Final = "program.log"
_TRACE: Final = "trace.jsonl"


class VirtualBoard:
    """One slot and the board in it. Methods may be called from any thread, and block for some milliseconds."""

    def __init__(
        self,
        bench: Bench,
        slot: str,
        hardware_id: str,
        wire: Wire | None,
        on_cut: Callable[["VirtualBoard", Cut], None],
    ) -> None:
        self.slot: Final = slot
        """Name of the slot, such as ``slot1``."""
        self.hardware_id = hardware_id
        """Of the board in the slot now."""
        self.wire = wire
        """What lies between port and board from the next ``plug`` on. None: nothing, and nothing can be harmed."""
        self.port: Final = bench.directory / slot
        """Symbolic link to the terminal; missing while the board is unplugged."""
        self._bench = bench
        self._on_cut = on_cut
        self._lock = threading.RLock()
        self._terminal: PseudoTerminal | None = None
        self._watch = -1
        self._relay: Relay | None = None
        self._plugs = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self.deaths = 0
        """How often it died of its faults."""
        self._faults = SOUND
        self._to_die: list[FlashDeath | StateDeath] = []
        self._death_watch = -1

    @property
    def faults(self) -> Faults:
        """What the board suffers by itself, from the next time it gets power. Another board in the slot is sound."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        with self._lock:
            self._faults = faults
            self._to_die = list(faults.deaths)

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
            death = self._to_die.pop(0) if self._to_die else None
            with contextlib.ExitStack() as theirs:
                uart = terminal.master
                if relay is not None:
                    ours, devices = socket.socketpair()
                    uart = theirs.enter_context(devices).fileno()
                    self._bench.wires.call(lambda: relay.connect(ours))
                control = None
                if self._bench.machine.has_control:
                    self._control, far = socket.socketpair()
                    control = theirs.enter_context(far).fileno()
                process = self._process = self._start(uart, control, death)
            if death is not None:
                self._watch_death(process)

    def power_off(self) -> None:
        """Cut the board's power: its process is killed. The port stays, and is silent."""
        with self._lock:
            process, self._process = self._process, None
            control, self._control = self._control, None
            self._bench.wires.call(self._forget_death)
            if control is not None:
                if process is not None and process.poll() is None:
                    self._bench.machine.halt(control)
                control.close()
            if process is not None:
                process.kill()
                process.wait()
            if (relay := self._relay) is not None:
                self._bench.wires.call(lambda: relay.connect(None))

    def reset(self) -> None:
        """Press the reset button; where a machine has none, cut the power for a moment. Without power nothing happens.

        Raises:
            LineError: the board is unplugged, or does not answer.
            ProgramError: the device program can't be started.
        """
        with self._lock:
            self._plugged_terminal()
            if not self.running:
                return
            if self._control is not None:
                self._bench.machine.reset(self._control)
                return
            self.power_off()
            self.power_on()

    def kill(self) -> None:
        """End the device process and wait for nothing; ``power_off`` and ``unplug`` do the rest.

        A board that has to be halted first is left to them.
        """
        process = self._process
        if process is not None and self._control is None:
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
            self._plugs += 1
            wires = self._bench.wires
            self._watch = wires.call(lambda: wires.openers.watch(terminal.slave_path, terminal.unlock))
            wire = Wire() if self.wire is None and self._bench.machine.needs_socket else self.wire
            if wire is not None:
                relay = self._relay = Relay(wires, terminal, self._watch, wire.at_plug(self._plugs), self._cut)
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
            self._take_blank()
            self.plug()

    def swap(self) -> None:
        """Put a blank board into the fixture: as ``replace_by_blank``, but the port stays and nothing hangs up.

        Raises:
            LineError: the cable is out.
            ProgramError: the device program can't be started.
        """
        with self._lock:
            self._plugged_terminal()
            self.power_off()
            self._take_blank()
            self.power_on()

    def clone(self, original: "VirtualBoard", *, hardware_id: bool = False) -> None:
        """Give this board the flash of another one, as a careless mass programmer does: the same key, twice.

        Args:
            original: stays as it is.
            hardware_id: whether it says the original's hardware id too.

        Raises:
            LineError: the original has no flash yet: it was never powered.
            ProgramError: the device program can't be started.
        """
        source = original.storage / FLASH
        if not source.exists():
            raise LineError(f"{original.slot} has no flash yet: power it first", code="line.no_flash")
        with self._lock:
            was_plugged = self.plugged
            self.unplug()
            self.storage.mkdir(mode=0o700, exist_ok=True)
            self._bench.machine.copy_flash(source, self.storage / FLASH)
            self.faults = Faults(hardware_id=original.hardware_id if hardware_id else None)
            if was_plugged:
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

    def _take_blank(self) -> None:
        self.faults = SOUND
        self.hardware_id = self._bench.fresh_id(self.slot)

    def _plugged_terminal(self) -> PseudoTerminal:
        if self._terminal is None:
            raise LineError(
                f"{self.slot} is unplugged: plug it in first", code="line.unplugged", operator="Plug the board in."
            )
        return self._terminal

    def _start(
        self, uart: int, control: int | None, death: FlashDeath | StateDeath | None
    ) -> "subprocess.Popen[bytes]":
        self.storage.mkdir(mode=0o700, exist_ok=True)
        supply = Supply(
            storage=self.storage,
            hardware_id=self._faults.hardware_id or self.hardware_id,
            uart=uart,
            control=control,
            death=death,
            trace=self.trace if self._bench.trace else None,
        )
        return self._bench.start(supply, self.log)

    def _watch_death(self, process: "subprocess.Popen[bytes]") -> None:
        """Hear of the end of a board that is about to die of its faults."""
        self._death_watch = os.pidfd_open(process.pid)
        self._bench.wires.call(lambda: self._bench.wires.listen(self._death_watch, lambda _events: self._died(process)))

    def _died(self, process: "subprocess.Popen[bytes]") -> None:
        """It is dead. We are in the wires' thread and must not wait for anybody."""
        self._forget_death()
        self.deaths += 1
        if (pause := self._faults.restart) is not None:
            timer = threading.Timer(pause, self._supply_returns, (process,))
            timer.daemon = True
            timer.start()

    def _supply_returns(self, process: "subprocess.Popen[bytes]") -> None:
        with self._lock:
            if self._process is process:  # nobody gave it power meanwhile, or took the board out
                self.power_on()

    def _forget_death(self) -> None:
        watch, self._death_watch = self._death_watch, -1
        if watch >= 0:
            self._bench.wires.ignore(watch)
            os.close(watch)

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
            match cut.kind:
                case CutKind.UNPLUG:
                    self.unplug()
                case CutKind.POWER:
                    self.power_off()
                case CutKind.SWAP:
                    self.swap()
                case _:
                    assert_never(cut.kind)
        self._on_cut(self, cut)
