from typing import NamedTuple

import pytest

from station.errors import ConfigError
from station.ports.event import PortEvent, PortEventKind
from station.ports.slots import SlotMap


class Place(NamedTuple):
    name: str
    port: str | None = None
    usb: str | None = None


def arrival(device, usb=None):
    return PortEvent(PortEventKind.ARRIVED, device, usb)


LINE = SlotMap(
    [
        Place("1", usb="1-1.1:1.0"),
        Place("2", usb="1-1.2:1.0"),
        Place("whole device", usb="1-1.3"),
        Place("its second", usb="1-1.3:1.2"),
        Place("second UART", usb="1-1.4:1.0+1"),
        Place("path", port="/run/station/slot5"),
        Place("url", port="socket://host:4000"),
    ]
)


@pytest.mark.parametrize(
    ("event", "slot"),
    [
        (arrival("/dev/ttyUSB7", "1-1.1:1.0"), "1"),
        (arrival("/dev/ttyUSB0", "1-1.2:1.0"), "2"),
        (arrival("/dev/ttyACM0", "1-1.3:1.0"), "whole device"),
        (arrival("/dev/ttyACM1", "1-1.3:1.2"), "its second"),
        (arrival("/dev/ttyCH9344USB1", "1-1.4:1.0+1"), "second UART"),
        (arrival("/dev/ttyCH9344USB0", "1-1.4:1.0"), None),
        (arrival("/dev/ttyUSB3", "1-1.1:1.1"), None),
        (arrival("/dev/ttyUSB3", "1-1.11:1.0"), None),
        (arrival("/dev/ttyUSB3", "2-1.1:1.0"), None),
        (arrival("/run/station/slot5"), "path"),
        (arrival("/run/station/../station/slot5"), "path"),
        (arrival("/run/station/slot55"), None),
        (arrival("socket://host:4000"), "url"),
        (arrival("/dev/ttyS0"), None),
    ],
)
def test_a_port_belongs_to_the_slot_of_its_place(event, slot):
    assert LINE.slot_of(event) == slot


def test_a_leaving_port_belongs_to_the_same_slot():
    assert LINE.slot_of(PortEvent(PortEventKind.LEFT, "/dev/ttyUSB7", "1-1.1:1.0")) == "1"


@pytest.mark.parametrize(
    "places",
    [
        [Place("1", usb="1-1:1.0"), Place("2", usb="1-1:1.0")],
        [Place("1", port="/dev/ttyS0"), Place("2", port="/dev/../dev/ttyS0")],
        [Place("1", port="/dev/ttyS0"), Place("1", port="/dev/ttyS1")],
    ],
)
def test_two_slots_with_one_name_or_place_are_refused(places):
    with pytest.raises(ConfigError, match="correct one of them") as refused:
        SlotMap(places)
    assert refused.value.code == "config.duplicate_slot"


def test_a_slot_without_a_place_is_refused():
    with pytest.raises(ConfigError, match="neither port nor usb"):
        SlotMap([Place("1")])
