"""USB ports from the kernel itself: the ttys that are there, and uevents over netlink for those that come and go.

The kernel multicasts a *uevent* for every device (``NETLINK_KOBJECT_UEVENT``, group 1): a summary line and
``KEY=value`` strings, all ended by NUL. Where udev runs, it sends each event on to group 2 after its rules ran, with a
header of its own before the same strings; we listen there if we can, since permissions are set by then. Sender and
lengths of a datagram are checked: any process may send to these groups, only the kernel and root are believed.

A slot is known by where its cable is plugged in. In sysfs that is the USB interface in the path of the tty::

    /sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/1-1.2:1.0/ttyUSB0/tty/ttyUSB0      -> 1-1.2:1.0

which reads: bus 1, port 1, hub port 2, configuration 1, interface 0. Adapters with several UARTs behind one interface
(CH344, CH348) differ in the attribute ``port_number``; all but the first get it as a suffix: ``1-1.2:1.0+1``.
"""

import asyncio
import errno
import os
import re
import socket
import struct
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from station.errors import LinkError
from station.ports.event import PortEvent, PortEventKind

KERNEL_GROUP: Final = 1
"""Multicast group of the kernel."""

UDEV_GROUP: Final = 2
"""Multicast group of udev."""

UDEV_CONTROL: Final = Path("/run/udev/control")
"""Is there while udev runs."""

DATAGRAM_LIMIT: Final = 8192
"""Bytes of a uevent; the kernel's buffer has 2048, udev adds its properties."""

RECEIVE_BUFFER: Final = 1 << 20
"""Bytes the kernel keeps for us: a hub with 16 boards that is switched on makes some hundred events at once."""

NETLINK_KOBJECT_UEVENT: Final = 15
"""Netlink protocol number (linux/netlink.h); Python does not name it."""

_UDEV_PREFIX: Final = b"libudev\0"
_UDEV_MAGIC: Final = 0xFEEDCAFE
_UDEV_HEADER: Final = struct.Struct("=8s4sIII")  # magic in network order, the rest in the host's
_CREDENTIALS: Final = struct.Struct("=iII")
_DEVICE_NAME: Final = re.compile(r"(?:/dev/)?([0-9A-Za-z][0-9A-Za-z._/-]{0,63})")
_INTERFACE: Final = re.compile(r"\d+-\d+(?:\.\d+)*:\d+\.\d+")
_NO_UART: Final = "0"


@dataclass(frozen=True, slots=True)
class Uevent:
    """What a datagram says about a tty."""

    action: str
    device: str
    """Path under ``/dev``."""
    devpath: str
    """Path in sysfs, without ``/sys``."""


def parse_uevent(datagram: bytes) -> Uevent | None:
    """Read a datagram of the kernel or of udev; None if it is not about a tty, or not well-formed."""
    strings = _properties(datagram)
    if strings is None:
        return None
    values = dict(pair.split("=", 1) for pair in strings.decode("utf-8", "replace").split("\0") if "=" in pair)
    name = _DEVICE_NAME.fullmatch(values.get("DEVNAME", ""))
    devpath = values.get("DEVPATH", "")
    if values.get("SUBSYSTEM") != "tty" or name is None or ".." in name[1] or not devpath.startswith("/"):
        return None
    return Uevent(values.get("ACTION", ""), f"/dev/{name[1]}", devpath)


def _properties(datagram: bytes) -> bytes | None:
    """Return the ``KEY=value`` strings of a datagram."""
    if not datagram.startswith(_UDEV_PREFIX):
        summary, separator, strings = datagram.partition(b"\0")
        return strings if separator and b"@/" in summary else None
    if len(datagram) < _UDEV_HEADER.size:
        return None
    _prefix, magic, _header_size, offset, length = _UDEV_HEADER.unpack_from(datagram)
    if int.from_bytes(magic, "big") != _UDEV_MAGIC or offset + length > len(datagram):
        return None
    return datagram[offset : offset + length]


def usb_path(devpath: str, sysfs: Path = Path("/sys")) -> str | None:
    """Name the place where a tty is plugged in, from its path in sysfs; None if it is no USB tty."""
    parts = devpath.strip("/").split("/")
    places = [(index, part) for index, part in enumerate(parts) if _INTERFACE.fullmatch(part)]
    if not places:
        return None
    index, interface = places[-1]
    with suppress(OSError, ValueError, IndexError):
        attribute = sysfs.joinpath(*parts[: index + 2], "port_number").read_text()
        if (number := int(attribute)) > 0:
            return f"{interface}+{number}"
    return interface


def present_ports(sysfs: Path = Path("/sys")) -> Iterator[PortEvent]:
    """Yield an arrival for each tty with hardware behind it that is there now."""
    try:
        entries = sorted((sysfs / "class/tty").iterdir())
    except OSError:  # a container without sysfs
        return
    for entry in entries:
        devpath = os.path.realpath(entry).removeprefix(os.path.realpath(sysfs))
        if "/virtual/" in devpath or not (entry / "device").exists():
            continue
        with suppress(OSError):  # legacy UARTs stand in sysfs whether they are there or not; type 0 is "none found"
            if (entry / "type").read_text().strip() == _NO_UART:
                continue
        yield PortEvent(PortEventKind.ARRIVED, f"/dev/{entry.name}", usb_path(devpath, sysfs))


class NetlinkHotplug:
    """Port events of all ttys with hardware behind them; a ``Hotplug``. Needs no rights and no udev."""

    def __init__(self, *, ignore: Container[str] = (), sysfs: Path = Path("/sys"), group: int | None = None) -> None:
        """Begin to listen, then look at what is there: nothing falls between the two.

        Args:
            ignore: ports that another source tells about.
            sysfs: where sysfs is mounted.
            group: multicast group; None for udev's where udev runs, else the kernel's.

        Raises:
            LinkError: ``link.no_hotplug``: this system has no uevents (some containers).
        """
        self._ignore = ignore
        self._sysfs = sysfs
        self._group = group or (UDEV_GROUP if UDEV_CONTROL.exists() else KERNEL_GROUP)
        self._events: asyncio.Queue[PortEvent | None] = asyncio.Queue()
        self._present: dict[str, PortEvent] = {}
        self._loop = asyncio.get_running_loop()
        try:
            self._socket = _listen(self._group)
        except OSError as error:
            raise LinkError(
                f"this system tells nothing about USB ports: {error}; name ports by 'port' instead of 'usb'",
                code="link.no_hotplug",
                operator="Call the line engineer.",
            ) from error
        self._loop.add_reader(self._socket, self._receive)
        self._look()

    def __aiter__(self) -> "NetlinkHotplug":
        """Return itself."""
        return self

    async def __anext__(self) -> PortEvent:
        """Wait for the next event."""
        event = await self._events.get()
        if event is None:
            self._events.put_nowait(None)
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        """Stop. May be called twice."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._events.put_nowait(None)

    def _receive(self) -> None:
        while True:
            try:
                datagram, ancillary, flags, sender = self._socket.recvmsg(
                    DATAGRAM_LIMIT, socket.CMSG_SPACE(_CREDENTIALS.size)
                )
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:  # events were lost: look at the outcome instead
                    self._look()
                    continue
                self.close()
                return
            if flags & socket.MSG_TRUNC or not self._is_trusted(sender, ancillary):
                continue
            if (uevent := parse_uevent(datagram)) is not None:
                self._apply(uevent)

    def _is_trusted(self, sender: tuple[int, int], ancillary: list[tuple[int, int, bytes]]) -> bool:
        """Believe the kernel (netlink port 0), and in udev's group root."""
        if self._group == KERNEL_GROUP:
            return sender[0] == 0
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(content) >= _CREDENTIALS.size:
                _pid, uid, _gid = _CREDENTIALS.unpack_from(content)
                return bool(uid == 0)
        return False

    def _apply(self, uevent: Uevent) -> None:
        if uevent.action == "add" and "/virtual/" not in uevent.devpath:
            self._arrive(PortEvent(PortEventKind.ARRIVED, uevent.device, usb_path(uevent.devpath, self._sysfs)))
        elif uevent.action == "remove":
            self._leave(uevent.device)

    def _look(self) -> None:
        """Make what is known equal to what sysfs shows."""
        there = {event.device: event for event in present_ports(self._sysfs)}
        for device in self._present.keys() - there.keys():
            self._leave(device)
        for event in there.values():
            self._arrive(event)

    def _arrive(self, event: PortEvent) -> None:
        if event.device not in self._present and event.device not in self._ignore:
            self._present[event.device] = event
            self._events.put_nowait(event)

    def _leave(self, device: str) -> None:
        # What it was is known from its arrival: on removal sysfs has forgotten it already.
        if (event := self._present.pop(device, None)) is not None:
            self._events.put_nowait(PortEvent(PortEventKind.LEFT, device, event.usb))


def _listen(group: int) -> socket.socket:
    listener = socket.socket(
        socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT
    )
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.bind((0, group))
    except OSError:
        listener.close()
        raise
    return listener
