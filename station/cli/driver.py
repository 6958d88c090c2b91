"""``station driver``."""

import asyncio
import sys
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Final

import click

from firmware_tools.provisioning import Locks
from station.cli.commands import Group, json_option
from station.cli.output import print_columns, print_json
from station.cli.root import EXIT_FAILURE
from station.config.languages import DRIVER_FILE, DRIVERS, EXAMPLES, installed_drivers
from station.config.product import MAX_SEC_TAG, SEC_TAG, ProductSection
from station.config.section import nearest
from station.devices.description_file import problems
from station.errors import ConfigError, StationError
from station.line.drivers import driver_maker
from station.ports.link import open_link
from station.testing.exercise import Reach, exercise

ABOUT: Final = {
    "smp": "the provisioning group over SMP: the reference device and what is built on it",
    "nordic_at": "AT commands of Nordic's nRF91 modems",
    "zephyr_shell": "a Zephyr shell with nrf_cloud_cred and cred",
}
"""What each of our drivers is for."""

SHOWN: Final = 160
"""Characters of a line on the wire that are shown."""


@click.group("driver", cls=Group, examples=["station driver lint widget.toml", "station driver list"])
def driver() -> None:
    """Try and check the languages of boards.

    A slot names one: a driver of the station, a driver file, or one that another Python package brings.
    """


@driver.command("list", examples=["station driver list", "station driver list --json"])
@json_option("Write one JSON object a driver: driver, about.")
def list_drivers(*, as_json: bool) -> None:
    """List the languages for slots.

    The last ones are examples of driver files.
    """
    rows = [(name, ABOUT[name]) for name in DRIVERS]
    rows += [(name, f"from {point.value}") for name, point in installed_drivers().items()]
    rows += [(str(path), "an example of a driver file") for path in _examples().values()]
    if as_json:
        for name, about in rows:
            print_json({"driver": name, "about": about})
    else:
        print_columns(("DRIVER", "ABOUT"), rows)


@driver.command("example", examples=["station driver example home-made > widget.toml"])
@click.argument("name", default="home-made")
def example(name: str) -> None:
    """Print an example of a driver file."""
    found = _examples().get(name)
    if found is None:
        raise ConfigError(f"there is no example '{name}'; {nearest(name, _examples())}")
    click.echo(found.read_text(), nl=False)


@driver.command("lint", examples=["station driver lint widget.toml", "station driver lint drivers/*.toml"])
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@json_option("Write one JSON object a problem: file, line, text.")
def lint(files: tuple[Path, ...], *, as_json: bool) -> None:
    """Check driver files.

    Keys, patterns, and whether they describe a whole board. Prints each problem with its line and what to write
    instead. Exit 1 if there is any.
    """
    is_wrong = False
    for path in files:
        found = problems(path)
        is_wrong = is_wrong or bool(found)
        for problem in found:
            if as_json:
                facts = problem.facts
                line = int(facts["line"]) if facts.get("line", "").isdigit() else None
                print_json({"file": str(path), "line": line, "text": str(problem)})
            else:
                click.echo(str(problem))
        if not found and not as_json:
            click.echo(f"{path}: nothing is wrong")
    if is_wrong:
        sys.exit(EXIT_FAILURE)


@driver.command(
    "try",
    examples=[
        "station driver try widget.toml --port /dev/ttyUSB0",
        "station driver try zephyr_shell --port /dev/ttyACM0 --reach all",
    ],
)
@click.argument("language", metavar="DRIVER")
@click.option("--port", required=True, help="A tty, socket://host:port or rfc2217://host:port.")
@click.option("--baud", default=115200, show_default=True, type=click.IntRange(min=1), help="Bits a second.")
@click.option("--tag", default=SEC_TAG, show_default=True, type=click.IntRange(0, MAX_SEC_TAG), help="Security tag.")
@click.option(
    "--reach",
    type=click.Choice([reach.value for reach in Reach]),
    default=Reach.IDENTIFY.value,
    show_default=True,
    help="identify: change nothing. key: let the board make its key. all: install a worthless certificate too.",
)
def try_driver(language: str, port: str, baud: int, tag: int, reach: str) -> None:
    """Speak to one board, live.

    DRIVER is a name of 'station driver list' or a driver file. Lines that begin with > go to the board, lines with <
    come from it. With --reach all, a blank board is taken through all steps with a certificate of a CA that exists for
    this one run only; such a board is no product until it is erased.
    """
    maker = driver_maker(str(Path(language).absolute()) if language.endswith(DRIVER_FILE) else language)
    product = ProductSection("any", None, None, Locks.NONE, sec_tag=tag)

    async def talk() -> None:
        with closing(await open_link(port, baud, transcript=_LiveTape())) as link:
            async for step in exercise(maker(link, product), reach=Reach(reach)):
                click.secho(f"{step.verb}: {step.saying}", bold=True)

    try:
        asyncio.run(talk())
    except StationError as error:
        for name, value in error.facts.items():
            click.echo(f"  {name}: {value}", err=True)
        raise


def _examples() -> dict[str, Path]:
    return {path.stem: path for path in sorted(EXAMPLES.glob(f"*{DRIVER_FILE}"))}


class _LiveTape:
    """Shows what goes over the wire, a line at a time."""

    def __init__(self) -> None:
        self._began = monotonic()
        self._rest = {">": b"", "<": b""}

    def sent(self, data: bytes) -> None:
        self._show(">", data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))

    def received(self, data: bytes) -> None:
        self._show("<", data)

    def close(self) -> None:
        for direction, rest in self._rest.items():
            self._print(direction, rest)

    def _show(self, direction: str, data: bytes) -> None:
        *lines, self._rest[direction] = (self._rest[direction] + data).split(b"\n")
        for line in lines:
            self._print(direction, line)

    def _print(self, direction: str, line: bytes) -> None:
        text = repr(line.rstrip(b"\r"))[2:-1]  # I8: nothing of a board's reaches the terminal as it is
        if text:
            shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"
            click.echo(f"{monotonic() - self._began:8.3f} {direction} {shown}")
