"""``station manifest exports``, ``import-receipt``, ``import-list`` and ``lists``."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from station.cli.commands import Command, config_option, json_option
from station.cli.output import print_columns, print_json
from station.cli.root import EXIT_FAILURE
from station.config import load
from station.errors import StationError
from station.imports.lists import Fault, read_list
from station.imports.matching import Matched, Part, match
from station.imports.receipts import read_receipt
from station.line.asked_book import opened_book
from station.manifest import ManifestReader
from station.manifest.handing import Outcome, export_of, taken
from station.manifest.handing import exports as all_exports
from station.manifest.handing import lists as all_lists

_SHOWN: Final = 1000
"""Bad rows that are named one by one."""


@click.command("exports", cls=Command, examples=["station manifest exports"])
@config_option
@json_option("Write one JSON object an export.")
def exports(config_path: str, *, as_json: bool) -> None:
    """List what was handed out.

    When, to whom, how many units, and what came back.
    """
    with ManifestReader(load(Path(config_path)).station.manifest) as reader:
        found = list(all_exports(reader))
    if as_json:
        for one in found:
            print_json(one)
        return
    rows = [
        (
            *(str(one.id), one.target, one.recipient, one.handed_at or "never: begun and not finished"),
            *(str(count) for count in (one.units, one.accepted, one.rejected)),
        )
        for one in found
    ]
    print_columns(("export", "target", "to", "handed out", "units", "accepted", "rejected"), rows)


@click.command(
    "import-receipt",
    cls=Command,
    examples=[
        "station manifest import-receipt results.csv --export 3",
        "station manifest import-receipt errors.json --export 3 --file 2 --rest accepted",
    ],
)
@click.argument("receipt", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
@config_option
@click.option("--export", "export_id", type=click.IntRange(1), required=True, help="Which export it is about.")
@click.option("--file", "file", type=click.IntRange(1), help="Which of its files, where the receipt counts rows.")
@click.option(
    "--rest",
    type=click.Choice([outcome.value for outcome in Outcome]),
    help="What became of the units that it does not name.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be written.")
@json_option("Write one JSON object: accepted, rejected, new, faults.")
def import_receipt(  # noqa: PLR0913 (one option each)
    receipt: Path,
    config_path: str,
    *,
    export_id: int,
    file: int | None,
    rest: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take what a cloud said about an export.

    Each unit gets its answer in its history: accepted, or rejected and why. The forms are told in docs/cloud.md. A unit
    that the export does not hold is named with its line; nothing is written then (exit 1).
    """
    config = load(Path(config_path))
    read = read_receipt(receipt)
    with ManifestReader(config.station.manifest) as reader:
        export = export_of(reader, export_id)
        if export.handed_at is None:
            raise StationError(f"export {export_id} was never handed out", code="import.not_handed")
        found = match(reader, export, read, Part(file, None if rest is None else Outcome(rest)))
    new = 0
    if not found.faults and not dry_run and found.verdicts:
        with opened_book(config.station.manifest) as book:
            new = book.receive(export_id=export_id, verdicts=found.verdicts, source=read.sha256)
    _tell(receipt, read.form, found, new, dry_run=dry_run, as_json=as_json)


def _tell(path: Path, form: str, found: Matched, new: int, *, dry_run: bool, as_json: bool) -> None:  # noqa: PLR0913
    rejected = sum(verdict.outcome is Outcome.REJECTED for verdict in found.verdicts)
    accepted = len(found.verdicts) - rejected
    if as_json:
        print_json(
            {"form": form, "accepted": accepted, "rejected": rejected, "new": new, "faults": _plain(found.faults)}
        )
    else:
        written = "nothing was written" if found.faults or dry_run else f"{new} new"
        click.echo(f"{path}: {accepted} accepted, {rejected} rejected; {written}")
        _name(path, found.faults)
    if found.faults:
        sys.exit(EXIT_FAILURE)


@click.command(
    "import-list",
    cls=Command,
    examples=[
        "station manifest import-list labels.csv --name ROLL-0007 --dry-run",
        "station manifest import-list labels.csv --name ROLL-0007 --ignore printed_on",
    ],
)
@click.argument("table", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
@config_option
@click.option("--name", required=True, help="Name of the list: the roll, the delivery.")
@click.option("--ignore", multiple=True, metavar="COLUMN", help="A column to pass over; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Only name the bad rows.")
@json_option("Write one JSON object: rows, faults, list.")
def import_list(  # noqa: PLR0913 (one option each)
    table: Path, config_path: str, *, name: str, ignore: tuple[str, ...], dry_run: bool, as_json: bool
) -> None:
    """Take a list of serials, MACs and IMEIs.

    A CSV file whose first line names the columns: product_serial, mac, imei. Each bad row is named with its line; if
    there is one, nothing is imported (exit 1). 'station manifest lists' tells how far each list is used up.
    """
    config = load(Path(config_path))
    if not 0 < len(name) <= 64 or not (name.isascii() and name.isprintable()):  # noqa: PLR2004 - as the schema has it
        raise StationError(f"--name {name!r}: a list has a name of 1 to 64 printable ASCII characters")
    read = read_list(table, ignore=ignore)
    with ManifestReader(config.station.manifest) as reader:
        clashes = [Fault(line, text) for line, text in taken(reader, read.rows)]
    faults = sorted((*read.faults, *clashes), key=lambda fault: fault.line)
    if not faults and not read.rows:
        raise StationError(f"{table}: has no rows below its first line", code="import.malformed")
    number = None
    if not faults and not dry_run:
        rows = [row for _, row in read.rows]
        with opened_book(config.station.manifest) as book:
            number = book.add_list(name=name, rows=rows, source=read.sha256)
    if as_json:
        print_json({"rows": len(read.rows), "faults": _plain(faults), "list": number})
    else:
        bad = len({fault.line for fault in faults})
        done = "nothing was imported" if number is None else f"imported as list {number}, {name}"
        click.echo(f"{table}: {len(read.rows)} good rows in form, {bad} bad ones; {done}")
        _name(table, faults)
    if faults:
        sys.exit(EXIT_FAILURE)


@click.command("lists", cls=Command, examples=["station manifest lists"])
@config_option
@json_option("Write one JSON object a list.")
def lists(config_path: str, *, as_json: bool) -> None:
    """Show imported lists.

    And how far each is used up: a row is used when a unit has its product serial, or has its IMEI as hardware id.
    """
    with ManifestReader(load(Path(config_path)).station.manifest) as reader:
        found = list(all_lists(reader))
    if as_json:
        for one in found:
            print_json(one)
        return
    rows = [(one.name, str(one.rows), str(one.used), str(one.rows - one.used), one.at) for one in found]
    print_columns(("list", "rows", "used", "left", "imported"), rows)


def _plain(faults: Sequence[Fault]) -> list[dict[str, object]]:
    return [{"line": fault.line, "text": fault.text} for fault in faults]


def _name(path: Path, faults: Sequence[Fault]) -> None:
    for fault in faults[:_SHOWN]:
        click.echo(f"{path}:{fault.line}: {fault.text}", err=True)
    if len(faults) > _SHOWN:
        click.echo(f"{path}: and {len(faults) - _SHOWN} more; --json tells all", err=True)
