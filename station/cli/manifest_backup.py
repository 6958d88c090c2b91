"""``station manifest backup``, ``restore-drill`` and ``doctor``."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import click

from station.checks.findings import Level
from station.checks.manifest_file import compare, examine, examine_backup
from station.cli.commands import Command, config_option, json_option
from station.cli.findings import show
from station.cli.manifest_ledger import read_keys
from station.cli.output import print_json
from station.cli.root import EXIT_FAILURE
from station.config import Config, load
from station.errors import ManifestError
from station.ledger.verify import Keys
from station.manifest.backup import back_up, default_name

_key_option = click.option(
    "--key", "keys", multiple=True, metavar="FILE", help="Verify the ledger too, with this public key (or vkey)."
)


@click.command(
    "backup", cls=Command, examples=["station manifest backup /mnt/backup/", "station manifest backup copy.db --json"]
)
@click.argument("target", metavar="DEST")
@config_option
@json_option("Write one JSON object: path, size, events, at.")
def backup(target: str, config_path: str, *, as_json: bool) -> None:
    """Copy the manifest while the station works.

    DEST is a new file, or a folder, in which the copy is named by the time. The copy holds one moment; it is checked,
    flushed to the disk, and only then gets its name. Nothing is overwritten.
    """
    config = load(Path(config_path))
    destination = Path(target)
    folder = destination if target.endswith("/") else destination.parent
    if not folder.is_dir():
        raise ManifestError(
            f"there is no folder {folder}, so no backup was made; is the disk mounted? If it is, make the folder first",
            code="manifest.backup_unwritable",
        )
    if destination.is_dir():
        destination /= default_name(datetime.now(UTC))
    source = config.station.manifest
    if as_json or not sys.stderr.isatty():
        made = back_up(source, destination)
    else:
        with click.progressbar(length=1, label="copying", file=sys.stderr) as bar:

            def told(done: int, pages: int) -> None:
                bar.length = max(pages, 1)
                bar.update(done - bar.pos)

            made = back_up(source, destination, told)
    if as_json:
        print_json({"path": made.path, "size": made.size, "events": made.events, "at": made.at})
    else:
        click.echo(f"{made.path}: {made.size} bytes, {made.events} events, the last one of {made.at or 'never'}")


@click.command(
    "restore-drill",
    cls=Command,
    examples=["station manifest restore-drill /mnt/backup/manifest-20260101T120000Z.db --key ca/ledger.pem"],
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="BACKUP")
@config_option
@_key_option
@json_option("Write one JSON object a finding: check, level, text, advice.")
def restore_drill(file: Path, config_path: str, *, keys: Sequence[str], as_json: bool) -> None:
    """Examine a backup, restoring nothing.

    Tells whether it could be restored, and what would be lost. The copy is examined as 'station manifest doctor' does
    it, then compared with the manifest of this station. Exit 1 if the copy is damaged, or not one of this manifest. How
    to restore stands in docs/manifest.md.
    """
    config = load(Path(config_path))
    findings = chain(
        examine_backup(file, station_id=config.station.id, keys=_read(_keys(config, keys))),
        compare(file, config.station.manifest),
    )
    if Level.FAIL in show(findings, as_json=as_json):
        sys.exit(EXIT_FAILURE)


@click.command(
    "doctor", cls=Command, examples=["station manifest doctor", "station manifest doctor copy.db --key ca/ledger.pem"]
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@config_option
@_key_option
@json_option("Write one JSON object a finding: check, level, text, advice.")
def doctor(file: Path | None, config_path: str, *, keys: Sequence[str], as_json: bool) -> None:
    """Look for damage in a manifest.

    FILE is the manifest of this station if left out; another one needs no configuration. Length, pages, indexes,
    rules, gaps in the events, digests of certificates, budgets of orders, the checkpoint beside the file, and whose it
    is; with --key also the ledger, which finds every changed byte. Nothing is changed, and a station may be at work.
    Exit 1 if anything fails.
    """
    config = load(Path(config_path)) if file is None or Path(config_path).exists() else None
    named = list(keys) if config is None or file is not None else _keys(config, keys)
    path = config.station.manifest if file is None and config is not None else file
    assert path is not None  # noqa: S101 - for mypy: without a file there is a configuration
    station_id = None if config is None else config.station.id
    if Level.FAIL in show(examine(path, station_id=station_id, keys=_read(named)), as_json=as_json):
        sys.exit(EXIT_FAILURE)


def _read(paths: Sequence[str]) -> Keys:
    return read_keys(paths) if paths else ()


def _keys(config: Config, keys: Sequence[str]) -> list[str]:
    """Return the keys that were named, or the ledger's of this station where it lies beside the CA's certificate."""
    beside = config.ca.certificate.with_name("ledger.pem")
    return list(keys) or ([str(beside)] if beside.exists() else [])
