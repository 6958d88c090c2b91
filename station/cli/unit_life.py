"""``station unit scrap``, ``rework``, ``rma``, ``release``, ``replace``: what becomes of a unit after it passed."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from hsm import HsmError
from hsm.revocation import Act as CaAct
from hsm.serials import shown
from station.cli.ca_journal import open_journal
from station.cli.commands import Command, config_option, json_option
from station.cli.identity import IDENTITY
from station.cli.output import print_json
from station.config import Config, load
from station.errors import StationError
from station.line.control import ask, user_name
from station.manifest import Act, LifeRequest, Manifest, ManifestLocked, ManifestReader
from station.manifest.life import check_actor
from station.revoking import Wish, lacks, settle

Function = TypeVar("Function", bound=Callable[..., Any])

_DONE: Final = {
    Act.VOID: "given up what {unit} had open; its next visit makes another certificate",
    Act.SCRAP: "scrapped {unit}",
    Act.REWORK: "{unit} gets another certificate at its next visit; erase the board if it is locked",
    Act.RMA: "{unit} came back",
    Act.RELEASE: "{unit} is released as it was",
    Act.REPLACE: "scrapped {unit}; {other} takes its place",
}
_STANDING: Final = {CaAct.REVOKE: "revoked ({reason})", CaAct.HOLD: "on hold", CaAct.RELEASE: "good again"}


def acting(function: Function) -> Function:
    """Add what every act is asked with."""
    for option in (
        json_option("Write one JSON object: the act, and what the CA's journal says since."),
        click.option("--actor", help="Who does it; the user of this shell if left out."),
        click.option("--reason", required=True, help="Why, for those who read the record later."),
        config_option,
        click.argument("identity", metavar="UNIT", type=IDENTITY),
    ):
        function = option(function)
    return function


@click.command("scrap", cls=Command, examples=['station unit scrap SN000017 --reason "fell off the bench"'])
@acting
def scrap(**options: Any) -> None:  # noqa: ANN401 (what ``acting`` adds)
    """Scrap a unit, for good.

    Its certificate is revoked, and the board gets nothing any more. The order gets the budget of one unit back if it
    has a scrap allowance left; the product serial stays taken. UNIT is its product serial, its hardware id, the serial
    of one of its certificates (hex), or the SHA-256 of its public key (hex).
    """
    carry_out(Act.SCRAP, **options)


@click.command("rework", cls=Command, examples=['station unit rework SN000017 --reason "new radio" --actor alice'])
@acting
def rework(**options: Any) -> None:  # noqa: ANN401 (what ``acting`` adds)
    """Give the same board another certificate.

    The one it passed with is revoked (superseded). The unit is open again and keeps its product serial: plugged in, it
    goes the whole way once more. A board whose credentials are locked has to be erased before.
    """
    carry_out(Act.REWORK, **options)


@click.command("rma", cls=Command, examples=['station unit rma SN000017 --reason "customer: no signal"'])
@acting
def rma(**options: Any) -> None:  # noqa: ANN401 (what ``acting`` adds)
    """Take a unit back from the field.

    Its certificate is put on hold until 'station unit release', 'rework' or 'scrap' decides.
    """
    carry_out(Act.RMA, **options)


@click.command("release", cls=Command, examples=['station unit release SN000017 --reason "nothing found"'])
@acting
def release(**options: Any) -> None:  # noqa: ANN401 (what ``acting`` adds)
    """Release a unit that came back.

    It goes out again as it was: the hold on its certificate ends.
    """
    carry_out(Act.RELEASE, **options)


@click.command("replace", cls=Command, examples=['station unit replace SN000017 --by SN000051 --reason "dead flash"'])
@acting
@click.option(
    "--by",
    required=True,
    type=IDENTITY,
    metavar="UNIT",
    help="The unit that takes its place; it has been plugged in here.",
)
def replace_command(**options: Any) -> None:  # noqa: ANN401 (what ``acting`` adds)
    """Let another unit take the place of one.

    UNIT is scrapped, unless it is already. Both rows name each other; each keeps its own serials and keys.
    """
    carry_out(Act.REPLACE, **options)


def carry_out(  # noqa: PLR0913 (one option each)
    act: Act, *, config_path: str, identity: str, reason: str, actor: str | None, as_json: bool, by: str | None = None
) -> None:
    """Write an act into the manifest, then into the CA's journal, and tell."""
    config = load(Path(config_path))
    request = LifeRequest(act, identity, reason, user_name() if actor is None else actor, user_name(), by)
    check_actor(request.actor, config.life.actors)
    done = _write(config, request)
    with ManifestReader(config.station.manifest) as manifest:
        history = manifest.unit(str(done["hardware_id"]))
    issuance = next((one for one in history.issuances if one.id == done["issuance_id"]), None) if history else None
    wishes = _tell_ca(config)
    serial = None if issuance is None else issuance.certificate_serial
    wish = next((one for one in wishes if one.target.serial == serial), None)
    if as_json:
        names = ("act", "hardware_id", "other_hardware_id", "reason", "actor", "os_user", "returned", "at")
        print_json(
            {
                **{name: done[name] for name in names},
                "product_serial": history.unit.product_serial if history else None,
                "certificate_serial": None if serial is None else shown(serial),
                "certificate": None if wish is None else wish.act,
            }
        )
        return
    name = (history.unit.product_serial if history else None) or done["hardware_id"]
    click.echo(_DONE[act].format(unit=name, other=done["other_hardware_id"]))
    if wish is not None and serial is not None:
        what = _STANDING[wish.act].format(reason=wish.reason.text)
        click.echo(f"certificate {shown(serial)} is {what}; 'station ca crl publish' tells it")
    if done["returned"]:
        click.echo("the order gets the budget of one unit back")


def _write(config: Config, request: LifeRequest) -> dict[str, Any]:
    """Write the act: by ourselves, or through the station that runs."""
    path = config.station.manifest
    with ManifestReader(path):  # a manifest that is not there is not made by scrapping something
        pass
    try:
        with Manifest.open(path) as manifest:
            done = asyncio.run(manifest.act(request))
    except ManifestLocked:
        wish = {name: getattr(request, name) for name in ("act", "unit", "reason", "actor", "by")}
        found: dict[str, Any] = ask(path, {"do": "act", **wish})["act"]
        return found
    return {name: getattr(done, name) for name in done.__dataclass_fields__}


def _tell_ca(config: Config) -> list[Wish]:
    """Bring what became of units into the CA's journal.

    Raises:
        StationError: the act is on record, and the journal can't be written now.
    """
    try:
        if not lacks(config):
            return []
        with open_journal(config) as journal:
            return settle(config, journal)
    except (StationError, HsmError) as error:
        raise StationError(
            f"it is on record in the manifest, but the CA's journal does not say it yet ({error}); "
            "'station ca crl publish' brings it there",
            code="life.journal_behind",
        ) from error
