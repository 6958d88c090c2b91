"""The CA's journal: durable, one writer, nothing changes, one certificate a key."""

import contextlib
import datetime as dt
import hashlib
import sqlite3
import subprocess
import sys
from functools import partial

import pytest

from hsm import der
from hsm.audit import accept, compare
from hsm.counting import SignatureCount
from hsm.durable import CLOCK_TOLERANCE
from hsm.journal import (
    CaJournal,
    ClockWentBack,
    IssuanceState,
    JournalError,
    JournalLocked,
    JournalReader,
    JournalUnwritable,
    KeyCertified,
    NewerJournal,
    NotAJournal,
    RowRefused,
    SerialCollision,
    shard_name,
)
from hsm.journal.schema import JOURNAL

ISSUER = b"i" * 32
KEY = b"k" * 32


class Draft:
    """What a drafter makes, as far as the journal looks."""

    def __init__(self, serial=1, content=b"tbs"):
        self.serial = serial
        self.tbs = der.encode(der.SEQUENCE, content + serial.to_bytes(20))
        self.tbs_sha256 = hashlib.sha256(self.tbs).digest()
        self.not_after = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)

    @property
    def certificate(self):
        return der.join_signed(self.tbs, b"\x30\x00", b"signature")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ca.db"


@pytest.fixture
def journal(path):
    with CaJournal.open(path) as opened:
        yield opened


def wanted(draft, **changes):
    return {"issuer": ISSUER, "profile": "p", "subject": "CN=a", "spki_sha256": KEY, "draft": draft} | changes


async def issued(journal, serial=1, **changes):
    draft = Draft(serial)
    intent = await journal.reserve(**wanted(draft, **changes))
    return await journal.record(intent, draft.certificate)


async def test_intent_is_durable_before_anything_is_signed(journal, path):
    await journal.reserve(**wanted(Draft(7)))
    with JournalReader(path) as reader:
        found = reader.by_serial(7)
    assert (found.state, found.tries, found.certificate) == (IssuanceState.INTENT, 1, None)


async def test_certificate_is_found_by_serial_key_subject_and_batch(journal, path):
    made = await issued(journal, 7, batch="2026-07", request="a")
    with JournalReader(path) as reader:
        found = [
            reader.by_serial(7),
            *reader.by_key(KEY),
            *reader.by_subject("CN=a"),
            *reader.by_batch("2026-07"),
            *reader.by_request("2026-07", "a"),
            *reader.issuances(issuer=ISSUER),
        ]
    assert [one.certificate for one in found] == [made.der] * 6
    assert {one.state for one in found} == {IssuanceState.RECORDED}


async def test_each_try_is_a_row_of_its_own(journal, path):
    intent = await journal.reserve(**wanted(Draft()))
    assert (await journal.attempt(intent.issuance_id)).tries == 2
    await journal.count_signature("crl", ISSUER)
    with JournalReader(path) as reader:
        assert reader.signatures() == {"certificate": 2, "crl": 1}
        assert reader.signatures(b"o" * 32) == {}


async def test_second_certificate_for_a_key_is_refused_and_names_the_first(journal):
    await issued(journal, 7)
    with pytest.raises(KeyCertified, match=r"CN=a, serial 0+7; renew it on purpose"):
        await journal.reserve(**wanted(Draft(8)))


async def test_renewal_names_what_it_renews(journal, path):
    first = await issued(journal, 7)
    await issued(journal, 8, renew=True)
    with JournalReader(path) as reader:
        assert [one.renews for one in reader.by_key(KEY)] == [None, first.issuance_id]


async def test_schema_itself_refuses_a_second_certificate_for_a_key(journal, path):
    await issued(journal, 7)
    row = (
        "INSERT INTO issuance SELECT 9, issuer_id, profile, subject, spki_sha256, batch_id, request, ?, not_after, tbs,"
    )
    with (
        contextlib.closing(sqlite3.connect(path)) as shell,
        pytest.raises(sqlite3.IntegrityError, match="key_certified"),
    ):
        shell.execute(f"{row} tbs_sha256, renews, at FROM issuance WHERE id = 1", ("0" * 39 + "9",))


async def test_open_intent_is_resumed_and_not_renewed(journal):
    await journal.reserve(**wanted(Draft(7)))
    with pytest.raises(RowRefused) as caught:
        await journal.reserve(**wanted(Draft(8), renew=True))
    assert caught.value.code == "journal.issuance_open"


async def test_intent_that_is_given_up_frees_its_key(journal, path):
    intent = await journal.reserve(**wanted(Draft(7)))
    await journal.void(intent.issuance_id, "lost")
    await journal.void(intent.issuance_id, "lost")
    await issued(journal, 8)
    with JournalReader(path) as reader:
        assert [one.state for one in reader.by_key(KEY)] == [IssuanceState.VOID, IssuanceState.RECORDED]


async def test_recorded_certificate_can_not_be_given_up(journal):
    made = await issued(journal)
    with pytest.raises(RowRefused, match="revoke it"):
        await journal.void(made.issuance_id, "x")


async def test_another_certificate_than_the_intended_is_refused(journal):
    intent = await journal.reserve(**wanted(Draft(7)))
    with pytest.raises(RowRefused) as caught:
        await journal.record(intent, Draft(8).certificate)
    assert caught.value.code == "journal.certificate_differs"


async def test_same_certificate_twice_is_stored_once(journal):
    draft = Draft()
    intent = await journal.reserve(**wanted(draft))
    assert await journal.record(intent, draft.certificate) == await journal.record(intent, draft.certificate)


async def test_what_is_no_certificate_is_refused(journal):
    intent = await journal.reserve(**wanted(Draft()))
    with pytest.raises(JournalError) as caught:
        await journal.record(intent, b"junk")
    assert caught.value.code == "journal.certificate_malformed"


async def test_serial_that_was_given_is_told(journal):
    await issued(journal, 7)
    with pytest.raises(SerialCollision):
        await journal.reserve(**wanted(Draft(7), spki_sha256=b"l" * 32))


async def test_request_of_a_batch_has_one_certificate(journal):
    await issued(journal, 7, batch="b", request="r")
    with pytest.raises(RowRefused) as caught:
        await journal.reserve(**wanted(Draft(8), batch="b", request="r", spki_sha256=b"l" * 32))
    assert caught.value.code == "journal.request_signed"


async def test_batch_belongs_to_one_issuer(journal):
    await issued(journal, 7, batch="b")
    with pytest.raises(RowRefused) as caught:
        await journal.reserve(**wanted(Draft(8), batch="b", spki_sha256=b"l" * 32, issuer=b"o" * 32))
    assert caught.value.code == "journal.batch_differs"


@pytest.mark.parametrize("name", ["", "../x", "a b", "a/b", ".hidden", "x" * 65, "é"])
async def test_batch_name_that_is_no_file_name_is_refused(journal, name):
    with pytest.raises(RowRefused):
        await journal.reserve(**wanted(Draft(), batch=name))


TABLES = ("issuer", "batch", "issuance", "signature", "certificate", "program_version")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "change", ["DELETE FROM {}", "UPDATE {} SET rowid = rowid", "REPLACE INTO {0} SELECT * FROM {0}"]
)
async def test_history_can_not_be_changed(journal, path, table, change):
    await issued(journal, batch="b")
    with contextlib.closing(sqlite3.connect(path)) as shell, pytest.raises(sqlite3.IntegrityError, match=r"journal\."):
        shell.execute(change.format(table))


async def test_void_rows_stay(journal, path):
    intent = await journal.reserve(**wanted(Draft()))
    await journal.void(intent.issuance_id, "x")
    with contextlib.closing(sqlite3.connect(path)) as shell, pytest.raises(sqlite3.IntegrityError):
        shell.execute("DELETE FROM void")


def test_second_writer_is_refused_in_one_line_and_told_the_process(path):
    code = "import pathlib, sys; from hsm.journal import CaJournal; j = CaJournal.open(pathlib.Path(sys.argv[1])); "
    command = [sys.executable, "-c", f"{code} print(1, flush=True); input()", path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(JournalLocked, match=f"process {other.pid} writes to it") as caught:
            CaJournal.open(path)
        assert "\n" not in str(caught.value)
        other.communicate(b"\n")
    CaJournal.open(path).close()


async def test_clock_behind_the_last_entry_is_refused_at_open(path):
    now = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
    with CaJournal.open(path, clock=lambda: now) as journal:
        await issued(journal)
    with pytest.raises(ClockWentBack, match="set the clock"):
        CaJournal.open(path, clock=lambda: now - CLOCK_TOLERANCE - dt.timedelta(seconds=1))


async def test_clock_behind_what_was_given_up_last_is_refused_whichever_intent_that_was(path):
    now = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
    with CaJournal.open(path, clock=lambda: now) as journal:
        old, new = [
            await journal.reserve(**wanted(Draft(serial), spki_sha256=bytes([serial] * 32))) for serial in (1, 2)
        ]
        await journal.void(new.issuance_id, "not needed")
    with CaJournal.open(path, clock=lambda: now + dt.timedelta(hours=1)) as journal:
        await journal.void(old.issuance_id, "not needed either")
    with pytest.raises(ClockWentBack):
        CaJournal.open(path, clock=lambda: now + dt.timedelta(minutes=30))


async def test_clock_behind_a_difference_that_was_accepted_is_refused(path):
    now = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
    with CaJournal.open(path, clock=lambda: now) as journal:
        seen = compare(KEY, name="CN=CA", before=(count := SignatureCount(KEY, 1, 0, 0)), claims=[], after=count)
        await journal.perform(partial(accept, keys=[seen], reason="seen"))
    with pytest.raises(ClockWentBack):
        CaJournal.open(path, clock=lambda: now - dt.timedelta(minutes=1))


async def test_clock_that_goes_back_stops_the_next_intent(path):
    now = [dt.datetime(2026, 7, 1, tzinfo=dt.UTC)]
    with CaJournal.open(path, clock=lambda: now[0]) as journal:
        await issued(journal)
        now[0] -= dt.timedelta(minutes=1)
        with pytest.raises(ClockWentBack):
            await journal.reserve(**wanted(Draft(8), spki_sha256=b"l" * 32))


async def test_full_disk_refuses_the_intent_and_space_heals(journal):
    connection = journal._db.conn
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")

    async def fill():
        for number in range(1, 1000):
            await issued(journal, number, spki_sha256=number.to_bytes(32))

    with pytest.raises(JournalUnwritable) as caught:
        await fill()
    assert caught.value.code == "journal.disk_full"
    connection.execute("PRAGMA max_page_count = 1000000")
    await issued(journal, 2000, spki_sha256=b"z" * 32)


def test_newer_journal_says_which_version_and_stays(path):
    CaJournal.open(path).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as shell:
        shell.execute(f"PRAGMA user_version = {JOURNAL.schema + 1}")
        shell.execute("INSERT INTO program_version (version, schema, since) VALUES ('99.1', 9, 'now')")
    with pytest.raises(NewerJournal, match=r"written by program 99\.1"):
        CaJournal.open(path)


def test_manifest_is_no_journal(path):
    with contextlib.closing(sqlite3.connect(path)) as shell:
        shell.execute(f"PRAGMA application_id = {int.from_bytes(b'PSTM', 'big')}")
        shell.execute("CREATE TABLE x (y)")
    with pytest.raises(NotAJournal, match="not a journal of ours"):
        CaJournal.open(path)


def test_blocking_twins_do_the_same(path):
    from hsm.journal import Reservation  # noqa: PLC0415 - only here

    with CaJournal.open(path) as journal:
        draft = Draft()
        intent = journal.reserve_blocking(Reservation(ISSUER, "p", "CN=a", KEY, draft))
        assert journal.attempt_blocking(intent.issuance_id).tries == 2
        assert journal.record_blocking(intent, draft.certificate).der == draft.certificate
        assert journal.count_signature_blocking("crl", ISSUER) == 3


def test_certificates_without_a_batch_share_a_shard():
    assert (shard_name(None), shard_name("2026-07")) == ("main", "2026-07")


def test_signatures_that_strangers_ask_for_are_counted_in_one_row_a_day(path):
    with CaJournal.open(path) as journal:
        for _ in range(20):
            journal.count_signature_blocking("ocsp", ISSUER)
        with journal.reader() as reader:
            assert reader.signatures(ISSUER) == {"ocsp": 20}
            rows = [*reader.rows("SELECT count(*) FROM signature UNION ALL SELECT count(*) FROM signature_tally")]
    assert rows == [(0,), (1,)]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE signature_tally SET tries = tries - 1",
        "UPDATE signature_tally SET tries = tries + 1, day = '2000-01-01'",
        "INSERT OR REPLACE INTO signature_tally SELECT issuer_id, kind, day, 1, at FROM signature_tally",
        "DELETE FROM signature_tally",
    ],
)
def test_count_of_a_day_only_grows(path, sql):
    with CaJournal.open(path) as journal:
        journal.count_signature_blocking("ocsp", ISSUER)
        journal.count_signature_blocking("ocsp", ISSUER)
        with pytest.raises(JournalError):
            journal.perform_blocking(lambda connection, _: connection.execute(sql))
