"""``station order resume``: who answers for going on with a manifest that does not know all numbers, and from where.

The same for notes in a token that nobody can believe: they are replaced by a decision, and never by the way.
"""

import asyncio
from contextlib import closing
from pathlib import Path

import click

from hsm import HsmError
from station.cli.commands import command, config_option, json_option
from station.cli.output import print_json
from station.config import load
from station.errors import StationError
from station.ledger.keying import open_ledger
from station.line.control import user_name
from station.manifest import Manifest, ManifestReader, OrderRecord
from station.manifest.life import ACTOR_LIMIT, REASON_LIMIT, check_actor
from station.ordering import open_book, tell_station
from station.orders import OrderError, OrderWarrant
from station.orders.binding import token_away
from station.orders.taken import Remembered
from station.signing import open_signer


@command(
    "resume",
    examples=[
        "station order resume WO-1001 --actor 'R. Vogel' --reason 'disk died, backup of 12 May, ticket 88'",
        "station order resume WO-1001 --next SN000121 --actor 'R. Vogel' --reason 'the last label of that day was 120'",
        "station order resume WO-1001 --replace-damaged-note --next SN000121 --actor 'R. Vogel' --reason 'ticket 91'",
    ],
)
@click.argument("name")
@click.option("--reason", required=True, help="Why it is in order to go on; stands in the manifest for good.")
@click.option("--actor", required=True, help="Who answers for it; one of [life] actors, if there are any.")
@click.option(
    "--next",
    "next_serial",
    metavar="SERIAL",
    help="The first serial that may be given; left out: the one after those that the token remembers.",
)
@click.option(
    "--replace-damaged-note",
    "replaces",
    is_flag=True,
    help="The token's note of numbers is damaged (order.note_damaged): go on without it; needs --next.",
)
@config_option
@json_option("Write one JSON object: how many numbers were burned, which, and the damaged notes that were replaced.")
def resume(  # noqa: PLR0913 (one option each)
    name: str, *, reason: str, actor: str, next_serial: str | None, replaces: bool, config_path: str, as_json: bool
) -> None:
    """Let an order go on after a loss.

    The numbers that this manifest does not know are burned.

    For the security officer, after an older copy of the manifest was put back: boards may hold the numbers that were
    given since. The token remembers how many; they are given to nobody again, and count as made. Who decided that, and
    why, becomes an event. The line must not run.
    """
    if not 0 < len(reason.strip()) <= REASON_LIMIT:
        raise click.UsageError(f"--reason has 1 to {REASON_LIMIT} characters; say why")
    who = actor.strip()
    if not 0 < len(who) <= ACTOR_LIMIT:
        raise click.UsageError(f"--actor has 1 to {ACTOR_LIMIT} characters; say who")
    if replaces and next_serial is None:
        raise click.UsageError("--replace-damaged-note needs --next SERIAL, the first one that no board can have")
    config = load(Path(config_path))
    check_actor(who, config.life.actors)
    if not config.station.manifest.exists():
        raise OrderError(f"there is no manifest yet, and so no order {name!r}", code="order.not_imported")
    with Manifest.open(config.station.manifest) as manifest, closing(open_signer(config.ca)) as signer:
        ledger = open_ledger(config.ledger.key, manifest, signer) if config.ledger.key.exists() else None
        if ledger is not None:
            ledger.check()  # what was sealed comes first: 'manifest accept'
        book = open_book(config)
        warrant = book.warrant(name)
        with ManifestReader(config.station.manifest) as reader:
            record = next(one for one in reader.orders() if one.terms.name == name)
        tell_station(config, signer, book, manifest.identity)
        if next_serial is None and (away := token_away(signer)) is not None:
            raise OrderError(
                f"one token of [ca] is away ({away}), and may remember numbers that the others do not; plug it in, or "
                "say from where on: --next SERIAL",
                code="order.token_away",
            )
        remembered = _remembered(warrant, replaces=replaces)
        end = _end(warrant, record, remembered, next_serial, every=config.order.numbers_per_note)
        burned, damaged = end - record.taken, remembered.damaged
        asyncio.run(
            manifest.resume_order(
                name, burned=burned, reason=reason.strip(), actor=who, os_user=user_name(), damaged=damaged
            )
        )
        try:  # nobody goes back behind the decision
            warrant.tell_decided(end)
            if ledger is not None:
                ledger.seal("order resume")
        except (HsmError, StationError, OSError) as error:
            again = "; say the same again when that is mended, if the damaged note is still there" if damaged else ""
            raise StationError(
                f"the decision stands, and is not kept outside of the manifest yet ({error}){again}",
                code="order.decision_not_told",
            ) from error
    serials = warrant.serials(record.taken, end) if burned else None
    if as_json:
        print_json({"order": name, "burned": burned, "serials": serials, "damaged_notes": damaged})
        return
    for note in damaged:
        click.echo(f"replaced a damaged note of {name}, {note}")
    if burned:
        click.echo(f"burned {burned} numbers of {name}: {serials}; boards with them are not in this manifest")
    click.echo(f"{name} goes on; 'station order show {name}' says how far")


def _remembered(warrant: OrderWarrant, *, replaces: bool) -> Remembered:
    """Return what the tokens know; damage is refused, unless it is what somebody decides about.

    Raises:
        OrderError: a note is damaged, and nobody said to go on without it; or said so, and none is.
    """
    if not replaces:
        return Remembered(warrant.told())
    remembered = warrant.survey()
    if not remembered.damaged:
        raise OrderError(
            f"no note about order {warrant.order.name} is damaged, so there is none to replace; leave "
            "--replace-damaged-note out",
            code="order.nothing_to_resume",
        )
    return remembered


def _end(
    warrant: OrderWarrant, record: OrderRecord, remembered: Remembered, next_serial: str | None, *, every: int
) -> int:
    """Return how many numbers are taken from now on.

    Args:
        warrant: of the order.
        record: as the manifest has it.
        remembered: what the tokens know to be taken; where a note is damaged, a serial is named.
        next_serial: somebody's wish.
        every: numbers that a note is for: up to one less were taken since the last one.

    Raises:
        OrderError: nothing is to be decided, or the wish would give numbers twice.
    """
    name, terms, taken, told = record.terms.name, warrant.terms, record.taken, remembered.taken
    if record.closed_at is not None:
        raise OrderError(f"order {name} was closed at {record.closed_at}, and that is for good", code="order.closed")
    if record.suspended_at is None and told <= taken and not remembered.damaged:
        raise OrderError(
            f"nothing is to be decided: the token knows of no number of order {name} that this manifest does not",
            code="order.nothing_to_resume",
        )
    end = max(told, taken)
    if next_serial is not None:
        number = terms.numbering.number(next_serial)
        wanted = -1 if number is None else number - terms.first_number
        if not end <= wanted <= terms.numbers:
            first = terms.product_serial(end)
            raise OrderError(
                f"--next {next_serial} won't do: it has to be a serial of the share, and {first} is the first that is "
                "not known to be taken",
                code="order.resume_next",
            )
        return wanted
    if told == 0 or told + every - 1 < taken:
        raise StationError(
            f"no token remembers how many numbers of order {name} were taken ({told}, and this manifest alone knows of "
            f"{taken}), so you have to say it: --next SERIAL is the first one that no board can have",
            code="order.resume_unknown",
        )
    return max(taken, min(told + every - 1, terms.numbers))
