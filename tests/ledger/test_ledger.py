"""Keeping the ledger: sealing, what is kept outside, and a manifest that is not the newest one."""

import shutil
from contextlib import closing

import pytest
from pkcs11 import exceptions as p11

from hsm import KeyKind
from hsm.data_objects import read_notes, write_note
from hsm.errors import TokenError
from station.ledger import store
from station.ledger.anchor import LABEL
from station.ledger.checkpoint import open_checkpoint
from station.ledger.errors import LedgerError, LedgerForked, RolledBack
from station.ledger.store import LedgerReader
from station.manifest import Manifest
from station.manifest.testing import ORDER, provision


@pytest.fixture
async def line(tmp_path, ledger_of):
    """A manifest at work, with one unit, and its ledger."""
    with closing(Manifest.open(tmp_path / "manifest.db")) as manifest:
        await manifest.open_order(ORDER)
        await provision(manifest, "first")
        yield manifest, ledger_of(manifest)


async def left_behind(manifest, ledger, ledger_of):
    """Seal a manifest, keep a copy, and take the original on to its next checkpoint; return the copy."""
    ledger.seal("once")
    manifest.close()
    copy = shutil.copy(manifest.path, manifest.path.with_name("copy.db"))
    with closing(Manifest.open(manifest.path)) as again:
        await provision(again, "second")
        ledger_of(again).seal("twice")
    return copy


def test_a_sealed_manifest_has_its_checkpoint_inside_beside_and_in_the_token(line, token):
    manifest, ledger = line
    note = ledger.seal("test").note
    with LedgerReader(manifest.path) as reader:
        assert reader.newest_checkpoint().note == note
    assert (manifest.path.parent / "manifest.db.checkpoint").read_text() == note
    assert read_notes(token.signer, LABEL + manifest.identity) == [note.encode()]


@pytest.mark.parametrize("kind", [KeyKind.ED25519, KeyKind.P256])
def test_a_checkpoint_is_signed_by_either_kind_of_key(line, ledger_of, token, kind):
    manifest, _ = line
    ledger = ledger_of(manifest, token.keys[kind])
    checkpoint = open_checkpoint(ledger.seal("test").note, [ledger.key()]).checkpoint
    assert checkpoint.origin == f"provisioning-station/{manifest.identity}"


def test_nothing_is_signed_where_nothing_happened(line):
    _, ledger = line
    assert ledger.seal("once") is not None
    assert ledger.seal("again") is None


async def test_a_checkpoint_covers_all_that_is_durable(line):
    manifest, ledger = line
    ledger.seal("once")
    await provision(manifest, "second")
    with LedgerReader(manifest.path) as reader:
        size = reader.size()
    assert ledger.seal("again").tree_size == size


async def test_the_newest_manifest_is_accepted_whoever_opens_it(line, ledger_of):
    manifest, ledger = line
    ledger.seal("once")
    await provision(manifest, "second")
    ledger_of(manifest).check()


async def test_an_older_copy_is_refused(line, ledger_of):
    manifest, ledger = line
    older = await left_behind(manifest, ledger, ledger_of)
    shutil.copy(older, manifest.path)
    with closing(Manifest.open(manifest.path)) as restored, pytest.raises(RolledBack, match="older copy"):
        ledger_of(restored).check()


async def test_the_token_alone_finds_an_older_copy(line, ledger_of):
    manifest, ledger = line
    older = await left_behind(manifest, ledger, ledger_of)
    with closing(Manifest.open(older)) as elsewhere, pytest.raises(RolledBack, match="token"):
        ledger_of(elsewhere).check()


async def test_a_fork_of_the_same_length_is_refused(line, ledger_of):
    manifest, ledger = line
    copy = await left_behind(manifest, ledger, ledger_of)
    with closing(Manifest.open(copy)) as fork:
        for name in ("other", "more"):
            await provision(fork, name)
        with pytest.raises(RolledBack, match="are not those"):
            ledger_of(fork).check()


async def test_checkpoints_that_are_gone_outside_are_missed(line, ledger_of, token):
    manifest, ledger = line
    ledger.seal("once")
    await provision(manifest, "second")
    ledger.seal("twice")
    ledger.anchors.file.unlink()
    write_note(token.signer, LABEL + manifest.identity, b"")
    with pytest.raises(RolledBack):
        ledger_of(manifest).check()


def test_a_crash_right_after_the_first_checkpoint_is_made_good_at_the_next_opening(line, ledger_of, monkeypatch):
    manifest, ledger = line

    def crash(_note, _is_ours):
        raise LedgerError("as if the power failed here")

    with monkeypatch.context() as patched:
        patched.setattr(ledger.anchors, "write", crash)
        with pytest.raises(LedgerError):
            ledger.seal("once")
    assert not list(ledger.anchors.read())
    ledger_of(manifest).check()
    assert len(list(ledger.anchors.read())) == 2


@pytest.fixture
async def twins(line, ledger_of):
    """Two copies of a manifest at work with one token, each with its ledger; both had the checkpoint that is there."""
    manifest, ledger = line
    ledger.seal("once")
    manifest.close()
    shutil.copy(manifest.path, manifest.path.with_name("twin.db"))
    with (
        closing(Manifest.open(manifest.path)) as one,
        closing(Manifest.open(manifest.path.with_name("twin.db"))) as other,
    ):
        ledgers = ledger_of(one), ledger_of(other)
        for ledger in ledgers:
            ledger.check()
        await provision(one, "second")
        await provision(other, "third")
        yield ledgers


def test_of_two_copies_at_work_with_one_token_the_second_to_seal_is_stopped(twins, token, line):
    one, other = twins
    note = one.seal("first").note
    with pytest.raises(LedgerForked):
        other.seal("second")
    with LedgerReader(other.path) as reader:
        assert reader.newest_checkpoint().reason == "once"  # nothing was signed
    assert read_notes(token.signer, LABEL + line[0].identity) == [note.encode()]


def test_a_copy_that_seals_between_anothers_look_and_its_writing_keeps_its_note(twins, token, line, monkeypatch):
    one, other = twins
    notes = []
    monkeypatch.setattr(other.anchors, "check_own", lambda _: notes.append(one.seal("in between").note.encode()))
    with pytest.raises(LedgerForked):
        other.seal("late")
    assert read_notes(token.signer, LABEL + line[0].identity) == notes


async def test_a_copy_that_was_accepted_stops_the_other_one(twins):
    one, other = twins
    one.seal("first")
    other.accept("the first one is scrap", "R. Vogel")
    await provision(one._manifest, "fourth")
    with pytest.raises(LedgerForked):
        one.seal("unaware")


def test_a_token_that_was_away_for_some_checkpoints_takes_the_next(line, token):
    manifest, ledger = line
    old = ledger.seal("once").note
    for number in range(2):
        manifest.event(None, "1", "open", "note", {"number": number})
        newest = ledger.seal("again").note
    write_note(token.signer, LABEL + manifest.identity, old.encode())
    manifest.event(None, "1", "open", "note", {"number": 3})
    newest = ledger.seal("the token is back").note
    assert read_notes(token.signer, LABEL + manifest.identity) == [newest.encode()]


def test_a_new_manifest_in_the_place_of_another_is_refused(line, ledger_of):
    manifest, ledger = line
    ledger.seal("once")
    manifest.close()
    manifest.path.unlink()
    with closing(Manifest.open(manifest.path)) as fresh, pytest.raises(RolledBack, match="another manifest"):
        ledger_of(fresh).check()


async def test_who_accepts_an_older_copy_stands_in_it(line, ledger_of):
    manifest, ledger = line
    older = await left_behind(manifest, ledger, ledger_of)
    shutil.copy(older, manifest.path)
    with closing(Manifest.open(manifest.path)) as restored:
        ledger_of(restored).accept("the disk died", "R. Vogel")
        ledger_of(restored).check()
        with LedgerReader(manifest.path) as reader:
            facts = [row[6] for row in reader.events(0, reader.size()) if row[4] == b"ledger"]
    assert len(facts) == 1
    assert b"R. Vogel" in facts[0]


@pytest.mark.parametrize("step", ["ask", "seal", "store_tiles"])
async def test_a_crash_at_any_step_of_a_checkpoint_is_made_good_by_the_next(line, ledger_of, monkeypatch, step):
    manifest, ledger = line
    for number in range(300):
        manifest.event(None, "1", "open", "note", {"number": number})
    await manifest.answer()

    def crash(*_args, **_kwargs):
        raise LedgerError("as if the power failed here")

    with monkeypatch.context() as patched:
        patched.setattr(store, step, crash)
        with pytest.raises(LedgerError):
            ledger.seal("in vain")
    assert ledger_of(manifest).seal("after the crash") is not None
    ledger_of(manifest).check()


def test_each_try_to_sign_is_counted_before_the_token_is_asked(line, ledger_of, monkeypatch):
    manifest, ledger = line
    seen = []

    def asked(_self, _data, *, again):
        with LedgerReader(manifest.path) as reader:
            seen.append([row.signing_tries for row in reader.checkpoints()])
        again()
        with LedgerReader(manifest.path) as reader:
            seen.append([row.signing_tries for row in reader.checkpoints()])
        raise TokenError("away", code="token.error")

    monkeypatch.setattr(type(ledger._key), "sign_message_blocking", asked)
    with pytest.raises(TokenError):
        ledger.seal("in vain")
    assert seen == [[1], [2]]


def test_a_token_that_keeps_no_notes_is_told_once_and_the_file_holds(line, ledger_of, monkeypatch, token):
    manifest, ledger = line

    def refuse(_signer, _label, _value, *, may_replace):
        raise TokenError("keeps no notes", code="token.no_notes")

    monkeypatch.setattr("station.ledger.anchor.write_note", refuse)
    note = ledger.seal("once").note
    assert [one.code for one in ledger.anchors.take_refusals()] == ["token.no_notes"]
    assert ledger.anchors.take_refusals() == ()
    assert [one.note for one in ledger.anchors.read()] == [note]
    ledger_of(manifest).check()


def test_a_note_replaces_the_older_ones_of_its_label(token):
    for value in (b"one", b"two"):
        write_note(token.signer, "test: replaced", value)
    assert read_notes(token.signer, "test: replaced") == [b"two"]


def test_a_refusal_of_the_token_is_told_as_that_and_does_not_put_it_to_sleep(token, monkeypatch):
    monkeypatch.setattr("hsm.data_objects._KEPT", {"not": "an attribute"})
    monkeypatch.setattr("hsm.data_objects._REFUSALS", (p11.PKCS11Error, NotImplementedError, Exception))
    with pytest.raises(TokenError) as refused:
        write_note(token.signer, "test: refused", b"x")
    assert refused.value.code == "token.no_notes"
    assert token.signer.unavailable is None
