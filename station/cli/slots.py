"""``station slots``."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from station.cli.commands import Group, config_option, json_option
from station.cli.output import print_columns, print_json
from station.config import SlotConfig, load
from station.config.folder import stanza
from station.errors import ConfigError, StationError
from station.line.control import NOBODY, ask
from station.ports.adapters import product_name
from station.ports.slots import SlotMap
from station.ports.uevent import present_ports


@click.group("slots", cls=Group, examples=["station slots list", "station slots suggest >> station.toml"])
def slots() -> None:
    """Show the ports that boards are plugged into.

    A slot is best named by its USB path, the socket of the hub that its cable is plugged into: it stays the same
    whatever else is plugged in, and in whatever order.
    """


@slots.command("list", examples=["station slots list", "station slots list --json"])
@config_option
@json_option("Write one JSON object a port: port, usb, product, slot.")
def list_ports(config_path: str, *, as_json: bool) -> None:
    """List the serial ports that are plugged in.

    Each with its USB path, what it calls itself, and the slot it belongs to. Works without a station.toml too; then no
    port has a slot.
    """
    places = SlotMap(_slots(config_path))
    ports = [
        {
            "port": port.device,
            "usb": port.usb,
            "product": product_name(port),
            "slot": places.slot_of(port),
        }
        for port in present_ports()
    ]
    if as_json:
        for entry in ports:
            print_json(entry)
    elif ports:
        print_columns(
            ("SLOT", "PORT", "USB", "PRODUCT"),
            [tuple(entry[key] or "-" for key in ("slot", "port", "usb", "product")) for entry in ports],
        )
    else:
        click.echo("no serial port is plugged in", err=True)


@slots.command("suggest", examples=["station slots suggest", "station slots suggest >> station.toml"])
@config_option
def suggest(config_path: str) -> None:
    """Print a [[slot]] for each port that has none.

    Plug in all cables of the line, append the output to station.toml, and give the slots the names that stand on the
    fixture.
    """
    known = _slots(config_path)
    places = SlotMap(known)
    new = [port for port in present_ports() if places.slot_of(port) is None]
    for name, port in zip(_free_names(known), new, strict=False):
        click.echo(stanza(port, name=name))
    if not new:
        click.echo("no serial port is plugged in that is not a slot's already", err=True)


def _free_names(slots: Iterable[SlotConfig]) -> Iterator[str]:
    """Yield the numbers from 1 on that are no slot's name."""
    taken = {slot.name for slot in slots}
    return (str(number) for number in itertools.count(1) if str(number) not in taken)


@slots.command("release", examples=["station slots release 3", "station slots release"])
@click.argument("slot", required=False)
@config_option
@json_option("Write one JSON object: released, the names of the slots that go on.")
def release(slot: str | None, config_path: str, *, as_json: bool) -> None:
    """Let slots that stopped go on.

    The one that is named, or all. For the station that runs, once what stopped it is put right: a bad fixture, a copied
    board, an HSM that signed wrongly (docs/engineer.md). A board that is still in the slot is begun again. Starting the
    station anew does the same.
    """
    manifest = load(Path(config_path)).station.manifest
    try:
        released = ask(manifest, {"do": "release", "slot": slot})["released"]
    except StationError as error:
        if error.code != NOBODY:
            raise
        raise StationError(
            "no station runs here, so no slot is stopped: all of them go on when 'station run' starts. (For the "
            "station of another folder add --config.)",
            code=error.code,
        ) from error
    if as_json:
        print_json({"released": released})
    elif released:
        click.echo(f"released: slot {', '.join(released)}")
    else:
        click.echo("no slot had stopped")


def _slots(path: str) -> tuple[SlotConfig, ...]:
    """Return the slots of a configuration; none if it is not there, or wrong: these commands help to write it."""
    if not Path(path).exists():
        return ()
    try:
        return load(Path(path)).slots
    except ConfigError as error:
        click.echo(f"station: no slots are known yet: {error}", err=True)
        return ()
