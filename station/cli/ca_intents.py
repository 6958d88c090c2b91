"""``station ca intents`` and ``station ca give-up``: certificates that were to be signed, and are not on record."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from hsm.errors import printable
from hsm.journal import IssuanceRecord, IssuanceState, JournalReader
from station.cli.ca_journal import open_journal, parse_serial
from station.cli.commands import Command, config_option, json_option
from station.cli.output import print_columns, print_json
from station.config import Config, load
from station.errors import StationError

_HEADINGS = ("serial", "since", "tries", "profile", "batch", "request", "subject")


@click.command("intents", cls=Command, examples=["station ca intents", "station ca intents --batch 2026-07 --json"])
@config_option
@click.option("--batch", metavar="NAME", help="Only those of a batch.")
@json_option("Write one JSON object a certificate.")
def intents_command(*, config_path: str, batch: str | None, as_json: bool) -> None:
    """List certificates that are unfinished.

    They were to be signed, and are not on record: a program that was killed leaves them. The same 'ca issue' or 'ca
    sign-batch' signs them as they were intended; 'station ca give-up' ends the others.
    """
    found = _open(load(Path(config_path)), batch)
    if as_json:
        for one in found:
            print_json(
                {
                    "serial": f"{one.serial:032x}",
                    "since": one.intended_at,
                    "tries": one.tries,
                    "profile": one.profile,
                    "batch": one.batch,
                    "request": one.request,
                    "subject": one.subject,
                }
            )
    elif found:
        print_columns(_HEADINGS, [_row(one) for one in found])
    else:
        click.echo("nothing is left unfinished")


@click.command(
    "give-up",
    cls=Command,
    examples=[
        "station ca give-up 01c0ffee00000000000000000000beef --reason 'the board was scrapped'",
        "station ca give-up --batch 2026-07 --reason 'the batch was cancelled' --yes",
    ],
)
@config_option
@click.argument("serials", nargs=-1, metavar="[SERIAL]...")
@click.option("--batch", metavar="NAME", help="All that a batch left unfinished.")
@click.option("--reason", required=True, help="Why; it stays on record.")
@click.option("--yes", is_flag=True, help="Don't ask, where there is more than one.")
@json_option("Write one JSON object: the serial numbers.")
def give_up_command(  # noqa: PLR0913 (one option each)
    *, config_path: str, serials: tuple[str, ...], batch: str | None, reason: str, yes: bool, as_json: bool
) -> None:
    """Give up unfinished certificates.

    For those that nobody will ask for again. They stay on record, with the reason, and their keys are free. The token
    may have signed them, so each is to be revoked too: 'station ca revoked --pending' lists them. 'station ca intents'
    lists what is unfinished.
    """
    if bool(serials) == bool(batch):
        raise click.UsageError("name serial numbers, or a batch with --batch")
    if not reason.strip():
        raise click.UsageError("a reason is needed: who looks at the record later has only this")
    config = load(Path(config_path))
    chosen = _open(config, batch) if batch else [_intent(config, parse_serial(text)) for text in serials]
    chosen = list({one.id: one for one in chosen}.values())
    if len(chosen) > 1 and not yes:
        _ask(chosen)
    if chosen:
        with open_journal(config) as journal:
            for one in chosen:
                journal.void_blocking(one.id, reason.strip())
    if as_json:
        print_json({"given_up": [f"{one.serial:032x}" for one in chosen]})
        return
    for one in chosen:
        click.echo(f"given up: {one.serial:032x} ({printable(one.subject)})")
    if chosen:
        click.echo("they may have been signed: 'station ca revoke --void --reason superseded' revokes them")
    else:
        click.echo("nothing is left unfinished: nothing is to be done")


def _open(config: Config, batch: str | None) -> list[IssuanceRecord]:
    if not config.ca.journal.exists():
        return []
    with JournalReader(config.ca.journal) as reader:
        if batch is not None and batch not in {one.name for one in reader.batches()}:
            raise StationError(f"no batch '{batch}' in {config.ca.journal}; check its name")
        return [*reader.open_intents(batch)]


def _intent(config: Config, serial: int) -> IssuanceRecord:
    found = None
    if config.ca.journal.exists():
        with JournalReader(config.ca.journal) as reader:
            found = reader.by_serial(serial)
    if found is None:
        raise StationError(
            f"no certificate {serial:032x} in {config.ca.journal}; 'station ca intents' lists what is unfinished",
            code="intent.unknown",
        )
    if found.state is IssuanceState.RECORDED:
        raise StationError(
            f"certificate {serial:032x} is signed and on record; revoke it with 'station ca revoke'",
            code="intent.signed",
        )
    if found.state is IssuanceState.VOID:
        raise StationError(
            f"certificate {serial:032x} was given up at {found.voided_at}: {printable(found.void_reason)}",
            code="intent.given_up",
        )
    return found


def _ask(chosen: Sequence[IssuanceRecord]) -> None:
    if not sys.stdin.isatty():
        raise StationError(f"{len(chosen)} certificates would be given up; add --yes if that is meant")
    print_columns(_HEADINGS, [_row(one) for one in chosen])
    if not click.confirm(f"{len(chosen)} certificates will be given up. Go on?"):
        raise StationError("nothing was changed")


def _row(one: IssuanceRecord) -> tuple[str, ...]:
    since = f"{one.intended_at[:10]} {one.intended_at[11:19]}Z"
    return f"{one.serial:032x}", since, str(one.tries), one.profile, one.batch or "", one.request, one.subject
