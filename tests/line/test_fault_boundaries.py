"""Every boundary of a unit's way, by name: the station is killed exactly there, and the judge finds nothing wrong.

Boards are devices on terminals that live on; the station is the real one in a process of its own (``bench.starter``).
The judge reads the boards' flash, the token's count and the manifest.
"""

import shutil
from dataclasses import dataclass

import pytest
from bench.boundaries import BOUNDARIES, FLASHING
from bench.images import Releases
from bench.judge import Judge
from bench.stations import Ended, Starter, starter

from firmware_tools.virtual_line.line import VirtualLine
from firmware_tools.virtual_line.wire import Cut, CutKind, Direction, Wire
from station.config import load
from station.config.certificates import load_issuer

BOARDS = 2

UNPLUGGED_IN_KEY = Wire(cut=Cut(Direction.TO_DEVICE, 45, CutKind.UNPLUG))
"""The cable is pulled in the middle of the request for a key: the unit has begun, and fails."""


@pytest.fixture(scope="session")
def stations(tmp_path_factory):
    """Start stations quickly, whose disk can be filled."""
    with starter(tmp_path_factory.mktemp("starter")) as running:
        yield running


@dataclass
class Scene:
    """Two boards in slots of a line, and its station."""

    line: object
    boards: VirtualLine
    stations: Starter

    def run(self, boundary=None, act="kill") -> Ended:
        """Let the station serve both boards once, or be hit."""
        return self.stations.start(self.line.config, "--once", boundary=boundary, act=act).end(40)

    def verdict(self, *, done=True):
        """Judge; with ``done``, every board has to have passed."""
        config = load(self.line.config)
        judge = Judge(self.line.manifest, load_issuer(config.ca.certificate), (config.ca.signatures,))
        flashes = {board.hardware_id: board.storage / "flash.bin" for board in self.boards.boards}
        return judge.judge(flashes, to_pass=flashes if done else ())

    def finish(self):
        """Plug in what is out, and serve the boards until the station ends well."""
        for board in self.boards.boards:
            if board.wire is not None and board.wire.cut is not None:  # the station died before the cut of this one
                board.unplug()
                board.wire = board.wire.without_cut()
            board.plug()
            board.power_on()
        ended = self.run()
        assert ended.status == 0, (ended.events[-2:], ended.errors)


@pytest.fixture
def scene(line, stations, request):
    """Two boards on the wires that the test is marked with."""
    wire = getattr(request, "param", None)
    with VirtualLine(line.program, line.slots, BOARDS, wire=wire) as boards:
        line.name_slots(boards.ports)
        yield Scene(line, boards, stations)


def boundaries(*steps):
    return [name for name in BOUNDARIES if name.split(":")[0] in steps]


WAY = [name for name in BOUNDARIES if name.split(":")[0] not in {"attempt", "void", "failed"}]
"""What each board crosses that has a good day."""


@pytest.mark.parametrize("boundary", WAY)
def test_a_kill_there_loses_nothing(scene, boundary):
    assert scene.run(boundary).killed
    assert scene.verdict(done=False).faults == []
    scene.finish()
    assert scene.verdict().faults == []


@pytest.mark.parametrize("boundary", boundaries("attempt"))
def test_a_kill_while_it_signs_again_after_a_kill_loses_nothing(scene, boundary):
    assert scene.run("sign: after the token").killed
    assert scene.run(boundary).killed
    scene.finish()
    verdict = scene.verdict()
    assert verdict.faults == []
    assert verdict.signed_again


@pytest.mark.parametrize("boundary", boundaries("void"))
def test_a_kill_while_it_gives_up_the_certificate_of_an_erased_board_loses_nothing(scene, boundary):
    assert scene.run("install: before").killed
    for board in scene.boards.boards:
        board.unplug()
        (board.storage / "flash.bin").unlink()
        board.plug()
    assert scene.run(boundary).killed
    scene.finish()
    verdict = scene.verdict()
    assert verdict.faults == []
    assert verdict.void


@pytest.mark.parametrize("boundary", boundaries("failed"))
@pytest.mark.parametrize("scene", [UNPLUGGED_IN_KEY], ids=["unplugged"], indirect=True)
def test_a_kill_while_it_writes_down_a_failure_loses_nothing(scene, boundary):
    assert scene.run(boundary).killed
    scene.finish()
    assert scene.verdict().faults == []


@pytest.fixture
def blank_scene(line, stations, tmp_path):
    """Two boards that come blank, and a bundle for them."""
    releases = Releases(tmp_path / "firmware")
    line.flashes(releases.bundle(), releases.release_key)
    with VirtualLine(line.program, line.slots, BOARDS, image_key=releases.image_key) as boards:
        line.name_slots(boards.ports)
        yield Scene(line, boards, stations)


@pytest.mark.parametrize("boundary", FLASHING)
def test_a_kill_there_while_boards_are_flashed_loses_nothing(blank_scene, boundary):
    assert blank_scene.run(boundary).killed
    assert blank_scene.verdict(done=False).faults == []
    blank_scene.finish()
    assert blank_scene.verdict().faults == []


COMMITTED = ("begin", "reserve", "record", "passed")


@pytest.mark.parametrize("act", ["full", "frozen"])
@pytest.mark.parametrize(
    "boundary", [name for name in boundaries(*COMMITTED, "sign", "install") if "commit" not in name or "before" in name]
)
def test_a_disk_that_takes_no_byte_any_more_loses_nothing(scene, boundary, act):
    ended = scene.run(boundary, act)
    assert ended.status == 1
    assert ended.codes() <= {"manifest.disk_full", "manifest.io", "manifest.read_only", "warrant.not_noted"}
    assert scene.verdict(done=False).faults == []
    scene.finish()
    assert scene.verdict().faults == []


@pytest.mark.parametrize("boundary", boundaries("begin", "reserve", "sign", "record", "passed"))
def test_a_token_that_is_taken_away_there_and_brought_back_loses_nothing(scene, boundary):
    tokens = scene.line.folder / "tokens" / "tokens"
    station = scene.stations.start(scene.line.config, "--once", boundary=boundary, act=f"away {tokens}")
    while not station.ends_within(0.05):  # it has ended, or it waits for the token to come back
        if any(event.get("code", "").startswith("token.") for event in station.events()):
            break
    if tokens.exists():
        shutil.rmtree(tokens)
    tokens.with_name("tokens.away").rename(tokens)
    station.kill()
    station.end()
    assert scene.verdict(done=False).faults == []
    scene.finish()
    assert scene.verdict().faults == []
