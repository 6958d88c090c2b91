"""``station manifest``."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from station.cli.commands import Group, config_option
from station.cli.manifest_backup import backup, doctor, restore_drill
from station.cli.manifest_export import COMMANDS, check_export, check_order, export_key
from station.cli.manifest_import import exports, import_list, import_receipt, lists
from station.cli.manifest_ledger import accept, check_proof, checkpoint, ledger_key, prove, verify_command
from station.config import load
from station.errors import StationError
from station.exports import csv, jsonl
from station.manifest import ManifestReader, UnitState

_ALL: Final = "all"


@click.group("manifest", cls=Group, examples=["station manifest export csv --output units.csv"])
def manifest() -> None:
    """Hand out what is on record, and prove it."""


for _command in (backup, restore_drill, doctor, ledger_key, checkpoint, accept, verify_command, prove, check_proof):
    manifest.add_command(_command)


for _command in (exports, export_key, check_export, import_receipt, import_list, lists):
    manifest.add_command(_command)


@manifest.group(
    "export",
    cls=Group,
    examples=["station manifest export csv --output units.csv", "station manifest export jsonl --order WO-1001"],
)
def export() -> None:
    """Write units for other systems.

    Those that passed, or others with --state. The columns are told in docs/manifest.md. It may be done while 'station
    run' works. A file is written whole or not at all: what was there before stays until the new one is complete.

    For clouds (all but csv and jsonl) a folder of files is made. With --to it is recorded who got which units, so that
    the next one holds what is new; that has to wait while 'station run' works. docs/cloud.md tells each.
    """


for _command in COMMANDS:
    export.add_command(_command)


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that all exports share."""
    options = (
        config_option,
        click.option("--output", "-o", type=click.Path(dir_okay=False), help="File to write, in place of stdout."),
        click.option(
            "--state",
            type=click.Choice([*(state.value for state in UnitState), _ALL]),
            default=UnitState.PASSED.value,
            show_default=True,
            help="Only units in this state.",
        ),
        click.option("--order", help="Only units of this order."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@export.command(
    "csv", examples=["station manifest export csv > units.csv", "station manifest export csv --state all -o all.csv"]
)
@_options
def export_csv(config_path: str, output: str | None, state: str, order: str | None) -> None:
    """Write units as a table (CSV)."""
    _export(csv.export, config_path, output=output, state=state, order=order)


@export.command("jsonl", examples=["station manifest export jsonl --order WO-1001 --output WO-1001.jsonl"])
@_options
def export_jsonl(config_path: str, output: str | None, state: str, order: str | None) -> None:
    """Write units as JSON lines."""
    _export(jsonl.export, config_path, output=output, state=state, order=order)


def _export(write: Callable[..., int], config_path: str, *, output: str | None, state: str, order: str | None) -> None:
    config = load(Path(config_path))
    with ManifestReader(config.station.manifest) as reader:
        check_order(reader, order)
        units = reader.export(state=None if state == _ALL else UnitState(state), order=order)
        if output is None:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8", errors="strict", newline="")  # the same bytes as in a file
            write(units, sys.stdout)
            return
        if any(Path(output).resolve() == path.resolve() for path in (config.station.manifest, config.path)):
            raise StationError(f"{output} is the manifest or the configuration itself; name another file")
        count = write(units, Path(output))
    click.echo(f"wrote {count} units to {output}", err=True)
