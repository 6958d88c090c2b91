"""What a token remembers of an order's numbers, with a real token; ``tests/line/test_put_back.py`` has whole lines."""

import resource
from contextlib import contextmanager

import pytest

from hsm import Signer, TokenUri, WarrantError
from hsm.data_objects import read_marks
from hsm.errors import TokenError
from softhsm import make_tokens
from station.manifest import OrderSeal
from station.orders import OrderError, taken
from station.orders.taken import NAME, TakenNotes

MANIFEST = "a" * 32
MOST = 10


@pytest.fixture(scope="module")
def signer(tmp_path_factory):
    softhsm = make_tokens(tmp_path_factory.mktemp("notes"), ["line"])
    with Signer.open(TokenUri.parse(softhsm.uri("line")), environment=softhsm.environment) as opened:
        yield opened


@pytest.fixture
def open_notes(signer, tmp_path, request):
    uid = f"{abs(hash(request.node.name)):032x}"[:32]
    seal = OrderSeal(uid, "{}", bytes(32), 1, "2020-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z")

    def open_(manifest=MANIFEST, every=1):
        return TakenNotes(signer, seal, manifest, folder=tmp_path, every=every)

    open_.marks = lambda: sorted(mark.label for mark in read_marks(signer, f"{NAME}{uid}"))
    return open_


def test_what_was_told_is_remembered_by_the_token(open_notes):
    notes = open_notes()
    assert notes.read(MOST) == 0
    for index in range(4):
        notes.tell(index, index + 1)
    assert open_notes().read(MOST) == 4


def test_two_notes_are_kept_however_many_numbers_there_are(open_notes):
    notes = open_notes()
    for index in range(6):
        notes.tell(index, index + 1)
    assert [label.rpartition(".")[2] for label in sorted(open_notes.marks(), key=lambda one: one[-1])] == ["5", "6"]


def test_numbers_that_are_asked_for_together_are_told_with_one_note(open_notes):
    notes = open_notes()
    notes.tell(0, 5)
    before = open_notes.marks()
    notes.tell(4, 5)
    assert open_notes.marks() == before


def test_notes_of_an_earlier_run_go_once_there_is_a_new_one(open_notes):
    for taken_ in (1, 2):
        notes = open_notes()
        notes.read(MOST)
        notes.tell(taken_ - 1, taken_)
    assert [label.rpartition(".")[2] for label in open_notes.marks()] == ["2"]


def test_two_copies_that_are_at_work_at_the_same_time_find_each_other_before_a_number_is_signed(open_notes):
    one, two = open_notes(), open_notes()
    assert (one.read(MOST), two.read(MOST)) == (0, 0)
    one.tell(0, 1)
    with pytest.raises(WarrantError) as caught:
        two.tell(0, 1)
    assert caught.value.code == "warrant.forked"
    with pytest.raises(WarrantError):
        one.tell(1, 2)


def test_a_token_that_slept_at_the_start_refuses_an_older_copy_when_it_is_asked(open_notes):
    open_notes().tell(6, 7)
    with pytest.raises(WarrantError) as caught:
        open_notes().tell(3, 4)
    assert caught.value.code == "warrant.rolled_back"


def test_numbers_of_another_manifest_are_no_numbers_of_this_one(open_notes):
    open_notes().tell(0, 1)
    with pytest.raises(OrderError) as caught:
        open_notes("b" * 32).read(MOST)
    assert caught.value.code == "order.replayed"


def test_a_note_may_be_for_several_numbers(open_notes):
    notes = open_notes(every=3)
    for index in range(2):
        notes.tell(index, index + 1)
    assert open_notes.marks() == []
    notes.tell(2, 3)
    assert open_notes().read(MOST) == 3


def test_a_token_that_keeps_no_notes_has_a_file(open_notes, monkeypatch):
    def refuses(*_arguments, **_more):
        raise TokenError("keeps no notes", code="token.no_notes")

    monkeypatch.setattr(taken, "write_mark", refuses)  # SoftHSM keeps them all
    open_notes().tell(2, 3)
    assert open_notes().read(MOST) == 3


def test_a_file_of_a_token_without_notes_that_is_damaged_is_told(open_notes, monkeypatch, tmp_path):
    test_a_token_that_keeps_no_notes_has_a_file(open_notes, monkeypatch)
    (path,) = tmp_path.glob("*.taken")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(OrderError) as caught:
        open_notes().read(MOST)
    assert caught.value.code == "order.note_damaged"


@contextmanager
def full_disk():
    """Let no file grow: what SoftHSM meets when the disk with its tokens is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_token_that_is_full_is_not_asked_for_ever_and_signs_again_when_there_is_room(signer, open_notes):
    """The gate asks on the token's own thread, where nobody translates what the token answers."""
    notes = open_notes()
    notes.read(MOST)
    with full_disk():
        with pytest.raises(TokenError):  # it may be ill: it is healed, and asked again
            signer.call_blocking(lambda _: notes.tell(0, 1))
        with pytest.raises(WarrantError) as caught:
            signer.call_blocking(lambda _: notes.tell(0, 1))
    assert caught.value.code == "warrant.not_noted"
    signer.call_blocking(lambda _: notes.tell(0, 1))
    assert open_notes().read(MOST) == 1
