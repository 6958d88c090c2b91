"""A board whose certificate is wanted while the HSM fails: it waits, and nothing is lost."""

import asyncio
import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pkcs11 import exceptions as p11

from hsm import Authority, Issuer, Issuers, Profile, Signer, State, Timing
from hsm.fake_token import FAKE_URI, FakeToken, ManualClock
from station.config import OrderSection, ProductSection
from station.devices import Locks
from station.devices.smp import SmpDriver
from station.events import SlotState
from station.line.unit import UnitRun
from station.line.workshop import Workshop
from station.manifest import Manifest, ManifestReader
from station.testing import ScriptedBoard
from station.testing.orders import open_signed

ORDER = OrderSection(name="WO-1")
PRODUCT = ProductSection(
    model="reference-device", firmware_version=None, firmware_sha256=None, locks=Locks.DEBUG | Locks.CREDENTIALS
)
NO_END = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
USAGE = x509.KeyUsage(False, False, False, False, False, True, True, False, False)


def issuer_of(token, name="Test Intermediate"):
    """Return a CA's certificate for a fake's key."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder(subject, subject, token.public, 7, now - dt.timedelta(1), NO_END)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(token.public), critical=False)
        .sign(token.private, hashes.SHA256())
    )


class Line:
    """A shop whose HSM is scripted, and one board after the other."""

    def __init__(self, manifest, token, clock, signer, *, authority, orders):
        self.manifest, self.token, self.clock, self.signer = manifest, token, clock, signer
        self.shop = Workshop(manifest, authority, Profile.load("idevid"), PRODUCT, ORDER, station_id=7, orders=orders)
        self.told = []
        self._news = asyncio.Event()

    def _tell(self, event):
        self.told.append(event)
        self._news.set()

    def start(self, board, slot="1"):
        return asyncio.ensure_future(self._run(board, slot))

    async def _run(self, board, slot):
        link = board.plug()
        try:
            return await UnitRun(self.shop, SmpDriver(link), slot, self._tell).run()
        finally:
            link.close()

    async def told_code(self, code, times=1):
        async with asyncio.timeout(20):
            while [event.code for event in self.told].count(code) < times:
                self._news.clear()
                await self._news.wait()
        return next(event for event in self.told if event.code == code)

    def next_sign(self):
        return self.token.calls["sign"] + 1

    def issuances(self, board):
        with ManifestReader(self.manifest.path) as reader:
            return reader.unit(board.hardware_id).issuances


@pytest.fixture
async def line(tmp_path):
    token, clock = FakeToken(), ManualClock()
    with Signer.on(token, FAKE_URI, timing=Timing(clock=clock)) as signer:
        authority = await Authority.open(signer, issuer=issuer_of(token))
        with Manifest.open(tmp_path / "manifest.db") as manifest:
            orders = await open_signed(manifest, quantity=5, station_id=7)
            yield Line(manifest, token, clock, signer, authority=authority, orders=orders)
        token.release()


def counted(line, board):
    """Return the tries in the journal, and what the board ended with."""
    (issuance,) = line.issuances(board)
    assert issuance.certificate == board.leaf
    return issuance.signing_tries


async def test_a_session_that_is_lost_is_one_slow_answer_and_two_tries_in_the_journal(line):
    board = ScriptedBoard()
    line.token.at("sign", line.next_sign(), p11.SessionHandleInvalid())
    end = await line.start(board)
    assert end.state is SlotState.PASSED
    assert counted(line, board) == 2
    assert {event.code for event in line.told} == {""}


async def test_a_token_that_is_away_puts_the_slot_to_sleep_and_the_board_goes_on_by_itself(line):
    board = ScriptedBoard()
    line.token.from_("sign", line.next_sign(), p11.DeviceRemoved())
    running = line.start(board)
    asleep = await line.told_code("token.asleep")
    assert asleep.state is SlotState.RUNNING
    assert asleep.sentence.startswith("The HSM is asleep. Leave the boards where they are")
    line.clock.advance(30)
    await line.told_code("token.asleep", times=2)
    line.token.mend()
    line.clock.advance(30)
    end = await running
    assert end.state is SlotState.PASSED
    assert counted(line, board) == 2
    assert board.leaf is not None


async def test_boards_that_come_while_the_token_is_away_wait_too(line):
    boards = [ScriptedBoard(hardware_id=f"0{number}") for number in range(3)]
    line.token.from_("sign", line.next_sign(), p11.DeviceRemoved())
    running = [line.start(boards[0], "0")]
    # What is reserved in the moment in which the token falls asleep waits for the next reload, and nobody is told yet.
    await line.told_code("token.asleep")
    running += [line.start(board, str(number)) for number, board in enumerate(boards[1:], 1)]
    await line.told_code("token.asleep", times=3)
    line.token.mend()
    line.clock.advance(30)
    ends = await asyncio.gather(*running)
    assert {end.state for end in ends} == {SlotState.PASSED}
    assert len({board.leaf for board in boards}) == 3


async def test_a_hung_token_is_told_and_the_board_goes_on_when_it_is_back(line):
    board = ScriptedBoard()
    line.token.at("sign", line.next_sign(), line.token.hang)
    running = line.start(board)
    await asyncio.to_thread(line.token.hangs)
    line.clock.advance(16)
    hung = await line.told_code("token.hung")
    assert "Unplug it for ten seconds" in hung.sentence
    line.token.release()
    end = await running
    assert end.state is SlotState.PASSED
    assert counted(line, board) == 2


async def test_a_refused_pin_fails_the_board_which_can_be_resumed(line):
    board = ScriptedBoard()
    line.token.at("sign", line.next_sign(), p11.SessionHandleInvalid())
    line.token.at("log_in", 2, p11.PinIncorrect())
    end = await line.start(board)
    assert (end.state, end.code) == (SlotState.FAILED, "pin.incorrect")
    assert "Don't restart the station" in end.sentence
    (issuance,) = line.issuances(board)
    assert issuance.certificate is None
    assert line.signer.state is State.REFUSED


async def test_a_board_is_taken_out_while_the_token_is_away_and_plugged_in_later(line):
    board = ScriptedBoard()
    line.token.from_("sign", line.next_sign(), p11.DeviceRemoved())
    running = line.start(board)
    await line.told_code("token.asleep")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    line.token.mend()
    line.clock.advance(30)
    await line.signer.awake()
    end = await line.start(board)
    assert end.state is SlotState.PASSED
    assert len(line.issuances(board)) == 1


async def test_two_issuers_take_turns_and_each_board_gets_the_chain_of_its_own(line):
    token = FakeToken(private=ec.generate_private_key(ec.SECP256R1()))
    with Signer.on(token, FAKE_URI) as signer:
        other = await Authority.open(signer, issuer=issuer_of(token, "Other Intermediate"))
        line.shop = Workshop(
            line.manifest,
            line.shop.authority,
            line.shop.profile,
            PRODUCT,
            ORDER,
            station_id=7,
            issuers=Issuers([Issuer(line.shop.authority), Issuer(other)]),
            orders=line.shop.orders,
        )
        boards = [ScriptedBoard(hardware_id=f"0{number}") for number in range(4)]
        for board in boards:
            assert (await line.start(board)).state is SlotState.PASSED
    issuers = []
    for board in boards:
        leaf = x509.load_der_x509_certificate(board.leaf)
        above = x509.load_der_x509_certificate(board.chain[len(board.leaf) :])
        leaf.verify_directly_issued_by(above)
        issuers.append(leaf.issuer.rfc4514_string())
    assert issuers == ["CN=Test Intermediate", "CN=Other Intermediate"] * 2
