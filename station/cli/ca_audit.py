"""``station ca audit``."""

import sys
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from hsm.audit import accept
from hsm.journal import CaJournal
from station.checks.audit import Audit, answer_journals
from station.cli.commands import command, config_option, json_option
from station.cli.findings import show
from station.cli.output import print_json
from station.cli.root import EXIT_FAILURE
from station.config import Config, load
from station.manifest import Manifest


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
@click.option(
    "--accept",
    "reason",
    metavar="REASON",
    help="Answer for the differences, and for tries that did not reach the token, for ever; needs a reason.",
)
@json_option("Write one JSON object a key, with its differences.")
def audit(*, config_path: str, certificates: tuple[str, ...], reason: str | None, as_json: bool) -> None:
    """Compare signatures with the records.

    The signer counts each signature before it asks the token; manifest and CA journal write each try before they ask
    the signer. Exit 1 if a key signed something that no record knows of, or a record holds something that was not
    counted, or rows of the CA's journal are missing or changed. Works while the station runs; --accept needs it to
    stand still.
    """
    config = load(Path(config_path))
    with ExitStack() as held:
        journal = None if reason is None else _hold(config, held)
        result = Audit(config, [Path(path) for path in certificates])
        if as_json:
            for key in result.keys:
                print_json({**asdict(key), "tries": key.tries, "certain": key.certain, "unasked": key.unasked})
            for finding in (*result.foreign, *result.faults):
                print_json(finding)
        else:
            show(result.findings(), as_json=False)
        if journal is not None and reason is not None:
            journal.perform_blocking(partial(accept, keys=result.keys, reason=reason))
            click.echo("accepted, and on record: the next audit begins here", err=as_json)
    if result.faults or (reason is None and any(key.differences for key in result.keys)):
        sys.exit(EXIT_FAILURE)


def _hold(config: Config, held: ExitStack) -> CaJournal:
    """Keep everybody from signing: a try on its way to the token would be closed too.

    Raises:
        ManifestError, JournalError: somebody is at work; names the process.
    """
    if config.station.manifest.exists():
        held.enter_context(Manifest.open(config.station.manifest))
    for path in answer_journals(config):
        held.enter_context(CaJournal.open(path))
    return held.enter_context(CaJournal.open(config.ca.journal))
