"""Puts a wire between a pseudo-terminal and a device, in a thread that serves all wires of a line.

The thread waits for bytes and for deadlines in one place. It does not use asyncio: an asyncio loop on epoll rounds its
waits up to whole milliseconds, and a byte at 921600 baud takes a hundredth of one. While no byte flows the thread
sleeps. It needs the interpreter's lock like every thread; when wires have to keep time beside a busy program, run the
line in a process of its own (``python -m firmware_tools line``).
"""

import ctypes
import errno
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Final, TypeVar

from firmware_tools.virtual_line.pseudo_terminal import Openers, PseudoTerminal
from firmware_tools.virtual_line.wire import BACKLOG, Cut, Direction, Lane, Traffic, Wire

__all__ = ["Relay", "WireThread"]

_T = TypeVar("_T")

_PR_SET_TIMERSLACK: Final = 29
"""prctl(2): how many nanoseconds a thread's timers may be late; 50 000 unless told."""

_SLACK: Final = 10_000
"""Nanoseconds: less costs a third more processor with sixteen wires, more makes each frame later."""

_FD_SETSIZE: Final = 1024
"""select(2) knows no file descriptor from here on."""


class WireThread:
    """The thread that carries the bytes of every wire of one line, and watches who has its ports open."""

    def __init__(self) -> None:
        self.openers: Final = Openers()
        """To be used within the thread only."""
        self._epoll = select.epoll()
        self._wake_up = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._calls: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self._readers: dict[int, Callable[[int], None]] = {}
        self._relays: set[Relay] = set()
        self._calls_lock = threading.Lock()
        self._stopping = False
        if self._epoll.fileno() >= _FD_SETSIZE:
            raise OSError(errno.EMFILE, "the process has too many files open to start a virtual line")
        self.listen(self._wake_up, self._run_calls)
        self.listen(self.openers.fd, lambda _events: self.openers.update())
        self._thread = threading.Thread(target=self._run, name="virtual-line-wires", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], _T]) -> _T:
        """Run ``function`` in the thread and return what it returns; raise what it raises."""
        if threading.current_thread() is self._thread:
            return function()
        future: Future[_T] = Future()
        with self._calls_lock:
            if self._stopping:
                raise RuntimeError("the wires' thread has ended")
            self._calls.append((function, future))  # type: ignore[arg-type] # a future takes its own function's result
            os.eventfd_write(self._wake_up, 1)
        return future.result()

    def close(self) -> None:
        """End the thread and free its file descriptors. Call once, after every relay is closed."""
        self.call(self._stop)
        self._thread.join()
        self.openers.close()
        self._epoll.close()
        os.close(self._wake_up)

    def listen(self, fd: int, on_events: Callable[[int], None]) -> None:
        """Call ``on_events`` with the epoll events of ``fd`` whenever it can be read or its peer is gone."""
        self._readers[fd] = on_events
        self._epoll.register(fd, select.EPOLLIN)

    def ignore(self, fd: int) -> None:
        """Call no longer; before ``fd`` is closed."""
        del self._readers[fd]
        self._epoll.unregister(fd)

    def pause(self, fd: int, *, paused: bool) -> None:
        """Leave bytes unread for a while; a peer that goes away is reported all the same."""
        self._epoll.modify(fd, 0 if paused else select.EPOLLIN)

    def carry(self, relay: "Relay") -> None:
        """Deliver for ``relay`` when it is due."""
        self._relays.add(relay)

    def drop(self, relay: "Relay") -> None:
        """Deliver no longer."""
        self._relays.discard(relay)

    def _stop(self) -> None:
        with self._calls_lock:
            self._stopping = True

    def _run_calls(self, _events: int) -> None:
        os.eventfd_read(self._wake_up)
        while self._calls:
            function, future = self._calls.popleft()
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - it belongs to the thread that asked
                future.set_exception(error)

    def _run(self) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _SLACK, 0, 0, 0)
        try:
            while not self._stopping:
                self._turn()
        finally:  # nobody may wait for a thread that has died
            self._stop()
            for _, future in self._calls:
                future.cancel()

    def _turn(self) -> None:
        due = min((relay.next_due for relay in self._relays if relay.next_due is not None), default=None)
        timeout = None if due is None else max(0.0, due - time.monotonic())
        # select() on the epoll set, because epoll_wait() takes whole milliseconds
        if select.select([self._epoll.fileno()], [], [], timeout)[0]:
            for fd, events in self._epoll.poll(0):
                if (on_events := self._readers.get(fd)) is not None:  # an earlier event may have closed it
                    on_events(events)
        now = time.monotonic()
        for relay in tuple(self._relays):
            if relay.next_due is not None and relay.next_due <= now:
                relay.deliver(now)


class Relay:
    """One wire at work: the station's side is a pseudo-terminal, the device's side a socket that may come and go.

    Every method is to be called in the thread (``WireThread.call``), save for construction.
    """

    def __init__(
        self,
        thread: WireThread,
        terminal: PseudoTerminal,
        watch: int,
        wire: Wire,
        on_cut: Callable[["Relay", Cut], None],
    ) -> None:
        """Join a terminal to a wire; bytes flow from ``open`` on.

        Args:
            thread: serves the wire.
            terminal: stays the caller's; its name tells the wire's dice from those of others.
            watch: of the terminal, in ``thread.openers``.
            wire: what lies between.
            on_cut: called in the thread, once, when the wire's cut has come; must not wait for the thread.
        """
        self._thread = thread
        self._master = terminal.master
        self._watch = watch
        self._wire = wire
        self._on_cut = on_cut
        self._device: socket.socket | None = None
        self._to_device = Lane(wire, Direction.TO_DEVICE, terminal.link.name)
        self._to_station = Lane(wire, Direction.TO_STATION, terminal.link.name)
        self._paused: set[int] = set()
        self._cut_done = False
        self.next_due: float | None = None
        """When ``deliver`` is wanted; None while the wire is idle."""

    def open(self) -> None:
        """Let bytes flow."""
        os.set_blocking(self._master, False)
        self._thread.listen(self._master, self._read_station)
        self._thread.carry(self)

    def close(self) -> None:
        """Stop, and free the device's side."""
        self.connect(None)
        self._thread.drop(self)
        self._thread.ignore(self._master)

    def connect(self, device: socket.socket | None) -> None:
        """Give the wire another device, or none; what was on its way to or from the one before is lost.

        Args:
            device: our end of a stream socket pair; becomes the relay's.
        """
        if self._device is not None:
            self._thread.ignore(self._device.fileno())
            self._paused.discard(self._device.fileno())
            self._device.close()
        self._device = device
        self._to_device.discard()
        self._to_station.discard()
        self._resume(self._master, self._to_device)  # nothing is left whose delivery would do it
        if device is not None:
            if self._cut_done:
                self._cut_done = False
                self._to_device.mend()
                self._to_station.mend()
            device.setblocking(False)
            self._thread.listen(device.fileno(), self._read_device)
            if self._wire.boot_noise:
                self.inject(self._wire.boot_noise)
        self._plan()

    def inject(self, data: bytes) -> None:
        """Send bytes to the station as if the device had; they queue behind what is on its way."""
        self._to_station.accept(data, time.monotonic())
        self._plan()

    def traffic(self) -> Mapping[Direction, Traffic]:
        """What has crossed the wire since it was joined."""
        return {Direction.TO_DEVICE: self._to_device.traffic, Direction.TO_STATION: self._to_station.traffic}

    def deliver(self, now: float) -> None:
        """Hand out what is due in both directions."""
        if self._to_device.next_due is not None and self._to_device.next_due <= now:
            self._hand_out(self._to_device, self._to_device.due(now), self._write_device)
            self._resume(self._master, self._to_device)
        if self._to_station.next_due is not None and self._to_station.next_due <= now:
            self._hand_out(self._to_station, self._to_station.due(now), self._write_station)
            if self._device is not None:
                self._resume(self._device.fileno(), self._to_station)
        if not self._cut_done and self._wire.cut is not None and (self._to_device.is_cut or self._to_station.is_cut):
            self._cut_done = True
            self._to_device.discard()
            self._to_station.discard()
            self._on_cut(self, self._wire.cut)
        self._plan()

    def _hand_out(self, lane: Lane, data: bytes, write: Callable[[bytes], int]) -> None:
        taken = write(data) if data else 0
        lane.report(delivered=taken, overrun=len(data) - taken)

    def _write_device(self, data: bytes) -> int:
        if self._device is None:
            return 0
        try:
            return self._device.send(data)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return 0

    def _write_station(self, data: bytes) -> int:
        if not self._thread.openers.count(self._watch):
            return 0  # nobody has the port open: a UART would send into the air
        try:
            return os.write(self._master, data)
        except BlockingIOError:
            return 0

    def _read_station(self, _events: int) -> None:
        lane = self._to_device
        if not lane.room:
            self._pause(self._master)
            return
        try:
            data = os.read(self._master, lane.room)
        except BlockingIOError:  # flushed meanwhile, for a board that gets power
            return
        if self._cut_done:
            return
        now = time.monotonic()
        lane.accept(data, now)
        if self._wire.echo:
            self._to_station.accept(data, now)
        self._forward(now)

    def _read_device(self, events: int) -> None:
        if self._device is None:
            return
        if not events & select.EPOLLIN:
            self._lose_device()
            return
        lane = self._to_station
        if not lane.room:
            self._pause(self._device.fileno())
            return
        try:
            data = self._device.recv(lane.room)
        except ConnectionResetError:  # it died with bytes of ours unread
            data = b""
        if not data:
            self._lose_device()
        elif not self._cut_done:
            now = time.monotonic()
            lane.accept(data, now, delay=self._wire.answer_delay)
            self._forward(now)

    def _lose_device(self) -> None:
        """The device has ended by itself; what was read from it still arrives."""
        device, self._device = self._device, None
        if device is not None:
            self._thread.ignore(device.fileno())
            self._paused.discard(device.fileno())
            device.close()

    def _forward(self, now: float) -> None:
        self._plan()
        if self.next_due is not None and self.next_due <= now:  # a wire that takes no time
            self.deliver(now)

    def _pause(self, fd: int) -> None:
        self._paused.add(fd)
        self._thread.pause(fd, paused=True)

    def _resume(self, fd: int, lane: Lane) -> None:
        if fd in self._paused and lane.room >= BACKLOG // 2:
            self._paused.discard(fd)
            self._thread.pause(fd, paused=False)

    def _plan(self) -> None:
        to_device, to_station = self._to_device.next_due, self._to_station.next_due
        if to_device is None or to_station is None:
            self.next_due = to_station if to_device is None else to_device
        else:
            self.next_due = min(to_device, to_station)
