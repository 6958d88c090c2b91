"""``station slots``, on a sysfs in a folder: this machine's ports are not ours to plug."""

import json
import tomllib

import pytest
from click.testing import CliRunner

from station.cli import slots as command
from station.cli.root import root
from station.config.folder import configuration, stanza
from station.ports.adapters import product_name
from station.ports.event import PortEvent, PortEventKind

PORTS = [
    PortEvent(PortEventKind.ARRIVED, "/dev/ttyUSB0", "1-1.2:1.0"),
    PortEvent(PortEventKind.ARRIVED, "/dev/ttyUSB1", "1-1.3:1.0"),
    PortEvent(PortEventKind.ARRIVED, "/dev/ttyS0", None),
]


@pytest.fixture(autouse=True)
def plugged_in(monkeypatch):
    monkeypatch.setattr(command, "present_ports", lambda: iter(PORTS))


@pytest.fixture
def station(tmp_path, monkeypatch):
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(root, arguments)
        assert result.exit_code == 0, result.output
        return result

    return run


def configure(tmp_path, slots):
    (tmp_path / "station.toml").write_text(configuration(name="x", slots=slots))


def test_list_shows_ports_without_a_configuration(station):
    lines = station("slots", "list").stdout.splitlines()

    assert [line.split()[:3] for line in lines[1:]] == [
        ["-", "/dev/ttyUSB0", "1-1.2:1.0"],
        ["-", "/dev/ttyUSB1", "1-1.3:1.0"],
        ["-", "/dev/ttyS0", "-"],
    ]


def test_list_shows_which_slot_a_port_belongs_to(station, tmp_path):
    configure(tmp_path, '[[slot]]\nname = "left"\nusb = "1-1.3"\n')

    ports = map(json.loads, station("slots", "list", "--json").stdout.splitlines())

    assert {port["port"]: port["slot"] for port in ports} == {
        "/dev/ttyUSB0": None,
        "/dev/ttyUSB1": "left",
        "/dev/ttyS0": None,
    }


def test_suggest_prints_slots_that_parse(station):
    suggested = tomllib.loads(station("slots", "suggest").stdout)

    assert suggested == {
        "slot": [
            {"name": "1", "usb": "1-1.2:1.0", "baud": 115200},
            {"name": "2", "usb": "1-1.3:1.0", "baud": 115200},
            {"name": "3", "port": "/dev/ttyS0", "baud": 115200},
        ]
    }


def test_suggest_leaves_out_slots_that_are_there_and_their_names(station, tmp_path):
    configure(tmp_path, '[[slot]]\nname = "2"\nusb = "1-1.3"\n')

    suggested = tomllib.loads(station("slots", "suggest").stdout)

    assert [(slot["name"], slot.get("usb")) for slot in suggested["slot"]] == [("1", "1-1.2:1.0"), ("3", None)]


def test_suggest_helps_to_write_a_configuration_without_slots(station, tmp_path):
    configure(tmp_path, "")

    result = station("slots", "suggest")

    assert "there is no [[slot]]" in result.stderr
    assert len(tomllib.loads(result.stdout)["slot"]) == 3


def test_nothing_plugged_in_is_said_on_stderr(station, monkeypatch):
    monkeypatch.setattr(command, "present_ports", lambda: iter(()))

    result = station("slots", "list")

    assert (result.stdout, result.stderr) == ("", "no serial port is plugged in\n")


def test_a_product_name_can_not_end_the_comment_it_stands_in(tmp_path, monkeypatch):
    monkeypatch.setattr("station.config.folder.product_name", lambda _: "evil\\n")
    port = PortEvent(PortEventKind.ARRIVED, "/dev/ttyUSB0", "1-1.2:1.0")

    assert tomllib.loads(stanza(port, name="1"))["slot"] == [{"name": "1", "usb": "1-1.2:1.0", "baud": 115200}]


def test_a_product_name_is_escaped(tmp_path):
    device = tmp_path / "devices" / "usb1" / "1-1"
    tty = device / "1-1:1.0" / "ttyUSB0" / "tty" / "ttyUSB0"
    tty.mkdir(parents=True)
    (device / "idVendor").write_text("0403\n")
    (device / "product").write_text("UART\n\x1b[2J\n")
    (tmp_path / "class" / "tty").mkdir(parents=True)
    (tmp_path / "class" / "tty" / "ttyUSB0").symlink_to(tty)

    assert product_name(PORTS[0], tmp_path) == "UART\\n\\x1b[2J"


def test_a_port_without_usb_has_no_product_name(tmp_path):
    assert product_name(PORTS[2], tmp_path) == ""
