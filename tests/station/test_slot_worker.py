"""One slot, with a real token and a real manifest; its port is a wire in memory with a scripted board."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from firmware_tools.provisioning import Locks
from hsm import Authority, Profile
from hsm.testing import temporary_ca
from station.config import OrderSection, ProductSection, SlotConfig
from station.errors import LinkError, Unplugged
from station.events import SlotState
from station.line import policy, slot_worker
from station.line.slot_worker import SlotWorker
from station.line.workshop import Workshop
from station.manifest import Manifest, ManifestReader
from station.ports.link import OPEN_HANGS
from station.ports.transcript import NullTranscript
from station.ports.transcript_folder import SlotTape, TranscriptFolder
from station.testing import ScriptedBoard, Verb
from station.testing.orders import open_signed

PORT = "/dev/ttyTEST"


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    with temporary_ca(tmp_path_factory.mktemp("ca")) as ca:
        yield ca


@pytest.fixture
async def shop(ca, tmp_path):
    authority = await Authority.open(ca.signer, issuer=ca.issuer, chain=[ca.root])
    with Manifest.open(tmp_path / "manifest.db") as manifest:
        orders = await open_signed(manifest, station_id=7)
        yield Workshop(
            manifest=manifest,
            authority=authority,
            profile=Profile.load("idevid"),
            product=ProductSection("reference-device", None, None, Locks.NONE),
            order=OrderSection(name="WO-1"),
            station_id=7,
            orders=orders,
        )


class Slot:
    """A slot's worker and what it told."""

    def __init__(self, shop, tmp_path, *, fixture, pace):
        self.board = ScriptedBoard("A")
        self.told = []
        self.task = None
        self.transcripts = tmp_path / "transcripts"
        self.openings = 0
        self._more = asyncio.Event()
        config = SlotConfig(name="1", port=PORT, usb=None, baud=115200, fixture=fixture)
        folder = TranscriptFolder(self.transcripts, 1 << 20)
        self.worker = SlotWorker(config, shop, folder, self._watch, pace=pace)

    async def open(self, _device, _baud, *, transcript):
        self.openings += 1
        if self.board is None:
            raise Unplugged("no board")
        return self.board.plug(transcript=transcript)

    def _watch(self, event):
        self.told.append(event)
        self._more.set()

    async def ends(self, *states, after=0, seconds=10):
        """Return the first event from number ``after`` on with one of these states."""
        async with asyncio.timeout(seconds):
            while True:
                for event in self.told[after:]:
                    if event.state in states:
                        return event
                self._more.clear()
                await self._more.wait()

    async def asked(self, times=2):
        """Wait until the board was asked so many times more who it is."""
        before = self._looks()
        async with asyncio.timeout(10):
            while self._looks() < before + times:  # noqa: ASYNC110  a board notes what it is asked, and tells nobody
                await asyncio.sleep(0.02)

    def _looks(self):
        return sum(verb is Verb.IDENT for verb, _ in self.board.requests)

    def becomes(self, hardware_id):
        """Let the board be another one from now on."""
        self.board.hardware_id = hardware_id
        self.board.key = self.board.csr = self.board.chain = None
        self.board.locks = Locks.NONE


@pytest.fixture
def slot(shop, tmp_path, monkeypatch):
    @asynccontextmanager
    async def start(*, fixture=False, pace=None, board=True):
        slot = Slot(shop, tmp_path, fixture=fixture, pace=pace)
        if not board:
            slot.board = None
        monkeypatch.setattr(slot_worker, "open_link", slot.open)
        task = asyncio.create_task(slot.worker.run())
        slot.task = task
        slot.worker.arrived(PORT)
        try:
            yield slot
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return start


def units(shop):
    with ManifestReader(shop.manifest.path) as reader:
        return [unit.hardware_id for unit in reader.units()]


def certificates(shop):
    with ManifestReader(shop.manifest.path) as reader:
        return sum(len(reader.unit(unit.hardware_id).issuances) for unit in reader.units())


async def test_a_board_that_comes_again_and_again_as_another_stops_its_slot(slot, shop):
    async with slot(pace=3) as line:
        for number in range(3):
            line.becomes(f"ROGUE-{number}")
            seen = len(line.told)
            if number:
                line.worker.arrived(PORT)
            await line.ends(SlotState.PASSED, after=seen)
            line.board.unplug()
            line.worker.left()
            await line.ends(SlotState.EMPTY, after=seen + 1)
        line.becomes("ROGUE-3")
        line.worker.arrived(PORT)
        end = await line.ends(SlotState.FAILED)
        assert end.code == "slot.too_many_new_boards"
        assert "Leave the board in" in end.sentence
        openings = line.openings
        line.worker.left()
        line.worker.arrived(PORT)  # the board decides when its port comes and goes
        await asyncio.sleep(0.1)
        assert (line.openings, line.told[-1]) == (openings, end)
    assert certificates(shop) == 3


async def test_a_slot_that_stopped_ends_with_the_station(slot):
    async with slot(pace=1) as line:
        await line.ends(SlotState.PASSED)
        line.board.unplug()
        line.worker.left()
        await line.ends(SlotState.EMPTY, after=len(line.told))
        line.becomes("B")
        line.worker.arrived(PORT)
        await line.ends(SlotState.FAILED)
        line.worker.drain()
        async with asyncio.timeout(5):
            await line.task


async def test_a_fixtures_board_that_takes_another_number_gets_nothing_for_it(slot, shop):
    async with slot(fixture=True) as line:
        await line.ends(SlotState.PASSED)
        line.becomes("ROGUE")
        end = await line.ends(SlotState.FAILED)
        assert end.code == "unit.changed_identity"
        seen = len(line.told)
        line.becomes("ROGUE-2")
        await line.asked()
        assert len(line.told) == seen, "it is told once"
    assert units(shop) == ["A"]


async def test_a_fixtures_board_after_a_silence_is_a_new_unit(slot, shop):
    async with slot(fixture=True) as line:
        await line.ends(SlotState.PASSED)
        line.board.hush(Verb.IDENT)
        await line.ends(SlotState.EMPTY, after=len(line.told))
        line.becomes("B")
        seen = len(line.told)
        line.board.script(Verb.IDENT, lambda _request, answer: answer)
        assert (await line.ends(SlotState.PASSED, after=seen)).hardware_id == "B"
    assert units(shop) == ["A", "B"]


async def test_quick_hands_are_no_change_of_identity(slot, monkeypatch):
    monkeypatch.setattr(policy, "SWAP", 0.0)  # as if the look came as long after the one before as a swap takes
    async with slot(fixture=True) as line:
        await line.ends(SlotState.PASSED)
        seen = len(line.told)
        line.becomes("B")
        assert (await line.ends(SlotState.PASSED, SlotState.FAILED, after=seen)).hardware_id == "B"


async def test_a_fixtures_tile_stays_red_while_nobody_answers(slot):
    async with slot(fixture=True) as line:
        line.board.refuse(Verb.PROVE, 1)
        await line.ends(SlotState.FAILED)
        seen = len(line.told)
        line.board.hush(Verb.IDENT)
        await line.asked(4)
        assert len(line.told) == seen
        line.becomes("B")
        line.board.script(Verb.PROVE, lambda _request, answer: answer)
        line.board.script(Verb.IDENT, lambda _request, answer: answer)
        assert (await line.ends(SlotState.PASSED, after=seen)).hardware_id == "B"


async def test_a_fixtures_board_of_the_wrong_model_is_refused_once(slot):
    async with slot(fixture=True) as line:
        line.board.model = "toaster"
        await line.ends(SlotState.FAILED)
        seen = len(line.told)
        await line.asked(3)
        assert len(line.told) == seen


async def test_a_fixture_writes_one_transcript_a_unit_and_none_between(slot):
    async with slot(fixture=True) as line:
        await line.ends(SlotState.PASSED)
        await line.asked(3)
        line.board.hush(Verb.IDENT)
        await line.ends(SlotState.EMPTY, after=len(line.told))
        line.becomes("B")
        seen = len(line.told)
        line.board.script(Verb.IDENT, lambda _request, answer: answer)
        await line.ends(SlotState.PASSED, after=seen)
    files = sorted(line.transcripts.iterdir())
    assert len(files) == 2
    requests = [line for line in files[0].read_text().splitlines() if " > " in line]
    assert len(requests) == 6, "a unit without locks: identify, key, install, read back, prove, lock state"


async def test_a_port_whose_opening_hangs_is_not_opened_again_and_again(slot, monkeypatch):
    async with slot(board=False) as line:

        async def hang(_device, _baud, *, transcript):
            line.openings += 1
            raise LinkError("it hangs", code=OPEN_HANGS)

        monkeypatch.setattr(slot_worker, "open_link", hang)
        monkeypatch.setattr(slot_worker, "REOPEN", 0.01)
        monkeypatch.setattr(slot_worker, "OPEN_PATIENCE", 0.0)
        end = await line.ends(SlotState.FAILED)
        assert end.code == OPEN_HANGS
        openings = line.openings
        await asyncio.sleep(0.1)
        assert line.openings == openings


async def test_a_port_that_goes_away_while_its_board_restarts_is_opened_again_when_it_is_back(slot):
    async with slot() as line:
        await line.ends(SlotState.PASSED)
        tape = SlotTape(NullTranscript)
        line.worker.left()
        opening = asyncio.create_task(line.worker._open_again(tape))
        await asyncio.sleep(0)
        line.worker.arrived(PORT)
        link = await opening
        assert line.worker._is_there
        link.close()


async def test_a_port_that_does_not_come_back_is_unplugged(slot, monkeypatch):
    monkeypatch.setattr(slot_worker, "COME_BACK", 0.05)
    async with slot() as line:
        await line.ends(SlotState.PASSED)
        line.worker.left()
        with pytest.raises(Unplugged):
            await line.worker._open_again(SlotTape(NullTranscript))
