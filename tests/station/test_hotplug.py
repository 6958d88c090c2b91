import asyncio
import os
import pty
import socket
import struct
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.ports.hotplug import ConfiguredPorts, NetlinkHotplug, PortEvent, PortEventKind, hotplug_for, merge
from station.ports.paths import POLL_SECONDS
from station.ports.uevent import NETLINK_KOBJECT_UEVENT, UDEV_GROUP, Uevent, parse_uevent, present_ports, usb_path
from station.testing import ScriptedHotplug

ARRIVED, LEFT = PortEventKind.ARRIVED, PortEventKind.LEFT

HUB = "/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/1-1.2:1.0"

# A USB adapter plugged into a hub, in the form of the datagram below.
KERNEL_ADD = (
    f"add@{HUB}/ttyUSB0/tty/ttyUSB0\0ACTION=add\0DEVPATH={HUB}/ttyUSB0/tty/ttyUSB0\0SUBSYSTEM=tty\0"
    "MAJOR=188\0MINOR=0\0DEVNAME=ttyUSB0\0SEQNUM=4711\0"
).encode()


# Recorded on Linux 6.18: "add" written to the uevent file of a UART.
KERNEL_ADD_UART = (
    b"add@/devices/pnp0/00:00/00:00:0/00:00:0.0/tty/ttyS0\0ACTION=add\0"
    b"DEVPATH=/devices/pnp0/00:00/00:00:0/00:00:0.0/tty/ttyS0\0SUBSYSTEM=tty\0SYNTH_UUID=0\0"
    b"MAJOR=4\0MINOR=64\0DEVNAME=ttyS0\0SEQNUM=828\0"
)


def udev_datagram(strings, *, magic=0xFEEDCAFE, offset=40, length=None):
    header = struct.pack("=8s", b"libudev\0") + struct.pack("!I", magic)
    header += struct.pack("=III", 40, offset, len(strings) if length is None else length)
    return header.ljust(40, b"\0") + strings


UDEV_STRINGS = (
    f"ACTION=add\0DEVPATH={HUB}/ttyUSB0/tty/ttyUSB0\0SUBSYSTEM=tty\0DEVNAME=/dev/ttyUSB0\0ID_BUS=usb\0"
).encode()

PLUGGED = Uevent("add", "/dev/ttyUSB0", f"{HUB}/ttyUSB0/tty/ttyUSB0")


async def next_events(hotplug, count):
    events = []
    async with asyncio.timeout(5):
        async for event in hotplug:
            events.append((event.kind, event.device))
            if len(events) == count:
                break
    return events


async def nothing_comes(hotplug):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await anext(hotplug)


# What a datagram says.


def test_a_datagram_of_the_kernel_is_read():
    assert parse_uevent(KERNEL_ADD) == PLUGGED


def test_a_recorded_datagram_is_read():
    uevent = parse_uevent(KERNEL_ADD_UART)
    assert uevent == Uevent("add", "/dev/ttyS0", "/devices/pnp0/00:00/00:00:0/00:00:0.0/tty/ttyS0")
    assert usb_path(uevent.devpath) is None


def test_a_datagram_of_udev_is_read():
    assert parse_uevent(udev_datagram(UDEV_STRINGS)) == PLUGGED


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\0",
        b"libudev\0",
        udev_datagram(UDEV_STRINGS, magic=0xCAFEFEED),
        udev_datagram(UDEV_STRINGS, length=len(UDEV_STRINGS) + 1),
        udev_datagram(UDEV_STRINGS, offset=0xFFFFFFFF),
        KERNEL_ADD.replace(b"add@", b"add "),
        KERNEL_ADD.replace(b"SUBSYSTEM=tty", b"SUBSYSTEM=usb"),
        KERNEL_ADD.replace(b"DEVNAME=ttyUSB0", b"DEVNAME=../../etc/passwd"),
        KERNEL_ADD.replace(b"DEVNAME=ttyUSB0", b"DEVNAME=a/../../b"),
        KERNEL_ADD.replace(b"DEVNAME=ttyUSB0", b"DEVNAME=\x1b[2J"),
        KERNEL_ADD.replace(b"DEVNAME=ttyUSB0\0", b""),
        KERNEL_ADD.replace(b"DEVPATH=/", b"DEVPATH="),
    ],
    ids=range(13),
)
def test_a_datagram_that_is_not_about_a_tty_or_not_whole_is_passed_over(datagram):
    assert parse_uevent(datagram) is None


@given(datagram=st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b"libudev\0\xfe\xed\xca\xfe" + tail))
def test_any_datagram_is_read_or_passed_over(datagram):
    parse_uevent(datagram)


# Where a tty is plugged in.


@pytest.mark.parametrize(
    ("devpath", "place"),
    [
        (f"{HUB}/ttyUSB0/tty/ttyUSB0", "1-1.2:1.0"),
        ("/devices/platform/soc/xhci/usb3/3-2/3-2:1.1/tty/ttyACM0", "3-2:1.1"),
        ("/devices/pci0000:00/usb1/1-1/1-1:1.0/usb9/9-4/9-4:1.0/ttyUSB1/tty/ttyUSB1", "9-4:1.0"),
        ("/devices/platform/serial8250/tty/ttyS0", None),
        ("/devices/virtual/tty/tty1", None),
    ],
)
def test_the_place_is_the_usb_interface(devpath, place):
    assert usb_path(devpath, Path("/nowhere")) == place


@pytest.mark.parametrize(("number", "suffix"), [("0", ""), ("1", "+1"), ("7", "+7"), ("x", "")])
def test_several_uarts_behind_one_interface_differ_by_port_number(tmp_path, number, suffix):
    port = tmp_path / HUB.strip("/") / "ttyUSB3"
    port.mkdir(parents=True)
    (port / "port_number").write_text(f"{number}\n")
    assert usb_path(f"{HUB}/ttyUSB3/tty/ttyUSB3", tmp_path) == f"1-1.2:1.0{suffix}"


def make_tty(sysfs, devpath, *, uart_type=None):
    folder = sysfs / devpath.strip("/")
    folder.mkdir(parents=True)
    (folder / "device").symlink_to("..")
    if uart_type is not None:
        (folder / "type").write_text(f"{uart_type}\n")
    link = sysfs / "class/tty" / folder.name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder)


def test_ports_that_are_there_are_those_with_hardware(tmp_path):
    make_tty(tmp_path, f"{HUB}/ttyUSB0/tty/ttyUSB0")
    make_tty(tmp_path, "/devices/platform/serial8250/tty/ttyS0", uart_type=4)
    make_tty(tmp_path, "/devices/platform/serial8250/tty/ttyS1", uart_type=0)
    make_tty(tmp_path, "/devices/virtual/tty/tty1")
    assert list(present_ports(tmp_path)) == [
        PortEvent(ARRIVED, "/dev/ttyS0"),
        PortEvent(ARRIVED, "/dev/ttyUSB0", "1-1.2:1.0"),
    ]


def test_without_sysfs_no_port_is_there(tmp_path):
    assert list(present_ports(tmp_path / "none")) == []


# Events of the kernel. The one real port that tests move is seen by all workers; who does not want it passes it over.

UEVENT = Path("/sys/class/tty/ttyS0/uevent")
MOVED = frozenset({"/dev/ttyS0"})
needs_uevents = pytest.mark.skipif(
    not os.access(UEVENT, os.W_OK), reason=f"{UEVENT} can't be written: synthetic uevents need root and a ttyS0"
)


@needs_uevents
async def test_a_real_uevent_moves_a_port(tmp_path):
    with closing(NetlinkHotplug(sysfs=tmp_path)) as hotplug:  # an empty sysfs: the port is new to us
        UEVENT.write_text("add")  # noqa: ASYNC240  sysfs answers at once
        assert await next_events(hotplug, 1) == [(ARRIVED, "/dev/ttyS0")]
        UEVENT.write_text("change")  # noqa: ASYNC240
        UEVENT.write_text("add")  # noqa: ASYNC240  again: nothing new
        UEVENT.write_text("remove")  # noqa: ASYNC240
        assert await next_events(hotplug, 1) == [(LEFT, "/dev/ttyS0")]


@needs_uevents
async def test_a_port_that_another_source_tells_about_is_passed_over(tmp_path):
    with closing(NetlinkHotplug(ignore=MOVED, sysfs=tmp_path)) as hotplug:
        UEVENT.write_text("add")  # noqa: ASYNC240  sysfs answers at once
        await nothing_comes(hotplug)


async def test_what_is_there_arrives_first(tmp_path):
    make_tty(tmp_path, f"{HUB}/ttyUSB0/tty/ttyUSB0")
    with closing(NetlinkHotplug(ignore=MOVED, sysfs=tmp_path)) as hotplug:
        assert await anext(hotplug) == PortEvent(ARRIVED, "/dev/ttyUSB0", "1-1.2:1.0")


async def test_a_port_leaves_with_the_place_it_came_with(tmp_path):
    make_tty(tmp_path, f"{HUB}/ttyUSB0/tty/ttyUSB0")
    with closing(NetlinkHotplug(ignore=MOVED, sysfs=tmp_path)) as hotplug:
        await anext(hotplug)
        hotplug._apply(Uevent("remove", "/dev/ttyUSB0", ""))
        assert await anext(hotplug) == PortEvent(LEFT, "/dev/ttyUSB0", "1-1.2:1.0")


async def test_lost_events_are_made_up_for_by_looking(tmp_path):
    make_tty(tmp_path, f"{HUB}/ttyUSB0/tty/ttyUSB0")
    with closing(NetlinkHotplug(ignore=MOVED, sysfs=tmp_path)) as hotplug:
        await anext(hotplug)
        (tmp_path / "class/tty/ttyUSB0").unlink()
        make_tty(tmp_path, f"{HUB}/ttyUSB1/tty/ttyUSB1")
        hotplug._look()  # what ENOBUFS leads to
        assert await next_events(hotplug, 2) == [(LEFT, "/dev/ttyUSB0"), (ARRIVED, "/dev/ttyUSB1")]


def send_to(hotplug, datagram):
    """Send as a process like any other: unicast to the socket, which needs no rights."""
    with closing(socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT)) as sender:
        sender.bind((0, 0))
        port, _groups = hotplug._socket.getsockname()  # to the whole group it would reach other tests as well
        sender.sendto(datagram, (port, 0))


async def test_a_process_can_not_pretend_to_be_the_kernel(tmp_path):
    with closing(NetlinkHotplug(ignore=MOVED, sysfs=tmp_path, group=1)) as hotplug:
        with suppress(PermissionError):  # as an ordinary user the kernel does not even deliver it
            send_to(hotplug, KERNEL_ADD)
        await nothing_comes(hotplug)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may send in udev's place")
async def test_root_may_send_what_udev_sends(tmp_path):
    with closing(NetlinkHotplug(sysfs=tmp_path, group=UDEV_GROUP)) as hotplug:
        send_to(hotplug, udev_datagram(UDEV_STRINGS))
        assert await next_events(hotplug, 1) == [(ARRIVED, "/dev/ttyUSB0")]


@pytest.mark.skipif(os.geteuid() != 0, reason="the sender has to give up root")
async def test_others_may_not_send_what_udev_sends(tmp_path):
    with closing(NetlinkHotplug(sysfs=tmp_path, group=UDEV_GROUP)) as hotplug:
        os.seteuid(65534)
        try:
            with suppress(PermissionError):
                send_to(hotplug, udev_datagram(UDEV_STRINGS))
        finally:
            os.seteuid(0)
        await nothing_comes(hotplug)


@pytest.mark.parametrize(
    ("credentials", "trusted"), [((1, 0, 0), True), ((4711, 1000, 1000), False), (None, False), (b"short", False)]
)
async def test_in_udevs_group_only_root_is_believed(tmp_path, credentials, trusted):
    content = struct.pack("=iII", *credentials) if isinstance(credentials, tuple) else credentials
    ancillary = [] if content is None else [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, content)]
    with closing(NetlinkHotplug(sysfs=tmp_path, group=UDEV_GROUP)) as hotplug:
        assert hotplug._is_trusted((4711, 0), ancillary) is trusted


async def test_a_closed_stream_ends(tmp_path):
    hotplug = NetlinkHotplug(ignore=MOVED, sysfs=tmp_path)
    hotplug.close()
    hotplug.close()
    assert [event async for event in hotplug] == []


# Configured ports.


class Cable:
    """A pty behind a symlink, as the virtual line makes it."""

    def __init__(self, link):
        self.link = link
        self.master, slave = pty.openpty()
        link.symlink_to(os.ttyname(slave))
        os.close(slave)

    def unplug(self):
        self.link.unlink()
        os.close(self.master)


async def test_a_url_is_always_there():
    with closing(ConfiguredPorts(["socket://host:1", "rfc2217://host:2"])) as ports:
        assert await next_events(ports, 2) == [(ARRIVED, "socket://host:1"), (ARRIVED, "rfc2217://host:2")]


async def test_a_cable_that_is_plugged_arrives_and_leaves(tmp_path):
    path = tmp_path / "slot1"
    with closing(ConfiguredPorts([str(path)])) as ports:
        await nothing_comes(ports)
        cable = Cable(path)
        assert await next_events(ports, 1) == [(ARRIVED, str(path))]
        cable.unplug()
        assert await next_events(ports, 1) == [(LEFT, str(path))]


async def test_a_board_that_is_swapped_in_no_time_leaves_and_arrives(tmp_path):
    path = tmp_path / "slot1"
    cable = Cable(path)
    with closing(ConfiguredPorts([str(path)])) as ports:
        await next_events(ports, 1)
        cable.unplug()
        cable = Cable(path)
        assert await next_events(ports, 2) == [(LEFT, str(path)), (ARRIVED, str(path))]
    cable.unplug()


async def test_a_pty_that_ends_behind_its_symlink_leaves(tmp_path):
    path = tmp_path / "slot1"
    cable = Cable(path)
    with closing(ConfiguredPorts([str(path)])) as ports:
        await next_events(ports, 1)
        os.close(cable.master)
        assert await next_events(ports, 1) == [(LEFT, str(path))]


async def test_a_path_whose_folder_is_made_later_arrives(tmp_path):
    path = tmp_path / "later" / "slot1"
    with closing(ConfiguredPorts([str(path)])) as ports:
        path.parent.mkdir()
        cable = Cable(path)
        begin = asyncio.get_running_loop().time()
        assert await next_events(ports, 1) == [(ARRIVED, str(path))]
        assert asyncio.get_running_loop().time() - begin < 2 * POLL_SECONDS
    cable.unplug()


async def test_use_of_a_port_is_no_event(tmp_path):
    path = tmp_path / "slot1"
    cable = Cable(path)
    with closing(ConfiguredPorts([str(path)])) as ports:
        await next_events(ports, 1)
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
        os.write(descriptor, b"x")
        os.close(descriptor)
        (tmp_path / "other").touch()
        await nothing_comes(ports)
    cable.unplug()


async def test_nothing_is_polled_while_all_is_there(tmp_path):
    path = tmp_path / "slot1"
    cable = Cable(path)
    with closing(ConfiguredPorts([str(path), str(tmp_path / "absent but watched")])) as ports:
        assert ports._poll is None
    cable.unplug()


async def test_closed_ports_give_back_their_descriptors_and_end(tmp_path):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    ports = ConfiguredPorts([str(tmp_path / "slot1")])
    ports.close()
    ports.close()
    assert [event async for event in ports] == []
    assert descriptors() == before


# Several sources.


async def test_merged_sources_keep_their_own_order():
    first, second = ScriptedHotplug(), ScriptedHotplug()
    with closing(merge(first, second)) as both:
        first.plug("/dev/a")
        first.unplug("/dev/a")
        second.plug("/dev/b")
        events = await next_events(both, 3)
    assert [event for event in events if event[1] == "/dev/a"] == [(ARRIVED, "/dev/a"), (LEFT, "/dev/a")]
    assert (ARRIVED, "/dev/b") in events


async def test_merged_sources_end_when_all_end():
    first, second = ScriptedHotplug(), ScriptedHotplug()
    both = merge(first, second)
    first.plug("/dev/a")
    first.close()
    second.close()
    assert [event.device async for event in both] == ["/dev/a"]


async def test_no_source_ends_at_once():
    assert [event async for event in merge()] == []


class Place(NamedTuple):
    name: str
    port: str | None = None
    usb: str | None = None


async def test_a_line_without_usb_slots_watches_paths_only(tmp_path):
    with closing(hotplug_for([Place("1", port=str(tmp_path / "slot1"))])) as hotplug:
        assert isinstance(hotplug, ConfiguredPorts)


async def test_a_line_with_usb_slots_asks_the_kernel():
    with closing(hotplug_for([Place("1", usb="1-1:1.0")])) as hotplug:
        assert isinstance(hotplug, NetlinkHotplug)


async def test_a_line_with_both_gets_both(tmp_path):
    path = tmp_path / "slot1"
    cable = Cable(path)
    with closing(hotplug_for([Place("1", port=str(path)), Place("2", usb="1-1:1.0")])) as hotplug:
        devices = {str(path)}
        async with asyncio.timeout(5):
            async for event in hotplug:
                devices.discard(event.device)
                if not devices:
                    break
    cable.unplug()
