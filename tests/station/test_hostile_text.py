"""Hostile boards that speak in lines, and the real line: modems, Zephyr's shell, a shell that a file describes.

``./run bench hostile`` does the same many thousand times; ``test_hostile.py`` is about boards that speak SMP.
"""

import re
import tracemalloc
from random import Random

import pytest
from bench.assault import Assault
from bench.languages import LANGUAGES, MODEM_LIES, STRANGE, HostileModem, HostileWidget, HostileZephyr
from bench.text_boards import Widget
from bench.text_noise import noisy_visits

from station.config.languages import EXAMPLES
from station.devices import certificates
from station.devices.described import DescribedDriver
from station.devices.description_file import load
from station.errors import Garbled
from station.events import SlotState
from station.testing.text_twists import TEXT_TWISTS, drip_for_ever, flood, long_line

NAMES = ("nordic_at", "zephyr_shell", "described")
PASSED = {SlotState.PASSED, SlotState.DONE_BEFORE}


@pytest.fixture(scope="module", params=NAMES)
def assault(request, tmp_path_factory):
    """A line in virtual time; its tally is empty of faults, or the test that made one fails."""
    made = Assault(tmp_path_factory.mktemp("assault"), seed=1, language=LANGUAGES[request.param])
    with made.opened():
        yield made
    assert made.tally.faults == []


@pytest.fixture(scope="module", params=["nordic_at"])
def modems(request, tmp_path_factory):
    made = Assault(tmp_path_factory.mktemp("modems"), seed=1, language=LANGUAGES[request.param])
    with made.opened():
        yield made
    assert made.tally.faults == []


@pytest.mark.parametrize("twist", TEXT_TWISTS, ids=lambda twist: twist.__name__)
def test_a_twist_of_answers_does_no_harm_and_the_board_passes_afterwards(assault, twist):
    before = len(assault.tally.faults)
    for rate in (1.0, 0.2):
        board = assault.board(Random(twist.__name__))  # noqa: S311 - a hostile board, not a secret
        board.twist_with(twist, rate=rate)
        assault.visit(board)
        assert board.twisted > 0
        assert assault.judge(board).state in PASSED
    assert assault.tally.faults[before:] == []


def test_random_attacks_do_no_harm(tmp_path):
    for name in NAMES:
        folder = tmp_path / name
        folder.mkdir()
        tally = Assault(folder, seed=2, language=LANGUAGES[name]).run(200)
        assert tally.faults == []
        assert tally.twisted >= 200


@pytest.mark.parametrize("lie", MODEM_LIES)
def test_a_modem_that_lies_never_passes_with_it(modems, lie):
    board = modems.board(Random(lie))  # noqa: S311 - a hostile board, not a secret
    assert isinstance(board, HostileModem)
    board.lie(dict(zip(MODEM_LIES, board.lies, strict=True))[lie])
    end = modems.visit(board)
    assert board.twisted > 0
    assert lie == "old token" or end.state is SlotState.FAILED  # it is asked again, and may be honest then
    assert modems.judge(board).state in PASSED


@pytest.mark.parametrize("lie", ["CSR of another key", "statement by another key", "forged CSR", "other tag"])
def test_a_modem_whose_statement_is_wrong_gets_no_certificate(modems, lie):
    board = modems.board()
    board.lie(dict(zip(MODEM_LIES, board.lies, strict=True))[lie])
    assert modems.visit(board).state is SlotState.FAILED
    assert board.modem.credentials.get((16842753, 1)) is None
    history = modems.history(board)
    assert history is None or history.issuances == ()


@pytest.mark.parametrize("name", ["zephyr_shell", "described"])
def test_a_shell_that_lies_never_passes_with_it(tmp_path, name):
    assault = Assault(tmp_path, seed=3, language=LANGUAGES[name])
    with assault.opened():
        for index in range(4):
            board = assault.board()
            assert isinstance(board, HostileZephyr | HostileWidget)
            board.lie(board.lies[index])
            end = assault.visit(board)
            assert end.state is SlotState.FAILED, board.lies[index]
            assert assault.judge(board).state in PASSED
    assert assault.tally.faults == []


def test_memory_stays_small_whatever_a_board_says(assault):
    assault.visit(assault.board())
    tracemalloc.start()
    try:
        for twist in (flood, long_line, drip_for_ever):
            for kind in ("AT%DEVICEUUID", "AT%KEYGEN", "hwinfo", "nrf_cloud_cred csr", "id", "csr"):
                board = assault.board()
                board.twist_with(twist, kind)
                assault.visit(board)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20  # the wire in memory has no flow control, and holds what is never read


# What was found so.


@pytest.mark.parametrize("der", STRANGE)
def test_a_certificate_that_breaks_parsers_is_no_certificate_or_one_that_nobody_reads(der):
    try:
        found = certificates.split(der)
    except ValueError:
        return
    assert b"".join(found) == der


def test_a_modem_that_refuses_with_a_number_of_five_thousand_digits_has_refused(modems):
    board = modems.board()
    board.lie(lambda command, _right: b"+CME ERROR: " + b"9" * 5000 + b"\r\n" if "CFUN" in command else None)
    end = modems.visit(board)
    assert (end.state, end.code) == (SlotState.FAILED, "device.error")


def test_a_list_that_names_a_place_twice_is_not_taken(modems):
    board = modems.board()

    def doubled(command, right):
        if not command.startswith("AT%CMNG=1") or b",1," not in right:
            return None
        return re.sub(rb'"[0-9A-F]{64}"', b'"%s"' % (b"AB" * 32), right.splitlines()[0]) + b"\r\n" + right

    board.lie(doubled)
    end = modems.visit(board)
    assert (end.state, end.code) == (SlotState.FAILED, "link.garbled")


def test_what_the_wire_left_of_a_certificate_is_written_over_at_the_next_visit(tmp_path):
    """The board holds its own key, and a certificate that nobody knows beside it."""
    for name in ("nordic_at", "zephyr_shell"):
        folder = tmp_path / name
        folder.mkdir()
        assault = Assault(folder, language=LANGUAGES[name])
        with assault.opened():
            board = assault.board()
            board.lie(lambda command, _right: b"\0" if command.startswith(("AT%CMNG=0", "cred del")) else None)
            if name == "zephyr_shell":  # it fails after it was written
                board.lie(lambda command, _right: b"\0" if "csr" in command and board.zephyr.stored else None)  # noqa: B023
            assert assault.visit(board).state is SlotState.FAILED
            board.behave()
            if name == "nordic_at":
                board.modem.credentials[16842753, 1] = b"what a quotation mark took in"
            else:
                board.zephyr.stored = b"-----BEGIN CERTIFICATE-----\nWhat\n\0"
            assert assault.visit(board).state is SlotState.PASSED
        assert assault.tally.faults == []


def test_a_certificate_beside_another_key_is_still_somebody_elses(tmp_path):
    assault = Assault(tmp_path, language=LANGUAGES["zephyr_shell"])
    with assault.opened():
        board = assault.board()
        board.lie(lambda command, _right: b"\0" if "csr" in command and board.zephyr.stored else None)
        assert assault.visit(board).state is SlotState.FAILED
        board.behave()
        board.zephyr.key, board.zephyr.stored = assault.board().zephyr.key, b"-----BEGIN CERTIFICATE-----\nWhat\n\0"
        assert assault.visit(board).code == "unit.foreign_certificate"


@pytest.mark.parametrize(
    ("verb", "old", "new", "answer"),
    [
        ("prove", "(?P<signature>[0-9a-f]+)", "(?P<signature>[0-9a-f]+)?", "sig="),
        ("make_key", 'pem = "csr"', "answer = ['csr=(?P<csr>[0-9a-f]+)?']\n#", "csr="),
    ],
)
async def test_what_a_file_lets_a_board_leave_out_is_missed_and_no_crash(tmp_path, verb, old, new, answer):
    text = (EXAMPLES / "home-made.toml").read_text().replace(old, new)
    text = text.replace("[forms]", '[forms]\ncsr = "hex"') if verb == "make_key" else text
    path = tmp_path / "file.toml"
    path.write_text(text)
    widget = Widget()
    driver = DescribedDriver(widget.plug(), load(path))
    widget.on("csr" if verb == "make_key" else "sign .*", f"{answer}\nok")
    widget.on("cert show", "3009300030000303000000\nok")
    with pytest.raises(Garbled, match="did not tell its"):
        await (driver.make_key() if verb == "make_key" else driver.prove(bytes(32)))


@pytest.mark.parametrize("name", NAMES)
def test_boards_pass_over_a_wire_that_turns_and_loses_bits_and_none_is_lost_for_good(tmp_path, name):
    assault = Assault(tmp_path, language=LANGUAGES[name])
    with assault.opened():
        passed = noisy_visits(assault, 12, flips=3e-4, losses=5e-5, dice=Random(name))  # noqa: S311 - as above
    assert assault.tally.faults == []
    assert passed.at_once >= 8
    assert passed.in_the_end == 12
