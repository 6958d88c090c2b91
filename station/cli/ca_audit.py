"""``station ca audit``."""

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from hsm.audit import accept
from hsm.journal import CaJournal
from station.checks.audit import Audit
from station.checks.findings import Level
from station.cli.commands import command, config_option, json_option
from station.cli.findings import show
from station.cli.output import print_json
from station.cli.root import EXIT_FAILURE
from station.config import load


@command(
    "audit",
    examples=[
        "station ca audit",
        "station ca audit --json --certificate ca/intermediate-2025.pem",
        "station ca audit --accept 'the ceremony of 12 May signed twice, see its transcript'",
    ],
)
@config_option
@click.option(
    "--certificate",
    "certificates",
    multiple=True,
    type=click.Path(dir_okay=False),
    help="Certificate of another key that signed here, like an issuer of an earlier year. May be given again.",
)
@click.option("--accept", "reason", metavar="REASON", help="Answer for the differences, for ever; needs a reason.")
@json_option("Write one JSON object a key, with its differences.")
def audit(*, config_path: str, certificates: tuple[str, ...], reason: str | None, as_json: bool) -> None:
    """Compare signatures with the records.

    The signer counts each signature before it asks the token; manifest and CA journal write each try before they ask
    the signer. Exit 1 if a key signed something that no record knows of, or a record holds something that was not
    counted. Works while the station runs.
    """
    config = load(Path(config_path))
    result = Audit(config, [Path(path) for path in certificates])
    different = [(key.spki_sha256, one.signatures) for key in result.keys for one in key.differences]
    if as_json:
        for key in result.keys:
            print_json({**asdict(key), "tries": key.tries, "certain": key.certain, "unasked": key.unasked})
        for finding in result.foreign:
            print_json(finding)
        found = bool(different)
    else:
        found = Level.FAIL in show(result.findings(), as_json=False)
    if found and reason:
        with CaJournal.open(config.ca.journal) as journal:
            journal.perform_blocking(partial(accept, differences=different, reason=reason))
        click.echo("accepted, and on record: the next audit begins here", err=as_json)
    elif found:
        sys.exit(EXIT_FAILURE)
