"""Where a host finds a chip: on a pseudo-terminal, or behind an RFC 2217 server.

A pseudo-terminal has no modem lines, so nothing on it can hold the boot pin or reset the chip. Opening it does both:
as in a fixture that straps the boot pin and gives power when the port is opened. What the chip does last, it does
until then.

Behind the RFC 2217 server (pyserial's ``PortManager``, one client at a time) the host's DTR and RTS reach the chip, and
it starts in the mode that its boot pin tells.

The host's baud is that of its settings (``tcgetattr(3)``, ``SET-BAUDRATE``). If the chip speaks another one, neither
understands the other. ``paced`` lets every byte take its time at that baud: 10 bits, and 11 with parity. Each port is
served by a thread of its own.
"""

import contextlib
import os
import select
import socket
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import serial
from serial.rfc2217 import PortManager

from firmware_tools.rom_loaders import Chip, Mode, PowerCut
from firmware_tools.virtual_line.pseudo_terminal import Openers, PseudoTerminal

__all__ = ["PtyPort", "Rfc2217Port"]

_READ: Final = 4096
_LATE: Final = 0.02
"""Seconds by which bytes may come after the one before and still count as sent without a pause: a thread that slept for
their time wakes up late, and the wire was not idle meanwhile."""
_BAUDS: Final = {
    getattr(termios, name): int(name[1:]) for name in dir(termios) if name[0] == "B" and name[1:].isdigit()
}
"""Bits a second, by the constants of termios(3)."""

_FRESH: Final = termios.B300
"""Speed of a port that nobody has open. No tool uses it: glibc calls a change that the kernel ignores in part an error
only if nothing else changed, and a pseudo-terminal ignores parity; so the second program that asks for 8E1 gets
through."""


class _Wire:
    """Carries bytes between a host and a chip, at their pace."""

    def __init__(self, chip: Chip, send: Callable[[bytes], None], *, paced: bool) -> None:
        self.chip: Final = chip
        self._send = send
        self._paced = paced
        self._free_at = 0.0

    def arrive(self, data: bytes, baud: int, bits: int) -> None:
        """Bytes of the host; returns when they have crossed the wire and the answers have too."""
        self._take_time(len(data), baud, bits)
        try:
            for answer in self.chip.receive(data, baud):
                self._take_time(len(answer), baud, bits)
                self._send(answer)
        except PowerCut:
            pass

    def _take_time(self, count: int, baud: int, bits: int) -> None:
        if self._paced:
            now = time.monotonic()
            if now - self._free_at > _LATE:
                self._free_at = now
            self._free_at += count * bits / baud
            time.sleep(max(0.0, self._free_at - now))


class PtyPort:
    """A chip on a pseudo-terminal."""

    def __init__(self, chip: Chip, link: Path, *, paced: bool = False, unplug_after: int | None = None) -> None:
        """Publish the port and serve it.

        Args:
            chip: used by the port's thread until ``close``.
            link: the port's name; a symbolic link to the terminal.
            paced: bytes take their time.
            unplug_after: bytes from the host after which the cable is pulled: the port is gone.
        """
        self.chip: Final = chip
        self.link: Final = link
        self._terminal = PseudoTerminal(link)
        self._unplug_after = unplug_after
        self._seen = 0
        self._openers = Openers()
        self._wake, self._woken = os.pipe()
        self._wire = _Wire(chip, self._write, paced=paced)
        os.set_blocking(self._terminal.master, False)
        self._forget_settings()
        self._watch = self._openers.watch(self._terminal.slave_path, self._on_last_close)
        self._terminal.publish()
        self._thread = threading.Thread(target=self._run, name=f"chip {link.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the port away. Call once."""
        os.write(self._woken, b"x")
        self._thread.join()
        os.close(self._wake)
        os.close(self._woken)
        self._openers.close()

    def _run(self) -> None:
        was_open = False
        master = self._terminal.master
        try:
            while True:
                readable, _, _ = select.select([master, self._openers.fd, self._wake], [], [])
                if self._wake in readable:
                    return
                self._openers.update()
                is_open = self._openers.count(self._watch) > 0
                if is_open and not was_open:
                    self.chip.power_on(boot=True)
                was_open = is_open
                if master in readable:
                    with contextlib.suppress(BlockingIOError):  # flushed meanwhile
                        self._pass_on(os.read(master, _READ))
                if self._unplug_after is not None and self._seen >= self._unplug_after:
                    return
        finally:
            self._terminal.close()

    def _pass_on(self, data: bytes) -> None:
        self._seen += len(data)
        attributes = termios.tcgetattr(self._terminal.master)
        # the kernel drops PARENB of a pseudo-terminal: only the baud can be learnt
        self._wire.arrive(data, _BAUDS.get(attributes[5], 115200), 10)

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._terminal.master, data) :]
            except BlockingIOError:  # the host doesn't read
                select.select([], [self._terminal.master], [], 1.0)
                if not self._openers.count(self._watch):
                    return

    def _on_last_close(self) -> None:
        self._terminal.unlock()
        self._forget_settings()
        with contextlib.suppress(termios.error):
            termios.tcflush(self._terminal.master, termios.TCIOFLUSH)

    def _forget_settings(self) -> None:
        """Set the port back, as the kernel does with a real one when its last user closes it."""
        attributes = termios.tcgetattr(self._terminal.master)
        attributes[4] = attributes[5] = _FRESH
        termios.tcsetattr(self._terminal.master, termios.TCSANOW, attributes)


class Rfc2217Port:
    """A chip behind an RFC 2217 server on the loopback."""

    def __init__(self, chip: Chip, *, paced: bool = False, port: int = 0) -> None:
        """Listen.

        Args:
            chip: used by the port's thread until ``close``.
            paced: bytes take their time.
            port: of TCP; 0: any.
        """
        self._listener = socket.create_server(("127.0.0.1", port))
        self.url: Final = f"rfc2217://127.0.0.1:{self._listener.getsockname()[1]}"
        self._uart = _Uart(chip)
        self._client: socket.socket | None = None
        self._wire = _Wire(chip, self._send, paced=paced)
        self._sending = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name=f"chip {self.url}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and hang up. Call once."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        client = self._client
        if client is not None:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def write(self, data: bytes) -> None:
        """Send Telnet to the client; ``PortManager`` wants it under this name."""
        with self._sending, contextlib.suppress(OSError):
            assert self._client is not None  # noqa: S101 - for the type checker
            self._client.sendall(data)

    def _send(self, data: bytes) -> None:
        self.write(data.replace(b"\xff", b"\xff\xff"))

    def _serve(self) -> None:
        while True:
            try:
                self._client, _ = self._listener.accept()
            except OSError:  # closed
                return
            with self._client, contextlib.suppress(ConnectionError):
                self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                manager = PortManager(self._uart, self)  # type: ignore[arg-type] # it uses what _Uart and write offer
                self._talk(manager, self._client)
            self._client = None

    def _talk(self, manager: PortManager, client: socket.socket) -> None:
        while received := client.recv(_READ):
            data = b"".join(manager.filter(received))
            if data:
                bits = 10 if self._uart.parity == serial.PARITY_NONE else 11
                self._wire.arrive(data, self._uart.baudrate, bits)


class _Uart:
    """What ``PortManager`` sees of a UART: settings, and modem lines that reach the chip."""

    xonxoff = rtscts = break_condition = False
    cts = dsr = cd = True
    ri = False

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self.baudrate = 115200
        self.bytesize = serial.EIGHTBITS
        self.parity = serial.PARITY_NONE
        self.stopbits = serial.STOPBITS_ONE
        self._dtr = self._rts = False
        if chip.mode is Mode.OFF:
            chip.power_on(boot=False)

    @property
    def dtr(self) -> bool:
        return self._dtr

    @dtr.setter
    def dtr(self, value: bool) -> None:
        self._dtr = value
        self._chip.pins(dtr=self._dtr, rts=self._rts)

    @property
    def rts(self) -> bool:
        return self._rts

    @rts.setter
    def rts(self, value: bool) -> None:
        self._rts = value
        self._chip.pins(dtr=self._dtr, rts=self._rts)

    def reset_input_buffer(self) -> None:
        """Nothing waits here."""

    def reset_output_buffer(self) -> None:
        """Nothing waits here."""
