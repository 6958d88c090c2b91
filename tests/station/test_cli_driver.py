"""``station driver``: checking driver files, and trying drivers on a board."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_tools.build import build_device

STATION = Path(sys.executable).with_name("station")
BUILD = Path(__file__).parents[2] / "build"


def station(*arguments, cwd):
    return subprocess.run([STATION, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def widget(tmp_path):
    """A virtual board with the home-made shell, and its tty."""
    program = build_device(BUILD)
    command = [program, "--storage", tmp_path / "board", "--hardware-id", "E8F1-7C0A", "--model", "widget"]
    command += ["--persona", "home-made", "--pty", tmp_path / "tty"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()  # the link is there
        yield tmp_path / "tty"
        process.kill()


def test_the_example_can_be_begun_with(tmp_path):
    printed = station("driver", "example", cwd=tmp_path)
    (tmp_path / "widget.toml").write_text(printed.stdout)
    done = station("driver", "lint", "widget.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "widget.toml: nothing is wrong\n")


def test_faults_are_lines_with_a_number_and_a_failure(tmp_path):
    (tmp_path / "bad.toml").write_text("about = \"x\"\n[console]\ndone = '.*'\nlimit = 9\n")
    done = station("driver", "lint", "bad.toml", "--json", cwd=tmp_path)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert {3, 4} <= {problem["line"] for problem in found}


def test_trying_changes_nothing_unless_told(widget, tmp_path):
    (tmp_path / "widget.toml").write_text(station("driver", "example", cwd=tmp_path).stdout)
    done = station("driver", "try", "widget.toml", "--port", widget, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "> id" in done.stdout
    assert "identify: E8F1-7C0A, widget, firmware 1.0.0, holds no certificate" in done.stdout
    assert "> csr" not in done.stdout


def test_trying_all_proves_the_key_once_and_then_refuses_the_board(widget, tmp_path):
    (tmp_path / "widget.toml").write_text(station("driver", "example", cwd=tmp_path).stdout)
    first = station("driver", "try", "widget.toml", "--port", widget, "--reach", "all", cwd=tmp_path)
    assert "prove: a signature over a fresh challenge" in first.stdout
    second = station("driver", "try", "widget.toml", "--port", widget, "--reach", "all", cwd=tmp_path)
    assert second.returncode == 1
    assert "take a blank board" in second.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("try", "smpp", "--port", "/dev/null"), "there is no driver 'smpp'; did you mean 'smp'?"),
        (("try", "nothing.toml", "--port", "/dev/null"), "can't read driver file"),
        (("try", "smp", "--port", "/dev/null"), "/dev/null"),
        (("try", "smp"), "missing option '--port'"),
        (("lint",), "missing argument"),
        (("example", "nothing"), "known: home-made, zephyr-tls"),
    ],
)
def test_what_can_not_be_done_is_one_clear_line(tmp_path, arguments, said):
    done = station("driver", *arguments, cwd=tmp_path)
    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert "Traceback" not in done.stderr


PACKAGE = """\
def make(link, product):
    return (link, product)

broken = 7
"""


@pytest.fixture
def with_package(tmp_path, monkeypatch):
    """Put a package with drivers onto the path, as pip would install it."""
    (tmp_path / "acme_driver.py").write_text(PACKAGE)
    info = tmp_path / "acme_driver-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-driver\nVersion: 1.0\n")
    points = (
        "acme = acme_driver:make\nbroken = acme_driver:broken\nmissing = acme_nothing:make\nsmp = acme_driver:make\n"
    )
    (info / "entry_points.txt").write_text(f"[provisioning_station.drivers]\n{points}")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_package_brings_a_driver(with_package):
    from station.config.languages import installed_drivers, known_drivers  # noqa: PLC0415  # with the package there
    from station.line.drivers import driver_maker  # noqa: PLC0415

    assert driver_maker("acme")("link", "product") == ("link", "product")
    assert "smp" not in installed_drivers()
    assert "acme" in known_drivers()


@pytest.mark.parametrize(("name", "said"), [("broken", "can't be called"), ("missing", "can't be imported")])
def test_a_package_that_can_not_be_used_is_named(with_package, name, said):
    from station.errors import ConfigError  # noqa: PLC0415
    from station.line.drivers import driver_maker  # noqa: PLC0415

    with pytest.raises(ConfigError, match=said):
        driver_maker(name)
