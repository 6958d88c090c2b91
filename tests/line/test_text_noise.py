"""Boards that speak in lines, behind wires that turn and lose bits: AT and shells have no checksums."""

import re

import pytest
from bench.stations import starter

from firmware_tools.virtual_line.wire import Wire
from station.config.languages import PERSONA_DRIVERS
from station.manifest import IssuanceState, ManifestReader, UnitState
from station.testing.orders import reorder

VISITS = 3
"""How often a person puts a board in that fails."""

KINDS = {
    "nrf91": ("nRF9151-LACA", 'locks = []\naccepts = ["digest", "attestation"]'),
    "nrf91-shell": ("nRF9151-LACA", 'locks = []\naccepts = ["digest", "attestation"]'),
    "zephyr-shell": ("widget", "locks = []"),
    "zephyr-shell-noisy": ("widget", "locks = []"),
    "home-made": ("widget", 'locks = ["debug", "credentials"]'),
}


@pytest.fixture(scope="session")
def stations():
    with starter() as running:
        yield running


@pytest.mark.parametrize("persona", KINDS)
def test_boards_pass_over_a_wire_that_turns_and_loses_bits(line, stations, persona):
    model, rest = KINDS[persona]
    text = re.sub(r"(?m)^model = .*$", f'model = "{model}"', line.config.read_text())
    line.config.write_text(re.sub(r"(?m)^locks = .*$", rest, text))
    reorder(line.config, "NOISE")
    wire = Wire(flip_rate=3e-4, lose_rate=5e-5, seed=11)
    with line.virtual_line(persona=persona, model=model, wire=wire) as boards:
        line.name_slots(boards.ports, driver=f'"{PERSONA_DRIVERS[persona]}"')
        failures = []
        for _ in range(VISITS):
            end = stations.start(line.config, "--once").end(90)
            failures += [(event["code"], event["detail"]) for event in end.events if event.get("state") == "failed"]
            with ManifestReader(line.manifest) as reader:
                passed = reader.counts()[UnitState.PASSED]
            if passed == len(boards.boards):
                break
    assert passed == len(boards.boards), failures
    with ManifestReader(line.manifest) as reader:
        for unit in list(reader.units()):
            live = [one for one in reader.unit(unit.hardware_id).issuances if one.state is not IssuanceState.VOID]
            assert [one.state for one in live] == [IssuanceState.RECORDED]
