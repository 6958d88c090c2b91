"""The flash step in the way of a unit, with real boards that have a bootloader: from blank to PASS, and back."""

import json
import re
from dataclasses import dataclass

import pytest
from bench.images import Releases
from bench.stations import Ended, Starter, starter

from firmware_tools.provisioning import Locks
from firmware_tools.rom_loaders.esp import EspLoader
from firmware_tools.rom_loaders.esp_chips import CHIPS
from firmware_tools.rom_loaders.flash_file import FlashFile
from firmware_tools.rom_loaders.ports import PtyPort
from firmware_tools.testing import signed_bundle
from firmware_tools.virtual_line.line import VirtualLine
from firmware_tools.virtual_line.wire import Cut, CutKind, Direction, Wire
from station.manifest import ManifestReader, UnitState

LOCK = """
[[lock]]
name = "{name}"
by = "device"
irreversible = true
"""


@pytest.fixture(scope="session")
def stations():
    """Start stations quickly."""
    with starter() as running:
        yield running


@dataclass
class Scene:
    """A line of boards that come blank."""

    line: object
    releases: Releases
    boards: VirtualLine
    stations: Starter

    def takes(self, version="1.0.0", *, body=bytes(20_000), lock="", releases=None, **keys) -> None:
        """Write the bundle with this version into the configuration."""
        releases = releases or self.releases
        self.line.flashes(releases.bundle(version, body=body, lock=lock), self.releases.release_key, **keys)

    def serve(self, *options) -> Ended:
        """Let the station serve each board once."""
        return self.stations.start(self.line.config, "--once", *options).end(60)

    def history(self, number=0):
        with ManifestReader(self.line.manifest) as reader:
            return reader.unit(self.boards.boards[number].hardware_id)

    def flashed(self, number=0) -> list[dict]:
        """Return what the events of a board tell about its flashing, oldest first."""
        return [event.facts for event in self.history(number).events if event.kind == "flashed"]

    def codes(self, ended) -> list[str]:
        return [event["code"] for event in ended.events if event["event"] == "slot" and event["state"] == "failed"]


@pytest.fixture
def scene(line, stations, tmp_path, request):
    """Two boards; tests may give them a wire."""
    options = dict(getattr(request, "param", {}))
    releases = Releases(tmp_path / "firmware")
    with VirtualLine(
        line.program, line.slots, options.pop("count", 2), image_key=releases.image_key, **options
    ) as boards:
        line.name_slots(boards.ports)
        scene = Scene(line, releases, boards, stations)
        scene.takes()
        yield scene


def test_blank_boards_are_flashed_and_pass(scene):
    ended = scene.serve()
    assert ended.status == 0, ended.errors
    for number in range(2):
        assert scene.history(number).unit.state is UnitState.PASSED
        (facts,) = scene.flashed(number)
        assert (facts["version"], facts["skipped"], facts["loader_before"]) == ("1.0.0", "False", "True")
        assert facts["image_after"] == scene.history(number).unit.firmware_sha256.hex()
    with ManifestReader(scene.line.manifest) as reader:
        (row,) = reader.firmware()
    assert (row.version, row.bundle_sha256.hex()) == ("1.0.0", facts["bundle"])


@pytest.mark.parametrize("scene", [{"wire": Wire(baud=921_600)}], ids=["wire"], indirect=True)
def test_progress_is_told_on_the_way_and_only_rises(scene):
    scene.takes(body=bytes(100_000))
    ended = scene.serve()
    told = [event["percent"] for event in ended.events if event.get("slot") == "1" and "percent" in event]
    assert len(told) > 3
    assert told == sorted(set(told))
    assert told[-1] <= 100


def test_a_board_that_runs_the_image_is_not_written_again(scene):
    scene.takes(lock="")
    scene.line.config.write_text(
        scene.line.config.read_text().replace("[product]\n", "[product]\ndry_run_locks = true\n")
    )
    scene.serve()
    scene.serve()
    first, second = scene.flashed()
    assert (first["skipped"], second["skipped"]) == ("False", "True")


def test_a_unit_that_passed_keeps_its_firmware_when_the_line_has_a_newer_bundle(scene):
    scene.serve()
    before = scene.history().unit.firmware_sha256
    scene.takes("1.1.0", body=bytes(30_000))
    ended = scene.serve()
    assert [event["state"] for event in ended.events if event["event"] == "slot"].count("done before") == 2
    assert len(scene.flashed()) == 1
    assert scene.history().unit.firmware_sha256 == before


def test_a_board_with_older_firmware_that_never_passed_gets_the_newer_one(scene):
    scene.takes(dry_run_locks="true")
    scene.serve()
    scene.takes("1.1.0", body=bytes(30_000))
    assert scene.serve().status == 0
    assert [facts["version"] for facts in scene.flashed()] == ["1.0.0", "1.1.0"]
    assert scene.history().unit.firmware_version == "1.1.0"


def test_an_older_bundle_than_was_here_stops_the_line_before_a_board_is_touched(scene):
    scene.takes("2.0.0")
    scene.serve()
    scene.takes("1.9.0")
    ended = scene.serve()
    assert ended.status == 1
    assert "2.0.0 was here before" in ended.errors
    assert "Traceback" not in ended.errors
    assert ended.events == []


def test_a_line_that_can_not_start_does_not_rule_the_older_bundle_out(scene):
    scene.takes("2.0.0")
    (scene.line.folder / "broken.driver.toml").write_text("?")
    scene.line.name_slots(scene.boards.ports, driver='"broken.driver.toml"')
    assert scene.serve().status == 1
    scene.line.name_slots(scene.boards.ports)
    scene.takes("1.9.0")
    assert scene.serve().status == 0


def test_an_older_bundle_may_come_back_for_a_reason_that_stays_on_record(scene):
    scene.takes("2.0.0", dry_run_locks="true")
    scene.boards.boards[1].unplug()
    scene.line.name_slots(scene.boards.ports[:1])
    scene.serve()
    scene.boards.boards[0].unplug()
    scene.boards.boards[1].plug()
    scene.takes("1.9.0", allow_rollback='"2.0.0 lost its radio"')
    scene.line.name_slots(scene.boards.ports[1:])
    assert scene.serve().status == 0
    with ManifestReader(scene.line.manifest) as reader:
        assert [(row.version, row.reason) for row in reader.firmware()] == [
            ("2.0.0", ""),
            ("1.9.0", "2.0.0 lost its radio"),
        ]


def test_a_board_whose_bootloader_refuses_the_older_image_is_the_one_that_fails(scene):
    scene.takes("2.0.0", dry_run_locks="true")
    scene.serve()
    scene.takes("1.9.0", allow_rollback='"a test"')
    assert set(scene.codes(scene.serve())) == {"flash.downgrade"}


def test_an_image_that_the_board_does_not_trust_gives_nobody_an_identity(scene, tmp_path):
    forged = Releases(tmp_path / "forged", release=scene.releases.release)
    scene.takes(releases=forged)
    ended = scene.serve()
    assert len(scene.codes(ended)) == 2
    assert all(code.startswith("flash.") for code in scene.codes(ended))
    with ManifestReader(scene.line.manifest) as reader:
        assert list(reader.units()) == []


def test_a_board_of_another_product_is_not_flashed(scene, line, tmp_path):
    scene.takes(dry_run_locks="true")
    scene.serve()
    scene.takes("1.1.0", body=bytes(30_000))
    scene.boards.close()
    with VirtualLine(line.program, line.slots, 2, model="pump", image_key=scene.releases.image_key) as boards:
        line.name_slots(boards.ports)
        assert set(scene.codes(scene.serve())) == {"unit.wrong_model"}
        board = boards.boards[0]
        with ManifestReader(line.manifest) as reader:
            assert [e.facts["version"] for e in reader.unit(board.hardware_id).events if e.kind == "flashed"] == [
                "1.0.0"
            ]


def wire(after, kind):
    """A wire that is cut after so many bytes to the board: in the first request, half way, at the end."""
    return Wire(baud=921_600, cut=Cut(Direction.TO_DEVICE, after, kind))


CUTS = {f"at {after}": {"count": 1, "wire": wire(after, CutKind.UNPLUG)} for after in (500, 14_000, 27_800)}


@pytest.mark.parametrize("scene", CUTS.values(), ids=CUTS, indirect=True)
def test_a_board_that_is_unplugged_in_the_middle_goes_on_at_its_next_visit(scene):
    ended = scene.serve()
    assert scene.codes(ended) == ["link.unplugged"]
    scene.boards.boards[0].plug()
    assert scene.serve().status == 0
    assert scene.history().unit.state is UnitState.PASSED


BLINK = {"count": 1, "wire": wire(14_000, CutKind.POWER), "on_cut": lambda board, _cut: board.power_on()}


@pytest.mark.parametrize("scene", [BLINK], ids=["blink"], indirect=True)
def test_a_board_whose_power_blinks_in_the_middle_goes_on_in_the_same_visit(scene):
    assert scene.serve().status == 0
    assert scene.history().unit.state is UnitState.PASSED


def test_a_dry_run_of_locks_closes_nothing_and_passes_nobody(scene):
    ended = scene.serve("--dry-run-locks")
    assert ended.status == 1
    stopped = [event for event in ended.events if event.get("state") == "stopped"]
    assert {event["code"] for event in stopped} == {"unit.dry_run"}
    assert "debug, credentials" in stopped[0]["detail"]
    unit = scene.history()
    assert (unit.unit.state, unit.proof) == (UnitState.OPEN, None)
    (said,) = [event.facts for event in unit.events if event.kind == "would lock"]
    assert (said["plan"], said["closed"]) == ("debug, credentials", "nothing")
    assert scene.serve().status == 0
    assert scene.history().proof.locks == Locks.DEBUG | Locks.CREDENTIALS


def test_the_lock_plan_of_the_bundle_closes_what_the_product_leaves_open(scene):
    text = re.sub(r"^locks = .*$", "locks = []", scene.line.config.read_text(), flags=re.MULTILINE)
    scene.line.config.write_text(text)
    scene.takes(lock=LOCK.format(name="credentials"))
    assert scene.serve().status == 0
    assert scene.history().proof.locks == Locks.CREDENTIALS


def test_a_board_with_raw_framing_is_flashed_and_passes(line, stations, tmp_path):
    releases = Releases(tmp_path / "firmware")
    line.flashes(releases.bundle(), releases.release_key)
    with VirtualLine(line.program, line.slots, 1, image_key=releases.image_key, arguments=("--raw",)) as boards:
        line.name_slots(boards.ports, framing='"raw"')
        ended = stations.start(line.config, "--once").end(60)
        assert ended.status == 0, ended.events[-1]


@pytest.mark.parametrize("scene", [{"count": 1}], ids=["one"], indirect=True)
def test_a_blank_board_that_takes_the_place_of_another_in_a_fixture_is_flashed_too(scene):
    scene.line.name_slots(scene.boards.ports, fixture="true")
    board = scene.boards.boards[0]
    station = scene.stations.start(scene.line.config)
    try:
        _await(station, "passed", 1)
        first = board.hardware_id
        board.power_off()
        _await(station, "empty", 2)
        board.swap()
        _await(station, "passed", 2)
    finally:
        station.kill()
        station.end()
    assert board.hardware_id != first
    assert len(scene.flashed()) == 1


def _await(station, state, times):
    """Wait until a station has told of a state so many times."""
    for _ in range(400):
        if sum(event.get("state") == state for event in station.events()) >= times:
            return
        assert not station.ends_within(0.05)
    raise AssertionError(station.events()[-3:])


ESP = """
product = "reference-device"
version = "1.0.0"
[flash]
kind = "esp"
chip = "esp32c3"
[[image]]
name = "data"
file = "data"
address = 0x10000
"""


def test_a_chip_gets_its_firmware_through_its_own_tool_and_the_station_has_its_port_back(line, stations, tmp_path):
    """The virtual chip runs no application, so the unit ends where the board is asked who it is."""
    releases = Releases(tmp_path / "firmware")
    content = bytes(range(256)) * 100
    bundle, flash = tmp_path / "esp.bundle", tmp_path / "chip.bin"
    bundle.write_bytes(signed_bundle(ESP, {"data": content}, releases.release))
    line.flashes(bundle, releases.release_key)
    port = PtyPort(EspLoader(CHIPS["esp32c3"], FlashFile(flash, 4 << 20)), tmp_path / "esp")
    try:
        line.name_slots([port.link])
        ended = stations.start(line.config, "--once").end(60)
    finally:
        port.close()
    steps = [event["step"] for event in ended.events if event["event"] == "slot" and "percent" not in event]
    assert steps == ["", "look", "flash", "identify", "identify"]
    (code,) = [event["code"] for event in ended.events if event.get("state") == "failed"]
    assert code in {"link.no_answer", "step.deadline"}  # on a busy machine the silence lasts as long as the step may
    assert flash.read_bytes()[0x10000:].startswith(content)


def test_the_transcript_of_a_flash_has_the_answers_and_not_the_image(scene):
    scene.takes(body=bytes(range(256)) * 400)
    scene.serve()
    files = list((scene.line.folder / "transcripts").glob("*.wire"))
    assert len(files) == 2
    for file in files:
        assert file.stat().st_size < 60_000
        assert "< " in file.read_text()


def test_the_commands_show_what_was_flashed(scene):
    scene.serve()
    said = scene.line.station("unit", "show", scene.boards.boards[0].hardware_id, "--json").stdout
    assert json.loads(said)["firmware_sha256"] == scene.flashed()[0]["image_after"]
