"""Hostile boards and the real line: unit runs, manifest and authority, a fake token; on a wire in memory and on a tty.

``./run bench hostile`` does the same a million times.
"""

import asyncio
import os
import time
import tracemalloc
import tty
from contextlib import suppress
from random import Random

import pytest
from bench.assault import Assault, issuer_of
from bench.explore import explore
from bench.languages import ALL_LOCKS
from bench.shop import shop_of

from hsm import Authority, Signer
from hsm.fake_token import FAKE_URI, FakeToken
from station.devices.smp import SmpDriver
from station.events import SlotState
from station.line.unit import UnitRun
from station.manifest import Manifest, ManifestReader
from station.ports.link import open_link
from station.testing import Verb
from station.testing.hostile_board import DEADLY, LIES, HostileBoard
from station.testing.twists import TWISTS, drip_for_ever, flood, silence

VERBS = (Verb.IDENT, Verb.CSR, Verb.CHAIN_WRITE, Verb.CHAIN_READ, Verb.PROVE, Verb.LOCK_WRITE, Verb.LOCK_READ)


@pytest.fixture(scope="module")
def assault(tmp_path_factory):
    """A line in virtual time; its tally is empty of faults, or the test that made one fails."""
    made = Assault(tmp_path_factory.mktemp("assault"), seed=1)
    with made.opened():
        yield made
    assert made.tally.faults == []


def name_of(value):
    return value.name if isinstance(value, Verb) else value.__name__


@pytest.mark.parametrize("twist", TWISTS, ids=name_of)
def test_a_twist_of_every_answer_does_no_harm_and_the_board_passes_afterwards(assault, twist):
    before = len(assault.tally.faults)
    for verb in VERBS:
        board = assault.board(Random(verb.name))  # noqa: S311 - a hostile board, not a secret
        board.twist_with(twist, verb)
        assault.visit(board)
        assert board.twisted > 0
        assault.judge(board)
    assert assault.tally.faults[before:] == []


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_does_no_harm(assault, lie):
    before = len(assault.tally.faults)
    board = assault.board()
    board.lie(lie)
    end = assault.visit(board)
    assert board.twisted > 0
    assert lie not in DEADLY or end.state is SlotState.FAILED
    assault.judge(board)
    assert assault.tally.faults[before:] == []


@pytest.mark.parametrize("lie", ["wrong model", "forged CSR", "weak CSR", "endless CSR", "new leaf"])
def test_a_board_that_shows_no_sound_key_or_is_another_product_gets_no_certificate(assault, lie):
    board = assault.board()
    board.lie(lie)
    end = assault.visit(board)
    assert end.state is SlotState.FAILED
    assert board.chain is None
    history = assault.history(board)
    assert history is None or history.issuances == ()


def test_random_attacks_do_no_harm(tmp_path):
    tally = Assault(tmp_path, seed=2).run(2500)
    assert tally.faults == []
    assert tally.twisted >= 2500
    assert tally.honest["DONE_BEFORE"] + tally.honest["PASSED"] > 0.8 * tally.boards


def test_what_hypothesis_finds_does_no_harm(tmp_path):
    assert explore(tmp_path, 60).faults == []


def test_memory_stays_small_whatever_a_board_says(assault):
    assault.visit(assault.board())
    tracemalloc.start()
    try:
        for twist in (flood, drip_for_ever, *TWISTS):
            board = assault.board()
            board.twist_with(twist, Verb.CSR)
            assault.visit(board)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


# On a real tty, in real time.


class Terminal:
    """A hostile board at the far end of a pseudo-terminal."""

    def __init__(self, board):
        self.board = board
        self._far, self._near = os.openpty()
        tty.setraw(self._near)
        os.set_blocking(self._far, False)
        self.port = os.ttyname(self._near)
        board.plug()
        board.link = self
        self._waiting = bytearray()
        asyncio.get_running_loop().add_reader(self._far, self._heard)

    def _heard(self):
        try:
            self.board._hear(os.read(self._far, 65536))
        except OSError:  # nobody has the other end open just now
            return

    def receive(self, data):
        """Say something, as fast as the terminal takes it; what does not fit is lost, as on a wire."""
        with suppress(OSError):
            if self._far is not None:
                os.write(self._far, data)

    def close(self):
        asyncio.get_running_loop().remove_reader(self._far)
        os.close(self._far)
        os.close(self._near)
        self._far = None  # what is said late must not go to whoever gets the number next


@pytest.fixture
async def shop(tmp_path):
    token = FakeToken()
    with Signer.on(token, FAKE_URI) as signer, Manifest.open(tmp_path / "manifest.db") as manifest:
        authority = await Authority.open(signer, issuer=issuer_of(token))
        yield await shop_of(manifest, authority)


async def serve(shop, board):
    terminal = Terminal(board)
    link = await open_link(terminal.port, 115200)
    try:
        return await UnitRun(shop, SmpDriver(link), "1", lambda _event: None).run()
    finally:
        link.close()
        terminal.close()


SLOW = {silence, drip_for_ever}
"""They wait for real seconds; on the wire in memory they are tried with every answer."""


@pytest.mark.parametrize("twist", [twist for twist in TWISTS if twist not in SLOW], ids=name_of)
async def test_on_a_tty_a_twist_now_and_then_ends_in_an_answer_of_the_line(shop, twist):
    board = HostileBoard("TTY-1", Random(twist.__name__))  # noqa: S311 - as above
    for verb in (Verb.IDENT, Verb.CSR):
        board.twist_with(twist, verb, rate=0.5)
        began = time.monotonic()
        end = await serve(shop, board)
        assert end.state in {SlotState.PASSED, SlotState.DONE_BEFORE, SlotState.FAILED}
        assert time.monotonic() - began < 60
    board.behave()
    assert (await serve(shop, board)).state in {SlotState.PASSED, SlotState.DONE_BEFORE}
    with ManifestReader(shop.manifest.path) as reader:
        history = reader.unit("TTY-1")
    assert [issuance.certificate for issuance in history.issuances] == [board.leaf]
    assert history.proof.locks == ALL_LOCKS
