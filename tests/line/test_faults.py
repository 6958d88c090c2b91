"""Boards and wires that hurt, on a running line: what passes holds its own recorded certificate, nobody else does."""

import random

import pytest
from bench.judge import Judge
from bench.stations import starter

from firmware_tools.provisioning import DeviceState
from firmware_tools.virtual_line.faults import Faults, FlashDeath, StateDeath
from firmware_tools.virtual_line.line import VirtualLine
from firmware_tools.virtual_line.wire import Cut, CutKind, Direction, Wire
from station.config import load
from station.config.certificates import load_issuer


@pytest.fixture(scope="session")
def stations():
    """Start stations quickly."""
    with starter() as running:
        yield running


@pytest.fixture
def served(line, stations):
    """Let a station serve the boards of a virtual line once; returns what it did."""

    def serve(boards):
        line.name_slots(boards.ports)
        return stations.start(line.config, "--once").end(60)

    return serve


def judged(line, boards, *, more=(), to_pass=()):
    config = load(line.config)
    judge = Judge(line.manifest, load_issuer(config.ca.certificate), (config.ca.signatures,))
    folders = {board.hardware_id: board.storage for board in boards.boards} | {path.name: path for path in more}
    return judge.judge({name: folder / "flash.bin" for name, folder in folders.items()}, to_pass=to_pass)


@pytest.mark.parametrize("direction", list(Direction), ids=lambda direction: direction.value)
@pytest.mark.parametrize("after", [60, 500])
def test_another_board_in_the_slot_at_a_byte_gets_no_certificate_of_the_first(line, served, direction, after):
    wire = Wire(cut=Cut(direction, after, CutKind.SWAP))
    with VirtualLine(line.program, line.slots, 1, wire=wire) as boards:
        first = boards.boards[0].storage
        served(boards)
        assert boards.boards[0].storage != first
        assert judged(line, boards, more=[first]).faults == []
        served(boards)
        assert judged(line, boards, more=[first], to_pass=[boards.boards[0].hardware_id]).faults == []


def test_a_board_with_the_flash_of_another_never_passes(line, served):
    with VirtualLine(line.program, line.slots, 2) as boards:
        original, copy = boards.boards
        copy.unplug()
        line.name_slots([original.port])
        assert served(boards).codes() <= {"link.no_board"}
        copy.clone(original)
        copy.plug()
        ended = served(boards)
        assert [event["slot"] for event in ended.events if event.get("state") == "failed"] == ["2"]
        assert judged(line, boards).passed == 1


DEATHS = {
    "first write": [FlashDeath(1, torn=5)],
    "each state": [StateDeath(state) for state in (DeviceState.KEYED, DeviceState.PROVISIONED, DeviceState.LOCKED)],
    "brown-outs": Faults.brown_outs(random.Random(3), 6).deaths,  # noqa: S311 - repeatable, not secret
}


@pytest.mark.parametrize("deaths", DEATHS.values(), ids=DEATHS)
def test_a_board_whose_supply_fails_and_returns_passes_in_the_end(line, served, deaths):
    with VirtualLine(line.program, line.slots, 1) as boards:
        (board,) = boards.boards
        board.unplug()
        board.faults = Faults(deaths=tuple(deaths), restart=0.05)
        for _ in range(4):
            board.unplug()
            board.plug()
            if served(boards).status == 0:
                break
        assert judged(line, boards, to_pass=[board.hardware_id]).faults == []


SLOW_AND_LOUD = {
    "logs in the middle of frames": Wire(log_rate=0.0005, seed=2),
    "a slow board": Wire(answer_delay=0.15, byte_delay=0.0003),
    "echo and boot noise": Wire(echo=True, boot_noise=bytes(range(256)) * 4),
    "one bit in ten thousand": Wire(flip_rate=0.0008, seed=5),
}


@pytest.mark.parametrize("wire", SLOW_AND_LOUD.values(), ids=SLOW_AND_LOUD)
def test_boards_pass_over_a_wire_that_is(line, served, wire):
    with VirtualLine(line.program, line.slots, 2, wire=wire) as boards:
        for _ in range(3):
            if served(boards).status == 0:
                break
        assert judged(line, boards, to_pass=[board.hardware_id for board in boards.boards]).faults == []
