"""The token fails at every call in the way of one unit: the line says so in the right words, and no board gets two."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from bench.assault import issuer_of
from bench.shop import shop_of
from pkcs11 import exceptions as p11

from hsm import Authority, Signer, Timing
from hsm.fake_token import FAKE_URI, FakeToken, ManualClock
from station.devices.smp import SmpDriver
from station.events import SlotState
from station.line.unit import UnitRun
from station.manifest import IssuanceState, Manifest, ManifestReader
from station.testing import ScriptedBoard

WAY = ["sign", "reload", "connect", "log_in", "find", "sign", "sign"]
"""The calls for one board whose signature finds the session gone: the token is opened anew, probed, and asked again."""

FAULTS = {
    "removed": p11.DeviceRemoved,
    "general error": p11.GeneralError,
    "session gone": p11.SessionHandleInvalid,
    "logged out": p11.UserNotLoggedIn,
    "device error": p11.DeviceError,
    "no memory": p11.DeviceMemory,
}


positions = pytest.mark.parametrize("position", range(len(WAY)), ids=[f"{at}-{call}" for at, call in enumerate(WAY)])


class Line:
    """A token on a script, and the boards that come to it."""

    def __init__(self, token, clock, shop):
        self.token, self.clock, self.shop = token, clock, shop
        self.told = []
        self.probes = token.calls["sign"]

    async def serve(self, board):
        """Plug a board in; let time pass until its unit ends."""
        link = board.plug()
        task = asyncio.ensure_future(UnitRun(self.shop, SmpDriver(link), "1", self.told.append).run())
        async with asyncio.timeout(30):
            while not (await asyncio.wait({task}, timeout=0.01))[0]:
                self.clock.advance(16)
                if self.token.hangs(0):
                    self.token.release()
        link.close()
        return task.result()

    def history(self, board):
        with ManifestReader(self.shop.manifest.path) as reader:
            return reader.unit(board.hardware_id)

    def sentences(self):
        return {event.sentence for event in self.told if event.code}

    async def ends_well(self, board):
        """Let the board come again until it passed; hold the record against board and token."""
        end = await self.serve(board)
        visits = 1
        while end.state is SlotState.FAILED and visits < 3:
            assert "HSM" in end.sentence
            self.token.mend()
            end = await self.serve(board)
            visits += 1
        assert end.state in {SlotState.PASSED, SlotState.DONE_BEFORE}
        (issuance,) = self.history(board).issuances
        assert issuance.certificate == board.leaf
        return issuance.signing_tries


@asynccontextmanager
async def opened(folder):
    token, clock = FakeToken(), ManualClock()
    with Signer.on(token, FAKE_URI, timing=Timing(clock=clock)) as signer, Manifest.open(folder / "m.db") as manifest:
        authority = await Authority.open(signer, issuer=issuer_of(token))
        try:
            yield Line(token, clock, await shop_of(manifest, authority))
        finally:
            token.release()


@pytest.fixture
async def line(tmp_path):
    async with opened(tmp_path) as line:
        yield line


def fail_at(line, position, fault, times=1):
    """Inject a fault at one call of ``WAY``; the first signature finds its session gone, so that the others come."""
    if position:
        line.token.at("sign", line.token.calls["sign"] + 1, p11.SessionHandleInvalid())
    call = WAY[position]
    line.token.from_(call, line.token.calls[call] + WAY[: position + 1].count(call), fault, times=times)


async def test_the_way_is_what_these_tests_say(line):
    line.token.at("sign", line.token.calls["sign"] + 1, p11.SessionHandleInvalid())
    before = len(line.token.order)
    await line.serve(ScriptedBoard())
    assert [call for call in line.token.order[before:] if call != "beat"] == WAY


@positions
@pytest.mark.parametrize("name", FAULTS)
async def test_a_token_that_fails_at_any_call_leaves_one_certificate(line, position, name):
    board = ScriptedBoard()
    fail_at(line, position, FAULTS[name]())
    tries = await line.ends_well(board)
    assert tries <= line.token.calls["sign"]
    assert all("HSM" in sentence for sentence in line.sentences())


@positions
async def test_a_token_that_is_away_from_any_call_on_and_comes_back_leaves_one_certificate(line, position):
    board = ScriptedBoard()
    fail_at(line, position, p11.DeviceRemoved(), times=3)
    await line.ends_well(board)
    assert any("asleep" in sentence for sentence in line.sentences())


@positions
async def test_a_token_that_hangs_at_any_call_leaves_one_certificate(line, position):
    board = ScriptedBoard()
    fail_at(line, position, line.token.hang)
    await line.ends_well(board)
    assert all("HSM" in sentence for sentence in line.sentences())


async def test_a_wrong_signature_never_leaves_the_station(line):
    board, right = ScriptedBoard(), line.token.sign
    line.token.sign = lambda found, request: bytes(reversed(right(found, request)))
    end = await line.serve(board)
    assert end.state is SlotState.FAILED
    assert "HSM" in end.sentence
    (issuance,) = line.history(board).issuances
    assert (issuance.state, issuance.certificate, board.chain) == (IssuanceState.INTENT, None, None)


async def test_after_a_wrong_signature_the_same_bytes_are_signed_again(line):
    board, right = ScriptedBoard(), line.token.sign
    line.token.sign = lambda found, request: bytes(reversed(right(found, request)))
    await line.serve(board)
    intended = line.history(board).issuances[0].tbs
    line.token.sign = right
    assert await line.ends_well(board) >= 2
    assert line.history(board).issuances[0].tbs == intended


@pytest.mark.parametrize("garbage", [b"", b"\x00" * 64, b"\xff" * 64, b"\x01", b"x" * 5000], ids=len)
async def test_a_signature_that_is_none_never_leaves_the_station(line, garbage):
    board, right = ScriptedBoard(), line.token.sign
    line.token.sign = lambda _found, _request: garbage
    end = await line.serve(board)
    assert (end.state, board.chain) == (SlotState.FAILED, None)
    line.token.sign = right
    await line.ends_well(board)
