"""``station unit``."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hsm.revocation import Standing
from hsm.serials import copied, shown
from station.cli.commands import Group, config_option, json_option
from station.cli.identity import IDENTITY
from station.cli.output import print_columns, print_fields, print_json
from station.cli.root import EXIT_FAILURE
from station.cli.unit_life import carry_out, release, replace_command, rework, rma, scrap
from station.cli.unit_revocation import facts_of, sentence, standings_of
from station.cli.unit_visit import show_next_visit
from station.config import load
from station.errors import StationError, printable
from station.exports.units import locks_text
from station.manifest import (
    Act,
    IssuanceRecord,
    LifeAct,
    ManifestReader,
    ProofRecord,
    UnitHistory,
    UnitRecord,
    UnitState,
)
from station.manifest.handing import HandedRecord, handed


@click.group("unit", cls=Group, examples=["station unit list --state failed", "station unit show SN000001"])
def unit() -> None:
    """Look at single boards.

    And say what becomes of them. What is on record in the manifest can be read while 'station run' works. What is
    written (scrap, rework, …) goes through the station that runs, if one does.
    """


for _command in (scrap, rework, rma, release, replace_command):
    unit.add_command(_command)


@unit.command("list", examples=["station unit list", "station unit list --state failed --json"])
@config_option
@click.option("--state", type=click.Choice([state.value for state in UnitState]), help="Only units in this state.")
@click.option("--order", help="Only units of this order.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the newest ones.")
@json_option("Write one JSON object a unit.")
def list_units(config_path: str, *, state: str | None, order: str | None, limit: int | None, as_json: bool) -> None:
    """List the units on record, oldest first."""
    with _manifest(config_path) as manifest:
        units: Iterator[UnitRecord] = manifest.units(
            state=UnitState(state) if state else None, order=order, limit=limit, newest_first=limit is not None
        )
        if limit is not None:
            units = reversed(list(units))
        if as_json:
            for record in units:
                print_json(_as_object(record))
            return
        rows = [
            (
                record.product_serial or "-",
                record.hardware_id,
                record.state.value,
                record.order,
                record.slot,
                record.changed_at,
                printable(record.failure_code or ""),
            )
            for record in units
        ]
    if rows:
        print_columns(("SERIAL", "HARDWARE ID", "STATE", "ORDER", "SLOT", "CHANGED", "FAILURE"), rows)
    else:
        click.echo("no such unit is on record yet", err=True)


@unit.command("show", examples=["station unit show SN000001", "station unit show SN000001 --certificate > leaf.pem"])
@click.argument("identity", type=IDENTITY)
@config_option
@click.option("--certificate", "wants_certificate", is_flag=True, help="Print its certificate (PEM) and nothing else.")
@json_option("Write one JSON object: the unit, its issuances, proof and events.")
def show(identity: str, config_path: str, *, wants_certificate: bool, as_json: bool) -> None:
    """Show everything on record about one unit.

    IDENTITY is its product serial, its hardware id, the serial of one of its certificates (hex), or the SHA-256 of its
    public key (hex).
    """
    config = load(Path(config_path))
    with ManifestReader(config.station.manifest) as manifest:
        history = manifest.unit(identity)
        given = () if history is None else handed(manifest, history.unit.id)
    if history is None:
        raise StationError(f"no unit is known as '{identity}'; 'station unit list' shows those that are")
    if wants_certificate:
        click.echo(_pem(history), nl=False)
    elif as_json:
        print_json({**_history_object(history, standings_of(config, history.issuances)), "handed_out": given})
    else:
        _print_history(history, given, standings_of(config, history.issuances))


@unit.command(
    "resume",
    examples=[
        "station unit resume 3",
        "station unit resume SN000017",
        'station unit resume SN000017 --void --reason "board was erased"',
    ],
)
@click.argument("wanted", metavar="SLOT|UNIT", type=IDENTITY)
@config_option
@click.option("--void", is_flag=True, help="Give up the certificate that is open; the next visit makes another one.")
@click.option("--reason", help="Why it is given up.")
@click.option("--actor", help="Who gives it up; the user of this shell if left out.")
@json_option("Write one JSON object; of a slot, one a change and a summary at the end.")
def resume(  # noqa: PLR0913 (one option each)
    wanted: str, config_path: str, *, void: bool, reason: str | None, actor: str | None, as_json: bool
) -> None:
    """Go on with a board, or tell how.

    With a SLOT (its name in station.toml, or its port) the board in it is served, once: one that was begun goes on
    where it was, with the key and the certificate that are on record. 'station run' does the same when a board is
    plugged in, so it must not be running. Exit 1 if the board did not pass.

    With a UNIT (any of its identities) nothing is touched: it is told what is open and what the next visit does, in
    whatever slot, also at another station that has a copy of this manifest. --void gives the open certificate up.
    """
    # the line itself is heavy, and the other commands of this group do without it
    from station.cli.run import serve  # noqa: PLC0415
    from station.line.rehearsal import slots_of  # noqa: PLC0415

    config = load(Path(config_path))
    slots = slots_of(config)
    chosen = [one for one in slots if wanted in (one.name, one.port)]
    if void:
        if reason is None:
            raise click.UsageError("--void needs a --reason")
        carry_out(Act.VOID, config_path=config_path, identity=wanted, reason=reason, actor=actor, as_json=as_json)
        return
    if not chosen:
        show_next_visit(config, wanted, [one.name for one in slots], as_json=as_json)
        return
    summary = serve(replace(config, slots=(chosen[0],)), once=True, as_json=as_json)
    if not summary.passed + summary.done_before:
        sys.exit(EXIT_FAILURE)


@contextmanager
def _manifest(config_path: str) -> Iterator[ManifestReader]:
    """Open the manifest of a configuration to read it."""
    with ManifestReader(load(Path(config_path)).station.manifest) as manifest:
        yield manifest


def _pem(history: UnitHistory) -> bytes:
    issuance = history.unit.issuance
    if issuance is None or issuance.certificate is None:
        raise StationError("no certificate is on record for this unit; it gets one when it is plugged in")
    return x509.load_der_x509_certificate(issuance.certificate).public_bytes(Encoding.PEM)


def _as_object(record: UnitRecord) -> dict[str, object]:
    return {
        "product_serial": record.product_serial,
        "hardware_id": record.hardware_id,
        "state": record.state,
        "order": record.order,
        "model": record.model,
        "firmware_version": record.firmware_version,
        "firmware_sha256": record.firmware_sha256,
        "attempts": record.attempts,
        "slot": record.slot,
        "first_seen_at": record.first_seen_at,
        "changed_at": record.changed_at,
        "failure_code": record.failure_code,
        "failure_sentence": record.failure_sentence,
        "failure_step": record.failure_step,
        "certificate_serial": shown(record.issuance.certificate_serial) if record.issuance else None,
    }


def _issuance_object(issuance: IssuanceRecord, found: Standing | None) -> dict[str, object]:
    return {
        "state": issuance.state,
        "certificate_serial": shown(issuance.certificate_serial),
        "spki_sha256": issuance.spki_sha256,
        "tbs_sha256": issuance.tbs_sha256,
        "certificate_sha256": issuance.certificate_sha256,
        "signing_tries": issuance.signing_tries,
        "intended_at": issuance.intended_at,
        "changed_at": issuance.changed_at,
        "void_reason": issuance.void_reason,
        "revocation": facts_of(found),
    }


def _proof_object(proof: ProofRecord) -> dict[str, object]:
    return {
        "at": proof.at,
        "kind": proof.kind,
        "seconds": proof.seconds,
        "locks": locks_text(proof.locks).split(),
        "read_back_sha256": proof.read_back_sha256,
        "challenge": proof.challenge,
        "message": proof.message,
        "signature": proof.signature,
    }


def _history_object(history: UnitHistory, standings: Mapping[int, Standing]) -> dict[str, object]:
    return {
        **_as_object(history.unit),
        "issuances": [_issuance_object(one, standings.get(one.certificate_serial)) for one in history.issuances],
        "proof": _proof_object(history.proof) if history.proof else None,
        "life": [_life_object(act) for act in history.life],
        "events": [
            {"at": event.at, "slot": event.slot, "step": event.step, "kind": event.kind, "facts": dict(event.facts)}
            for event in history.events
        ],
    }


def _handed_line(one: HandedRecord) -> str:
    answer = "" if one.outcome is None else f": {one.outcome.value} {printable(one.reason or '')}".rstrip()
    return f"{one.handed_at} to {one.recipient} ({one.target}, export {one.export_id}){answer}"


def _print_history(history: UnitHistory, given: Sequence[HandedRecord], standings: Mapping[int, Standing]) -> None:
    record = history.unit
    fields = [
        ("serial", record.product_serial or "none yet"),
        ("hardware id", record.hardware_id),
        *([] if record.mac is None else [("MAC address", record.mac)]),
        ("state", record.state.value),
        ("order", record.order),
        ("model", record.model),
        ("firmware", f"{record.firmware_version}, sha256 {record.firmware_sha256.hex()}"),
        ("seen", f"{record.first_seen_at}, last in slot {record.slot}, attempts: {record.attempts}"),
    ]
    if record.failure_code:
        what = printable(record.failure_sentence or "")
        fields.append(("failure", f"{what} [{record.failure_code}, in step {record.failure_step}]"))
    fields += [("since", "\n".join(_life_lines(act, record.hardware_id))) for act in history.life]
    for issuance in history.issuances:
        found = standings.get(issuance.certificate_serial)
        fields.append(("certificate", "\n".join([*_issuance_lines(issuance), *([sentence(found)] if found else [])])))
    if (proof := history.proof) is not None:
        lines = (
            f"{proof.at}, by {proof.kind.value}",
            f"read back sha256 {proof.read_back_sha256.hex()}",
            f"locks seen: {locks_text(proof.locks) or 'none'}",
        )
        fields.append(("proof", "\n".join(lines)))
    if given:
        fields.append(("handed out", "\n".join(map(_handed_line, given))))
    print_fields(fields)
    click.echo()
    for event in history.events:
        facts = " ".join(f"{name}={printable(_fact(name, value))}" for name, value in event.facts.items())
        click.echo(f"{event.at}  {event.step or '-':<10}  {event.kind:<8}  {facts}")


def _fact(name: str, value: object) -> object:
    """Return a fact as people are shown it: a certificate's serial as everywhere."""
    serial = copied(str(value)) if name == "certificate_serial" else None
    return value if serial is None else shown(serial)


def _life_object(act: LifeAct) -> dict[str, object]:
    names = ("act", "at", "reason", "actor", "os_user", "returned", "hardware_id", "other_hardware_id")
    return {name: getattr(act, name) for name in names}


def _life_lines(act: LifeAct, hardware_id: str) -> Iterator[str]:
    if act.hardware_id != hardware_id:
        yield f"took the place of {act.hardware_id}  {act.at}"
    else:
        by = f" by {act.other_hardware_id}" if act.other_hardware_id else ""
        yield f"{act.act.value}{by}  {act.at}"
    yield f"{printable(act.reason)} ({printable(act.actor)}, as {printable(act.os_user)})"


def _issuance_lines(issuance: IssuanceRecord) -> Iterator[str]:
    yield f"{issuance.state.value}  {shown(issuance.certificate_serial)}"
    yield f"key  sha256 {issuance.spki_sha256.hex()}"
    if issuance.certificate_sha256 is not None:
        yield f"leaf sha256 {issuance.certificate_sha256.hex()}"
    if issuance.void_reason:
        yield f"void since {issuance.changed_at}: {issuance.void_reason}"
