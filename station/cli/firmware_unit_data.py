"""``station firmware unit-data``: the file with the data of one unit, as the line would make it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from firmware_tools.bundles.bundle import Contents, UnitFile, read_contents
from firmware_tools.bundles.manifest import UnitFormat
from firmware_tools.unit_files import FACTS, Fact, UnitFacts, Value, make_unit_file, values_of
from firmware_tools.unit_files.esp_nvs import as_csv
from firmware_tools.unit_files.matter_setup import new_setup
from hsm.files import write_new
from station.cli.commands import command, config_option, json_option
from station.cli.output import print_columns, print_json
from station.config import load
from station.errors import StationError, printable
from station.firmware_keys import FirmwareError
from station.manifest import ManifestReader
from station.unit_facts import facts_of

_SHOWN: Final = 48
"""Characters of a value in the table."""

_EXAMPLES: Final = (
    "station firmware unit-data sensor-1.4.2.bundle --fact product_serial=SN000001",
    "station firmware unit-data sensor-1.4.2.bundle --unit SN000001 -c line-1/station.toml --out factory-data.bin",
)


@command("unit-data", examples=_EXAMPLES)
@click.argument("bundle", type=click.Path(dir_okay=False))
@click.option("--unit", metavar="ID", help="A unit on record: its serial or hardware id.")
@click.option("--fact", "said", multiple=True, metavar="NAME=VALUE", help="A fact, said here; bytes as hex. Repeated.")
@click.option("--matter", is_flag=True, help="Draw passcode, discriminator and verifier; they are of no unit.")
@click.option("--name", help="Which file, where the bundle has several.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the file; not one that holds secrets.")
@click.option(
    "--csv", "wants_csv", is_flag=True, help="esp-nvs: write the CSV that Espressif's and Matter's tools read."
)
@config_option
@json_option("Write one JSON object a value.")
def unit_data(  # noqa: PLR0913 - an option each
    bundle: str,
    *,
    unit: str | None,
    said: Sequence[str],
    matter: bool,
    name: str | None,
    out: str | None,
    wants_csv: bool,
    config_path: str,
    as_json: bool,
) -> None:
    """Look at the file with the data of one unit.

    A bundle describes it. Its values come from the manifest (--unit), or are said here. Secrets are neither shown nor
    written.
    """
    more = {**(new_setup().facts() if matter else {}), **dict(map(_fact, said))}
    unit_file = _chosen(read_contents(Path(bundle)), bundle, name)
    facts = _facts(unit, config_path, more)
    values = values_of(unit_file, facts)
    made = make_unit_file(unit_file, facts)
    if made.is_secret and (out is not None or wants_csv):
        raise FirmwareError(
            f"{unit_file.name} holds secrets of one unit, which never stand in a file; look at it without --out and "
            "--csv, or leave --matter out",
            code="firmware.secret",
        )
    if out is not None:
        try:
            write_new(Path(out), made.content)
        except FileExistsError:
            raise StationError(f"{out} is there already; name another file", code="file.exists") from None
    if wants_csv:
        if unit_file.format is not UnitFormat.ESP_NVS:
            raise click.UsageError(f"--csv is for esp-nvs, and {unit_file.name} is {unit_file.format.value}")
        click.echo(as_csv(values), nl=False)
        return
    if as_json:
        for value in values:
            print_json({"file": unit_file.name, "key": value.key, "type": value.type, "value": _plain(value)})
        return
    print_columns(("KEY", "TYPE", "VALUE"), [(one.key, one.type, _shown(one)) for one in values])
    # who knows all but a passcode of eight digits finds it by the hash
    digest = "it holds secrets" if made.is_secret else f"SHA-256 {made.sha256.hex()}"
    click.echo(
        f"{unit_file.name}: {unit_file.format.value}, {len(made.content)} bytes at {unit_file.address:#x}, {digest}"
        + (f", written to {out}" if out else "")
    )


def _chosen(contents: Contents, bundle: str, name: str | None) -> UnitFile:
    files = {one.name: one for one in contents.manifest.unit_files}
    if not files:
        raise FirmwareError(
            f"{bundle} has no data of units; its plan has no [[unit_data]]", code="firmware.no_unit_data"
        )
    if name is None and len(files) == 1:
        return next(iter(files.values()))
    if name not in files:
        raise FirmwareError(
            f"{bundle} has no unit data called {name!r}; name one with --name: {', '.join(files)}"
            if name
            else f"{bundle} has several files of unit data; name one with --name: {', '.join(files)}",
            code="firmware.no_unit_data",
        )
    return files[name]


def _facts(unit: str | None, config_path: str, said: Mapping[str, Fact]) -> UnitFacts:
    if unit is None:
        return UnitFacts(said)
    with ManifestReader(load(Path(config_path)).station.manifest) as manifest:
        history = manifest.unit(unit)
    if history is None:
        raise FirmwareError(
            f"no unit on record has the serial or hardware id {printable(unit)!r}; 'station unit list' shows them",
            code="unit.unknown",
        )
    return facts_of(history.unit, said)


def _fact(text: str) -> tuple[str, Fact]:
    name, is_there, value = text.partition("=")
    if not is_there or name not in FACTS:
        raise click.UsageError(f"--fact {text!r} is not NAME=VALUE with one of {', '.join(FACTS)}")
    try:
        return name, bytes.fromhex(value) if FACTS[name] is bytes else FACTS[name](value)
    except ValueError:
        wanted = "bytes as hexadecimal digits" if FACTS[name] is bytes else "a number"
        raise click.UsageError(f"--fact {name} is {wanted}, not {value!r}") from None


def _plain(value: Value) -> str | int | bytes | None:
    return None if value.is_secret else value.content


def _shown(value: Value) -> str:
    if value.is_secret:
        return "(secret)"
    text = value.content.hex() if isinstance(value.content, bytes) else str(value.content)
    return printable(text, _SHOWN)
