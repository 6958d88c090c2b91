"""What ``station unit resume UNIT`` tells: how a board goes on at its next visit, told from the record alone."""

from collections.abc import Sequence

import click

from hsm.serials import shown
from station.cli.output import print_fields, print_json
from station.config import Config
from station.config.section import nearest
from station.errors import StationError, printable
from station.manifest import IssuanceState, ManifestReader, UnitHistory, UnitState


def show_next_visit(config: Config, wanted: str, slots: Sequence[str], *, as_json: bool) -> None:
    """Tell what a unit has open and what its next visit does.

    Raises:
        StationError: nothing here has this name.
    """
    history = None
    if config.station.manifest.exists():
        with ManifestReader(config.station.manifest) as manifest:
            history = manifest.unit(wanted)
    if history is None:
        known = f"'station unit list' shows the units; of slots, {nearest(wanted, slots)}"
        raise StationError(f"there is no slot and no unit '{wanted}'; {known}", code="manifest.unit_unknown")
    unit, issuance = history.unit, history.unit.issuance
    code, sentence = next_visit(history)
    serial = None if issuance is None else shown(issuance.certificate_serial)
    if as_json:
        print_json(
            {
                "hardware_id": unit.hardware_id,
                "product_serial": unit.product_serial,
                "state": unit.state,
                "slot": unit.slot,
                "attempts": unit.attempts,
                "failure_code": unit.failure_code,
                "certificate_serial": serial,
                "issuance": None if issuance is None else issuance.state,
                "next": code,
                "sentence": sentence,
            }
        )
        return
    fields = [
        ("serial", unit.product_serial or "none yet"),
        ("hardware id", unit.hardware_id),
        ("state", unit.state.value),
        ("seen last", f"{unit.changed_at}, in slot {unit.slot}; attempts: {unit.attempts}"),
    ]
    if unit.failure_code:
        fields.append(("failure", f"{printable(unit.failure_sentence or '')} [{unit.failure_code}]"))
    if issuance is not None:
        fields.append(("certificate", f"{serial} is {_STATES[issuance.state]}"))
    fields.append(("next visit", sentence))
    print_fields(fields)
    click.echo()


_STATES = {
    IssuanceState.INTENT: "to be signed; whether it was is not known",
    IssuanceState.RECORDED: "signed and recorded",
    IssuanceState.VOID: "void",
}


def next_visit(history: UnitHistory) -> tuple[str, str]:
    """Return what the next visit of a unit does: a word that never changes, and a sentence."""
    unit, issuance = history.unit, history.unit.issuance
    if unit.state is UnitState.SCRAPPED:
        return "refused", "is refused: the unit was scrapped"
    if unit.state is UnitState.RMA:
        return "refused", "is refused until the unit is released, reworked or scrapped"
    if unit.state is UnitState.PASSED:
        return "proves", "lets the board prove once more that it holds its certificate; nothing is issued"
    if issuance is None:
        again = f", as {unit.product_serial}" if unit.product_serial else ""
        return "issues", f"makes a certificate{again}: nothing is open"
    if issuance.state is IssuanceState.INTENT:
        return "signs", "signs the same bytes again, so the board gets the certificate with this serial, in any slot"
    return "installs", "installs this same certificate, in any slot, and goes on from there"
