"""``station ca revoke``, ``ca hold``, ``ca release`` and ``ca revoked``."""

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import click

from hsm.journal import CaJournal, JournalReader
from hsm.revocation import FINAL, Outcome, Reason, Target, hold, release, revoke, revoker_of, standings
from station.cli.ca_journal import Found, Records, open_journal, parse_date, parse_serial
from station.cli.commands import Command, config_option, json_option
from station.cli.output import print_columns, print_json
from station.config import Config, load
from station.crl_places import issuers_of
from station.errors import StationError

_REASONS: Final = [reason.text for reason in FINAL]
_TOLD: Final = "OCSP answers tell it from now on, revocation lists with 'station ca crl publish'"
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which certificates a command line means."""

    serials: tuple[str, ...] = ()
    unit: str | None = None
    order: str | None = None
    batch: str | None = None
    void: bool = False
    unknown: bool = False

    def find(self, config: Config) -> list[Found]:
        """Look them up.

        Raises:
            StationError: nothing or more than one thing was named, or something is not on record.
        """
        if sum(map(bool, (self.serials, self.unit, self.order, self.batch, self.void))) != 1:
            raise click.UsageError("name serial numbers, or one of the options that choose certificates")
        with Records(config) as records:
            if self.unit is not None:
                return records.by_unit(self.unit)
            if self.order is not None:
                return records.by_order(self.order)
            if self.batch is not None:
                return records.by_batch(self.batch)
            if self.void:
                return records.void()
            return [self._by_serial(records, parse_serial(text)) for text in self.serials]

    def _by_serial(self, records: Records, serial: int) -> Found:
        found = records.by_serial(serial)
        if found is not None:
            return found
        if not self.unknown:
            raise StationError(
                f"no certificate {serial:032x} on record; check the digits, or add --unknown if another program "
                "issued it",
                code="revocation.unknown",
            )
        return Found(Target(serial), "not on record")


_CHOICE: Final = tuple(field.name for field in fields(_Choice))


@dataclass(frozen=True, slots=True)
class _Task:
    """What the three commands are told alike."""

    choice: _Choice
    config_path: str
    yes: bool
    dry_run: bool
    as_json: bool


def _on_certificates(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that the three commands share; the function gets what they say as one ``_Task``."""

    @functools.wraps(function)
    def packed(*, config_path: str, yes: bool, dry_run: bool, as_json: bool, **more: Any) -> None:  # noqa: ANN401 - click's
        choice = _Choice(**{name: more.pop(name) for name in _CHOICE if name in more})
        function(_Task(choice, config_path, yes, dry_run, as_json), **more)

    for option in (
        json_option("Write one JSON object: the serial numbers, and which were so already."),
        click.option("--dry-run", is_flag=True, help="Only show which certificates they are."),
        click.option("--yes", is_flag=True, help="Don't ask, where there is more than one certificate."),
        click.option("--batch", metavar="NAME", help="All certificates of a batch of 'ca sign-batch'."),
        click.option("--order", metavar="NAME", help="All certificates of a production order."),
        click.option("--unit", metavar="ID", help="The certificates of a unit: product serial or hardware id."),
        click.argument("serials", nargs=-1, metavar="[SERIAL]..."),
        config_option,
    ):
        packed = option(packed)
    return packed


@click.command(
    "revoke",
    cls=Command,
    examples=[
        "station ca revoke 01c0ffee00000000000000000000beef --reason keyCompromise --date 2026-07-01",
        "station ca revoke --unit SN000017 --reason superseded",
        "station ca revoke --batch 2026-07 --reason cessationOfOperation --dry-run",
    ],
)
@_on_certificates
@click.option("--void", is_flag=True, help="All certificates that were given up: signed or perhaps signed, not used.")
@click.option("--reason", type=click.Choice(_REASONS), required=True, help="Why (RFC 5280 5.3.1).")
@click.option("--date", "since", metavar="DATE", help="Since when it is not to be trusted; revoked is it from now on.")
@click.option("--unknown", is_flag=True, help="Revoke a serial number that is not on record.")
def revoke_command(task: _Task, *, reason: str, since: str | None) -> None:
    """Revoke certificates, for good.

    The act is on record in the CA's journal when the command ends, and is never deleted. With --date the list says
    since when the key may have been in wrong hands. A certificate on hold is revoked from the date of its hold on.
    """
    since_date = None if since is None else parse_date(since)

    def act(journal: CaJournal, revoker: bytes, targets: Sequence[Target]) -> Outcome:
        return revoke(journal, revoker, targets, Reason.parse(reason), invalid_since=since_date)

    _carry_out("revoked", task, act)


@click.command("hold", cls=Command, examples=["station ca hold --unit SN000017"])
@_on_certificates
def hold_command(task: _Task) -> None:
    """Put certificates on hold.

    They count as revoked (certificateHold) until 'station ca release' ends the hold, or 'station ca revoke' makes it
    final.
    """
    _carry_out("put on hold", task, hold)


@click.command("release", cls=Command, examples=["station ca release --unit SN000017"])
@_on_certificates
def release_command(task: _Task) -> None:
    """End a hold: the certificates are good again."""
    _carry_out("released", task, release)


@click.command("revoked", cls=Command, examples=["station ca revoked", "station ca revoked --pending --json"])
@config_option
@click.option("--pending", is_flag=True, help="Show what was given up and is not revoked yet; exit 1 if there is any.")
@json_option("Write one JSON object a certificate.")
def revoked_command(*, config_path: str, pending: bool, as_json: bool) -> None:
    """List what is revoked or on hold.

    With --pending, what the station or the CA gave up instead: certificates that were signed, or may have been, and
    that nobody must accept. 'station ca revoke --void --reason superseded' revokes them.
    """
    config = load(Path(config_path))
    if pending:
        waiting = pending_voids(config)
        if as_json:
            for found in waiting:
                print_json({"serial": f"{found.target.serial:032x}", "unit": found.unit, "why": found.subject})
        elif waiting:
            print_columns(
                ("serial", "unit", "why"), [(f"{one.target.serial:032x}", one.unit, one.subject) for one in waiting]
            )
        else:
            click.echo("nothing that was given up waits to be revoked")
        if waiting:
            sys.exit(1)
        return
    rows = []
    if config.ca.journal.exists():
        with JournalReader(config.ca.journal) as reader:
            rows = [
                one for issuer in issuers_of(config) for one in standings(reader, revoker_of(issuer)) if one.is_revoked
            ]
    if as_json:
        for one in rows:
            print_json(
                {
                    "serial": f"{one.serial:032x}",
                    "reason": one.reason.text,
                    "revoked_at": one.revoked_at,
                    "invalid_since": one.invalid_since,
                    "shard": one.shard,
                }
            )
    elif rows:
        table = [(f"{one.serial:032x}", f"{one.revoked_at:%Y-%m-%d %H:%M:%S}Z", one.reason.text) for one in rows]
        print_columns(("serial", "since", "reason"), table)
    else:
        click.echo("nothing is revoked")


def pending_voids(config: Config) -> list[Found]:
    """Return what was given up and is not revoked."""
    with Records(config) as records:
        found = records.void()
    if not found or not config.ca.journal.exists():
        return found
    with JournalReader(config.ca.journal) as reader:
        acts = [one for issuer in issuers_of(config) for one in standings(reader, revoker_of(issuer))]
    revoked = {one.serial for one in acts if one.is_revoked}
    return [one for one in found if one.target.serial not in revoked]


def _carry_out(done: str, task: _Task, act: Callable[[CaJournal, bytes, Sequence[Target]], Outcome]) -> None:
    """Find the certificates, ask, act, and tell."""
    config = load(Path(task.config_path))
    found = list({one.target.serial: one for one in task.choice.find(config)}.values())
    issuers = issuers_of(config)
    of_revoker: dict[bytes, list[Target]] = {}
    for one in found:
        of_revoker.setdefault(revoker_of(one.issued_by(issuers)), []).append(one.target)
    if task.dry_run:
        _show(found, as_json=task.as_json)
        return
    if not found:
        click.echo("there is no such certificate: nothing is to be done")
        return
    if len(found) > 1 and not task.yes:
        _ask(done, found)
    with open_journal(config) as journal:
        outcomes = [act(journal, revoker, targets) for revoker, targets in of_revoker.items()]
    outcome = Outcome(
        tuple(serial for one in outcomes for serial in one.done),
        tuple(serial for one in outcomes for serial in one.unchanged),
    )
    if task.as_json:
        print_json(
            {
                "done": [f"{serial:032x}" for serial in outcome.done],
                "unchanged": [f"{serial:032x}" for serial in outcome.unchanged],
            }
        )
        return
    if len(found) == 1:
        click.echo(f"{done}: {found[0].target.serial:032x} ({found[0].subject})")
    else:
        before = f"; {len(outcome.unchanged)} stay as they were" if outcome.unchanged else ""
        click.echo(f"{done}: {len(outcome.done)} certificates{before}")
    click.echo(_TOLD)
    if waiting := pending_voids(config):
        click.echo(f"{len(waiting)} more were given up and are not revoked: 'station ca revoked --pending' lists them")


def _ask(done: str, found: Sequence[Found]) -> None:
    if not sys.stdin.isatty():
        raise StationError(
            f"{len(found)} certificates would be {done}; add --yes if that is meant, or --dry-run to look"
        )
    _show(found[:_SHOWN], as_json=False)
    if len(found) > _SHOWN:
        click.echo(f"… and {len(found) - _SHOWN} more")
    if not click.confirm(f"{len(found)} certificates will be {done}. Go on?"):
        raise StationError("nothing was changed")


def _show(found: Sequence[Found], *, as_json: bool) -> None:
    if as_json:
        for one in found:
            print_json({"serial": f"{one.target.serial:032x}", "shard": one.target.shard, "subject": one.subject})
        return
    rows = [(f"{one.target.serial:032x}", one.target.shard or "", one.subject) for one in found]
    print_columns(("serial", "shard", "what"), rows)
