"""CRLs: what may happen to a certificate, which CRL tells it when, and numbers that never go back."""

import datetime as dt
import os
import shutil
import sqlite3
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from hsm import CrlError, KeyKind, RevocationError, find_key
from hsm.journal import CaJournal, ClockWentBack, JournalError, JournalReader
from hsm.revocation import (
    DELTA,
    FINAL,
    FULL,
    Act,
    CrlFolder,
    CrlIssuer,
    CrlPolicy,
    Reason,
    Revoked,
    Scope,
    Target,
    adopt,
    due,
    hold,
    make,
    number_of,
    publish,
    release,
    revoke,
    revoker_of,
    scopes,
    shard_of,
    standing,
)
from hsm.revocation.chain import faults
from hsm.revocation.crl import encode_entry, encode_time
from hsm.serials import new_serial
from hsm.testing import temporary_ca

URL = "http://crl.example.com/acme"
POLICY = CrlPolicy(url=URL)
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
"""The CA is younger than this file's import; ``later`` is always within its validity."""


def later(**delta):
    return dt.datetime.now(dt.UTC) + dt.timedelta(**delta)


@pytest.fixture
def journal(tmp_path):
    with CaJournal.open(tmp_path / "ca.db") as opened:
        yield opened


@pytest.fixture
def issuer(ca):
    return CrlIssuer(ca.issuer, find_key(ca.signer, ca.issuer.public_key()), POLICY)


@pytest.fixture
def folder(tmp_path, issuer):
    return CrlFolder(tmp_path / "crl", issuer.certificate)


@pytest.fixture
def acts(journal, issuer):
    """``revoke``, ``hold``, ``release`` and ``standing`` for this issuer."""

    class Acts:
        revoker = revoker_of(issuer.certificate)

        def revoke(self, *serials, reason=Reason.KEY_COMPROMISE, shard=None, not_after=None, **more):
            targets = [Target(serial, shard, not_after) for serial in serials]
            return revoke(journal, self.revoker, targets, reason, **more)

        def hold(self, *serials, shard=None):
            return hold(journal, self.revoker, [Target(serial, shard) for serial in serials])

        def release(self, *serials, shard=None):
            return release(journal, self.revoker, [Target(serial, shard) for serial in serials])

        def standing(self, serial):
            with journal.reader() as reader:
                return standing(reader, self.revoker, serial)

    return Acts()


def only(made):
    (one,) = made
    return x509.load_der_x509_crl(one.crl.der)


def reasons(crl):
    """Return the reason of each serial number on a CRL."""
    found = {}
    for entry in crl:
        codes = [e.value.reason for e in entry.extensions if isinstance(e.value, x509.CRLReason)]
        found[entry.serial_number] = codes[0].value if codes else "unspecified"
    return found


def extension(crl, kind):
    found = crl.extensions.get_extension_for_class(kind)
    return found.value, found.critical


# -- what may happen to a certificate


@pytest.mark.parametrize("reason", FINAL)
def test_every_reason_of_the_rfc_stands_on_the_crl(journal, issuer, acts, reason):
    acts.revoke(17, reason=reason)
    assert reasons(only(make(journal, issuer, [FULL], later()))) == {17: reason.text}


@pytest.mark.parametrize("reason", [Reason.CERTIFICATE_HOLD, Reason.REMOVE_FROM_CRL])
def test_hold_and_its_end_are_no_reasons_to_revoke(acts, reason):
    with pytest.raises(RevocationError) as caught:
        acts.revoke(17, reason=reason)
    assert caught.value.code == "revocation.reason"


def test_unspecified_reason_is_not_written(journal, issuer, acts):
    """RFC 5280 5.3.1: it should be absent."""
    acts.revoke(17, reason=Reason.UNSPECIFIED)
    (entry,) = only(make(journal, issuer, [FULL], later()))
    assert list(entry.extensions) == []


@pytest.mark.parametrize("act", ["revoke", "hold", "release"])
def test_revocation_is_for_good(acts, act):
    acts.revoke(17, reason=Reason.KEY_COMPROMISE)
    with pytest.raises(RevocationError, match="for good") as caught:
        getattr(acts, act)(17)
    assert caught.value.code == "revocation.final"
    assert acts.standing(17).act is Act.REVOKE


def test_stolen_key_may_become_known_later(acts):
    acts.revoke(17, reason=Reason.SUPERSEDED)
    before = acts.standing(17)
    acts.revoke(17, reason=Reason.KEY_COMPROMISE)
    after = acts.standing(17)
    assert (after.reason, after.revoked_at) == (Reason.KEY_COMPROMISE, before.revoked_at)


def test_hold_ends_with_release(acts):
    acts.hold(17)
    assert acts.standing(17).is_revoked
    acts.release(17)
    assert not acts.standing(17).is_revoked


def test_held_certificate_is_not_held_twice(acts):
    acts.hold(17)
    with pytest.raises(RevocationError) as caught:
        acts.hold(17)
    assert caught.value.code == "revocation.held"


def test_what_is_not_held_can_not_be_released(acts):
    with pytest.raises(RevocationError) as caught:
        acts.release(17)
    assert caught.value.code == "revocation.not_held"


def test_revocation_after_a_hold_keeps_the_date_of_the_hold(tmp_path, issuer):
    """X.509 8.5.2.2."""
    times = iter([NOW + dt.timedelta(hours=hours) for hours in range(20)])
    target = [Target(17)]
    with CaJournal.open(tmp_path / "ca.db", clock=lambda: next(times)) as journal:
        hold(journal, issuer.revoker, target)
        with journal.reader() as reader:
            held = standing(reader, issuer.revoker, 17)
        revoke(journal, issuer.revoker, target, Reason.KEY_COMPROMISE)
        with journal.reader() as reader:
            revoked = standing(reader, issuer.revoker, 17)
    assert revoked.revoked_at == held.revoked_at
    assert revoked.act is Act.REVOKE


def test_date_since_when_it_is_not_to_be_trusted_is_the_invalidity_date(journal, issuer, acts):
    since = NOW - dt.timedelta(days=30)
    acts.revoke(17, invalid_since=since)
    (entry,) = only(make(journal, issuer, [FULL], later()))
    assert entry.extensions.get_extension_for_class(x509.InvalidityDate).value.invalidity_date_utc == since
    assert entry.revocation_date_utc > since


def test_date_in_the_future_is_refused(acts):
    with pytest.raises(RevocationError) as caught:
        acts.revoke(17, invalid_since=later(hours=1))
    assert caught.value.code == "revocation.future"
    assert acts.standing(17) is None


def test_several_at_once_leave_the_revoked_as_they_are(acts):
    acts.revoke(1, reason=Reason.SUPERSEDED)
    outcome = acts.revoke(1, 2, 3, reason=Reason.CESSATION_OF_OPERATION)
    assert (outcome.done, outcome.unchanged) == ((2, 3), (1,))
    assert acts.standing(1).reason is Reason.SUPERSEDED


RELEASE_WHAT_IS_REVOKED = """
INSERT INTO revocation (revoker_id, serial, act, reason, revoked_at, at)
SELECT revoker_id, serial, 'release', 8, at, at FROM revocation
"""
NUMBER_ONE_AGAIN = """
INSERT INTO crl (revoker_id, scope, number, last_act, this_update, next_update, at)
SELECT revoker_id, 'full', 1, 0, '2026', '2027', '2026' FROM crl LIMIT 1
"""


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM revocation",
        "UPDATE revocation SET reason = 0",
        "DELETE FROM crl",
        "UPDATE crl SET number = 1",
        "INSERT OR REPLACE INTO revocation SELECT * FROM revocation",
        RELEASE_WHAT_IS_REVOKED,
        NUMBER_ONE_AGAIN,
    ],
)
def test_schema_refuses_to_forget_whoever_asks(journal, issuer, acts, sql):
    acts.revoke(17)
    make(journal, issuer, [FULL], later())
    make(journal, issuer, [FULL], later())
    connection = sqlite3.connect(journal.path)
    try:
        with pytest.raises(sqlite3.IntegrityError, match=r"journal\.\w+: "):
            connection.execute(sql)
    finally:
        connection.close()


# -- the bytes


@pytest.mark.parametrize("serial", [1, 127, 128, 255, 256, 2**63, 2**127 - 1, 2**158])
@pytest.mark.parametrize(
    "at", [dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), dt.datetime(2050, 1, 1, tzinfo=dt.UTC)]
)
@pytest.mark.parametrize("reason", [Reason.UNSPECIFIED, Reason.KEY_COMPROMISE])
@pytest.mark.parametrize("since", [None, dt.datetime(2020, 5, 6, 7, 8, 9, tzinfo=dt.UTC)])
def test_entry_is_what_pyca_would_write(serial, at, reason, since):
    key = ec.generate_private_key(ec.SECP256R1())
    entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
    if reason is not Reason.UNSPECIFIED:
        entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags(reason.text)), critical=False)
    if since is not None:
        entry = entry.add_extension(x509.InvalidityDate(since), critical=False)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateRevocationListBuilder(name, NOW, NOW + dt.timedelta(days=1))
    theirs = builder.add_revoked_certificate(entry.build()).sign(key, hashes.SHA256())
    assert encode_entry(Revoked(serial, at, reason, since)) in theirs.tbs_certlist_bytes


def test_time_of_another_zone_is_written_in_utc():
    zone = dt.timezone(dt.timedelta(hours=2))
    assert encode_time(dt.datetime(2026, 1, 1, 1, 0, 0, tzinfo=zone)) == b"\x17\x0d251231230000Z"


@pytest.mark.parametrize("act", ["revoke", "list"])
def test_clock_behind_a_revocation_or_a_list_is_refused(tmp_path, issuer, act):
    path, then = tmp_path / "late.db", later(minutes=5)
    with CaJournal.open(path, clock=lambda: then) as journal:
        if act == "revoke":
            revoke(journal, issuer.revoker, [Target(1)], Reason.SUPERSEDED)
        else:
            make(journal, issuer, [FULL], then)
    with pytest.raises(ClockWentBack, match="set the clock"):
        CaJournal.open(path, clock=lambda: then - dt.timedelta(minutes=1))


@pytest.fixture
def rsa_ca(tmp_path):
    with temporary_ca(tmp_path / "rsa", intermediate_kind=KeyKind.RSA2048) as made:
        yield made


def says_pss(issuer):
    """Return the issuer's certificate as a root that signs with PSS would have made it; the key stays."""
    key = rsa.generate_private_key(65537, 2048)
    builder = x509.CertificateBuilder(
        issuer.issuer, issuer.subject, issuer.public_key(), 7, issuer.not_valid_before_utc, issuer.not_valid_after_utc
    )
    for extension in issuer.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(key, hashes.SHA256(), rsa_padding=padding.PSS(padding.MGF1(hashes.SHA256()), 32))


def openssl_verifies(crl, issuer, tmp_path):
    """Whether OpenSSL finds the issuer's signature on a CRL good."""
    files = tmp_path / "list.crl", tmp_path / "issuer.pem"
    files[0].write_bytes(crl)
    files[1].write_bytes(issuer.public_bytes(serialization.Encoding.PEM))
    command = ["openssl", "crl", "-inform", "der", "-in", files[0], "-CAfile", files[1], "-noout"]
    return "verify OK" in subprocess.run(command, capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize("who", ["profile", "certificate"])
def test_list_of_an_issuer_that_says_pss_is_signed_so_and_openssl_accepts(journal, rsa_ca, tmp_path, who):
    certificate = rsa_ca.issuer if who == "profile" else says_pss(rsa_ca.issuer)
    key = find_key(rsa_ca.signer, rsa_ca.issuer.public_key())
    signing = CrlIssuer(certificate, key, pss=who == "profile")
    folder = CrlFolder(tmp_path / "crl", certificate)
    for _ in range(2):  # the second time what is published is read, too
        publish(journal, signing, folder, [FULL], later())
    crl = folder.read(folder.where(FULL))
    assert isinstance(crl.signature_algorithm_parameters, padding.PSS)
    assert openssl_verifies(folder.where(FULL).read_bytes(), certificate, tmp_path)


def test_list_of_an_rsa_issuer_that_says_nothing_is_signed_by_pkcs1(journal, rsa_ca, tmp_path):
    issuer = CrlIssuer(rsa_ca.issuer, find_key(rsa_ca.signer, rsa_ca.issuer.public_key()))
    (made,) = make(journal, issuer, [FULL], later())
    assert isinstance(x509.load_der_x509_crl(made.crl.der).signature_algorithm_parameters, padding.PKCS1v15)
    assert openssl_verifies(made.crl.der, rsa_ca.issuer, tmp_path)


@pytest.mark.parametrize("kind", [KeyKind.P384, KeyKind.RSA2048, KeyKind.ED25519])
def test_issuer_of_every_kind_signs(tmp_path, kind):
    with temporary_ca(tmp_path, intermediate_kind=kind) as made, CaJournal.open(tmp_path / "ca.db") as journal:
        issuer = CrlIssuer(made.issuer, find_key(made.signer, made.issuer.public_key()), POLICY)
        revoke(journal, issuer.revoker, [Target(17)], Reason.SUPERSEDED)
        crl = only(make(journal, issuer, [FULL], later()))
        assert crl.is_signature_valid(made.issuer.public_key())
        assert reasons(crl) == {17: "superseded"}


def test_crl_without_entries_has_no_list(journal, issuer):
    """RFC 5280 5.1.2.6: revokedCertificates must be absent."""
    assert len(only(make(journal, issuer, [FULL], later()))) == 0


def test_entries_are_sorted_and_each_stands_once(journal, issuer, acts):
    serials = [new_serial(1) for _ in range(200)]
    acts.hold(*serials)
    acts.revoke(*serials)
    crl = only(make(journal, issuer, [FULL], later()))
    assert [entry.serial_number for entry in crl] == sorted(serials)


# -- full, delta, shards


def test_full_crl_names_its_delta_and_is_valid_for_every_and_overlap(journal, issuer):
    now = later().replace(microsecond=0)
    crl = only(make(journal, issuer, [FULL], now))
    freshest, critical = extension(crl, x509.FreshestCRL)
    assert freshest[0].full_name[0].value == f"{URL}/delta.crl"
    assert not critical
    assert (crl.last_update_utc, crl.next_update_utc) == (now, now + dt.timedelta(days=2))
    assert extension(crl, x509.AuthorityKeyIdentifier)[0].key_identifier is not None


def test_delta_tells_what_changed_since_its_base(journal, issuer, acts):
    acts.revoke(1)
    acts.hold(2)
    acts.hold(3)
    full = only(make(journal, issuer, [FULL], later()))
    acts.release(2)
    acts.revoke(3)
    acts.revoke(4)
    delta = only(make(journal, issuer, [DELTA], later()))
    indicator, critical = extension(delta, x509.DeltaCRLIndicator)
    assert critical
    assert indicator.crl_number == number_of(full)
    assert number_of(delta) > number_of(full)
    assert reasons(delta) == {2: "removeFromCRL", 3: "keyCompromise", 4: "keyCompromise"}


def test_hold_that_came_and_went_after_the_base_is_told_as_removed(journal, issuer, acts):
    """RFC 5280 5.2.4: an earlier delta may have told of the hold."""
    make(journal, issuer, [FULL], later())
    acts.hold(2)
    assert reasons(only(make(journal, issuer, [DELTA], later()))) == {2: "certificateHold"}
    acts.release(2)
    assert reasons(only(make(journal, issuer, [DELTA], later()))) == {2: "removeFromCRL"}


def test_full_and_delta_of_one_moment_share_a_number(journal, issuer, acts):
    """RFC 5280 5.2.3."""
    make(journal, issuer, [FULL], later())
    acts.revoke(1)
    made = make(journal, issuer, [FULL, DELTA], later())
    assert {one.crl.terms.number for one in made} == {2}


def test_delta_adds_to_the_oldest_full_crl_that_somebody_may_hold(journal, issuer, acts):
    first = only(make(journal, issuer, [FULL], later()))
    acts.revoke(1)
    make(journal, issuer, [FULL], later(hours=24))
    assert extension(only(make(journal, issuer, [DELTA], later(hours=25))), x509.DeltaCRLIndicator)[
        0
    ].crl_number == number_of(first)
    late = only(make(journal, issuer, [DELTA], later(hours=50)))
    assert extension(late, x509.DeltaCRLIndicator)[0].crl_number == number_of(first) + 1


def test_without_a_full_crl_there_is_no_delta(journal, issuer):
    assert make(journal, issuer, [DELTA], later()) == []


def test_shard_tells_of_its_batch_only_and_is_critical_about_it(journal, issuer, acts):
    acts.revoke(1, 2, shard="B-1")
    acts.revoke(3, shard="B-2")
    acts.revoke(4)
    crl = only(make(journal, issuer, [Scope.of_shard("B-1")], later()))
    point, critical = extension(crl, x509.IssuingDistributionPoint)
    assert critical
    assert point.full_name[0].value == f"{URL}/shards/B-1.crl"
    assert set(reasons(crl)) == {1, 2}
    assert set(reasons(only(make(journal, issuer, [FULL], later())))) == {1, 2, 3, 4}


def test_shards_and_deltas_need_a_url(journal, issuer):
    nowhere = CrlIssuer(issuer.certificate, issuer.key)
    for scope in (DELTA, Scope.of_shard("B-1")):
        with pytest.raises(CrlError, match=r"\[crl\]") as caught:
            make(journal, nowhere, [scope], later())
        assert caught.value.code == "crl.no_url"


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 65])
def test_name_that_cannot_stand_in_a_url_is_no_shard(name):
    with pytest.raises(CrlError) as caught:
        Scope.of_shard(name)
    assert caught.value.code == "crl.shard"


def test_any_name_has_a_shard_of_its_own():
    names = ["WO-1001", "WO 1001", "WO/1001", "Größe", "x" * 200, "…", "../../etc"]
    found = [shard_of(name) for name in names]
    assert found[0] == "WO-1001"
    assert len(set(found)) == len(names)
    assert [str(Scope.of_shard(shard)) for shard in found] == [f"shard:{shard}" for shard in found]


def test_expired_certificate_stands_on_one_more_crl_and_then_on_none(journal, issuer, acts):
    """RFC 5280 3.3."""
    acts.revoke(1, not_after=later(hours=1))
    acts.revoke(2)
    assert set(reasons(only(make(journal, issuer, [FULL], later())))) == {1, 2}
    assert set(reasons(only(make(journal, issuer, [FULL], later(hours=2))))) == {1, 2}
    assert set(reasons(only(make(journal, issuer, [FULL], later(hours=3))))) == {2}


# -- what is due


EVERYTHING = (FULL, DELTA, Scope.of_shard("B-1"), Scope.of_shard("B-2"))


def due_now(journal, issuer, when, wanted=EVERYTHING):
    with journal.reader() as reader:
        return due(reader, issuer, list(wanted), when)


def test_at_first_everything_is_due_but_the_delta(journal, issuer):
    assert due_now(journal, issuer, later()) == [FULL, Scope.of_shard("B-1"), Scope.of_shard("B-2")]


def test_nothing_is_due_twice(journal, issuer):
    make(journal, issuer, due_now(journal, issuer, later()), later())
    make(journal, issuer, due_now(journal, issuer, later()), later())
    assert due_now(journal, issuer, later()) == []


def test_recall_of_a_batch_makes_one_small_crl_and_the_delta_due(journal, issuer, acts):
    make(journal, issuer, [FULL, Scope.of_shard("B-1"), Scope.of_shard("B-2")], later())
    make(journal, issuer, [DELTA], later())
    acts.revoke(1, 2, 3, shard="B-1")
    assert due_now(journal, issuer, later()) == [DELTA, Scope.of_shard("B-1")]


def test_without_a_delta_the_full_crl_tells_of_each_change(journal, issuer, acts):
    alone = CrlIssuer(issuer.certificate, issuer.key)
    make(journal, alone, [FULL], later())
    assert due_now(journal, alone, later(), [FULL]) == []
    acts.revoke(1)
    assert due_now(journal, alone, later(), [FULL]) == [FULL]


def test_each_is_due_again_when_its_time_has_come(journal, issuer):
    everything = [FULL, Scope.of_shard("B-1")]
    make(journal, issuer, everything, later())
    assert due_now(journal, issuer, later(hours=23, minutes=59), everything) == []
    assert due_now(journal, issuer, later(hours=24), everything) == everything


def test_scopes_are_those_of_batches_revocations_and_orders(journal, issuer, acts):
    acts.revoke(1, shard="revoked")
    with journal.reader() as reader:
        found = scopes(reader, issuer, more=["order"])
        alone = scopes(reader, CrlIssuer(issuer.certificate, issuer.key), more=["order"])
    assert found == [FULL, DELTA, Scope.of_shard("order"), Scope.of_shard("revoked")]
    assert alone == [FULL]


# -- publishing


def test_files_are_where_the_urls_say(journal, issuer, folder, acts):
    acts.revoke(1, shard="B-1")
    made = publish(journal, issuer, folder, [FULL, Scope.of_shard("B-1")], later())
    publish(journal, issuer, folder, [DELTA], later())
    files = {path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*") if path.is_file()}
    assert files == {"full.crl", "delta.crl", "shards/B-1.crl"}
    assert all(one.path.read_bytes() == one.crl.der for one in made)
    assert {oct(path.stat().st_mode & 0o777) for path in folder.files()} == {"0o644"}


def test_numbers_go_up_by_one_for_each_publication(journal, issuer, folder):
    numbers = []
    for _ in range(3):
        publish(journal, issuer, folder, [FULL, Scope.of_shard("B-1")], later())
        numbers.append([number_of(folder.read(path)) for path in folder.files()])
    assert numbers == [[1, 1], [2, 2], [3, 3]]


def test_number_of_a_crl_that_was_never_signed_is_not_used_again(journal, issuer, folder, monkeypatch):
    def broken(*_, **__):
        raise CrlError("the token is gone")

    publish(journal, issuer, folder, [FULL], later())
    before = (folder.path / "full.crl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("hsm.revocation.publishing.sign_crl", broken)
        with pytest.raises(CrlError):
            publish(journal, issuer, folder, [FULL], later())
    assert (folder.path / "full.crl").read_bytes() == before
    (made,) = publish(journal, issuer, folder, [FULL], later())
    assert made.crl.terms.number == 3


def test_each_crl_is_counted_before_it_is_signed(journal, issuer, folder):
    publish(journal, issuer, folder, [FULL, Scope.of_shard("B-1")], later())
    with journal.reader() as reader:
        assert reader.signatures() == {"crl": 2}


def test_older_copy_of_the_journal_is_refused_and_nothing_is_published(tmp_path, issuer, folder):
    path, copy = tmp_path / "ca.db", tmp_path / "backup.db"
    with CaJournal.open(path) as journal:
        publish(journal, issuer, folder, [FULL], later())
    shutil.copy(path, copy)
    with CaJournal.open(path) as journal:
        publish(journal, issuer, folder, [FULL], later())
    before = (folder.path / "full.crl").read_bytes()
    shutil.copy(copy, path)
    with CaJournal.open(path) as journal, pytest.raises(CrlError, match="older copy") as caught:
        publish(journal, issuer, folder, [FULL], later())
    assert caught.value.code == "crl.number_behind"
    assert (folder.path / "full.crl").read_bytes() == before


def test_what_is_published_is_taken_over_by_an_older_journal(tmp_path, issuer, folder):
    path, copy = tmp_path / "ca.db", tmp_path / "backup.db"
    everything = [FULL, Scope.of_shard("B-1")]
    with CaJournal.open(path) as journal:
        hold(journal, issuer.revoker, [Target(5)])
        publish(journal, issuer, folder, everything, later())
    shutil.copy(path, copy)
    with CaJournal.open(path) as journal:
        revoke(journal, issuer.revoker, [Target(1, "B-1"), Target(2)], Reason.SUPERSEDED)
        publish(journal, issuer, folder, everything, later())
        hold(journal, issuer.revoker, [Target(3)])
        release(journal, issuer.revoker, [Target(5)])
        publish(journal, issuer, folder, [DELTA], later())
        wanted = reasons(only(make(journal, issuer, [FULL], later())))
    shutil.copy(copy, path)
    crls = {scope: folder.read(folder.where(scope)) for scope in (*everything, DELTA)}
    with CaJournal.open(path) as journal:
        taken = adopt(journal, issuer.certificate, crls, Target, later())
        assert (taken.number, taken.added) == (3, 4)
        made = publish(journal, issuer, folder, everything, later())
        again = adopt(journal, issuer.certificate, crls, Target, later())
    full, shard = (x509.load_der_x509_crl(one.crl.der) for one in made)
    assert number_of(full) == 4
    assert reasons(full) == wanted == {1: "superseded", 2: "superseded", 3: "certificateHold"}
    assert reasons(shard) == {1: "superseded"}
    assert again.added == 0


def test_folder_of_another_issuer_is_refused(journal, issuer, folder):
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateRevocationListBuilder(issuer.certificate.subject, NOW, NOW + dt.timedelta(days=1))
    folder.path.mkdir()
    (folder.path / "full.crl").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))
    with pytest.raises(CrlError, match="its own folder") as caught:
        publish(journal, issuer, folder, [FULL], later())
    assert caught.value.code == "crl.foreign"


def test_half_file_in_the_folder_is_never_seen(journal, issuer, folder, monkeypatch):
    """Whoever reads at any moment sees the old file or the new one."""
    publish(journal, issuer, folder, [FULL], later())
    before = (folder.path / "full.crl").read_bytes()
    seen = []
    real = os.fsync

    def watch(descriptor):
        seen.append((folder.path / "full.crl").read_bytes())
        real(descriptor)

    monkeypatch.setattr("hsm.files.os.fsync", watch)
    publish(journal, issuer, folder, [FULL], later())
    after = (folder.path / "full.crl").read_bytes()
    assert seen == [before, after]
    assert after != before


def test_folder_that_cannot_be_written_keeps_what_is_published(journal, issuer, folder, monkeypatch):
    publish(journal, issuer, folder, [FULL], later())
    before = {path: path.read_bytes() for path in folder.path.iterdir()}

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hsm.files.os.fsync", full)
    with pytest.raises(CrlError, match="No space left") as caught:
        publish(journal, issuer, folder, [FULL], later())
    assert caught.value.code == "crl.folder"
    assert {path: path.read_bytes() for path in folder.path.iterdir()} == before


def test_file_that_is_no_crl_is_told(folder):
    folder.path.mkdir()
    (folder.path / "full.crl").write_bytes(b"half a fi")
    with pytest.raises(CrlError) as caught:
        folder.published()
    assert caught.value.code == "crl.unreadable"


def test_clock_outside_the_issuers_validity_is_refused(journal, issuer):
    with pytest.raises(CrlError, match="check the clock"):
        make(journal, issuer, [FULL], dt.datetime(2001, 1, 1, tzinfo=dt.UTC))


def test_signature_that_does_not_verify_is_never_published(journal, issuer, folder, monkeypatch):
    monkeypatch.setattr("hsm.revocation.crl.sign_hashed", lambda *_: bytes.fromhex("3006020101020101"))
    with pytest.raises(CrlError) as caught:
        publish(journal, issuer, folder, [FULL], later())
    assert caught.value.code == "crl.signature_invalid"
    assert not folder.path.exists()


def test_crl_tells_a_consistent_state_while_others_revoke(journal, issuer, acts, monkeypatch):
    """What is revoked after the number was taken comes with the next number, in every scope."""
    acts.revoke(1, shard="B-1")
    real = journal.count_signature_blocking

    def revoke_meanwhile(kind, issuer):
        acts.revoke(new_serial(1), shard="B-1")
        return real(kind, issuer)

    monkeypatch.setattr(journal, "count_signature_blocking", revoke_meanwhile)
    made = make(journal, issuer, [FULL, Scope.of_shard("B-1")], later())
    assert [one.crl.entries for one in made] == [1, 1]


def test_error_of_the_journal_is_one_of_ours(journal, acts):
    journal.close()
    with pytest.raises(JournalError):
        acts.revoke(1)


def test_ten_thousand_revocations_are_one_transaction(journal, issuer, acts):
    before = journal.commits
    acts.revoke(*range(1, 10_001), shard="B-1")
    assert journal.commits == before + 1
    (made,) = make(journal, issuer, [Scope.of_shard("B-1")], later())
    assert made.crl.entries == 10_000


# -- is the journal the one that the published lists come from


@pytest.fixture
def two_journals(tmp_path, issuer, folder):
    """A folder with number 2, and an old copy of the journal that signed a number 2 of its own."""
    path, copy = tmp_path / "ca.db", tmp_path / "copy.db"
    with CaJournal.open(path) as journal:
        publish(journal, issuer, folder, [FULL], later())
    shutil.copy(path, copy)
    with CaJournal.open(path) as journal:
        revoke(journal, issuer.revoker, [Target(17)], Reason.KEY_COMPROMISE)
        publish(journal, issuer, folder, [FULL], later())
    with CaJournal.open(copy) as journal:
        make(journal, issuer, [FULL], later())
    return copy


def test_number_that_an_old_copy_signed_a_second_time_is_noticed(two_journals, issuer, folder):
    before = (folder.path / "full.crl").read_bytes()
    with CaJournal.open(two_journals) as journal, pytest.raises(CrlError, match="went on") as caught:
        publish(journal, issuer, folder, [FULL], later())
    assert caught.value.code == "crl.not_on_record"
    assert (folder.path / "full.crl").read_bytes() == before


def test_old_copy_that_went_on_takes_over_what_is_published(two_journals, issuer, folder):
    with CaJournal.open(two_journals) as journal:
        taken = adopt(journal, issuer.certificate, {FULL: folder.read(folder.where(FULL))}, Target, later())
        assert (taken.number, taken.added) == (2, 1)
        (made,) = publish(journal, issuer, folder, [FULL], later())
    assert made.crl.terms.number == 3
    assert reasons(x509.load_der_x509_crl(made.crl.der)) == {17: "keyCompromise"}


def test_what_was_signed_and_never_published_stays_due(journal, issuer, folder, acts, monkeypatch):
    alone = CrlIssuer(issuer.certificate, issuer.key)
    publish(journal, alone, folder, [FULL], later())
    acts.revoke(17)
    with monkeypatch.context() as patch:
        patch.setattr("hsm.revocation.folder.replace_file", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(CrlError):
            publish(journal, alone, folder, [FULL], later())
    with journal.reader() as reader:
        assert due(reader, alone, [FULL], later(), folder) == [FULL]
    publish(journal, alone, folder, [FULL], later())
    with journal.reader() as reader:
        assert due(reader, alone, [FULL], later(), folder) == []


def test_list_that_was_put_back_into_the_folder_is_due(journal, issuer, folder, acts):
    alone = CrlIssuer(issuer.certificate, issuer.key)
    publish(journal, alone, folder, [FULL], later())
    old = (folder.path / "full.crl").read_bytes()
    acts.revoke(17)
    publish(journal, alone, folder, [FULL], later())
    (folder.path / "full.crl").write_bytes(old)
    with journal.reader() as reader:
        assert due(reader, alone, [FULL], later(), folder) == [FULL]


def test_list_in_the_place_of_another_is_due(journal, issuer, folder):
    first, second = Scope.of_shard("B-1"), Scope.of_shard("B-2")
    publish(journal, issuer, folder, [first, second], later())
    shutil.copy(folder.where(first), folder.where(second))
    with journal.reader() as reader:
        assert due(reader, issuer, [first, second], later(), folder) == [second]


# -- are the acts those that the lists told of


def tamper(path, sql):
    """Do what somebody does who owns the file: the rules out of the way first."""
    with sqlite3.connect(path) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for name in names:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(sql)
    connection.close()


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("DELETE FROM revocation WHERE id = 1", "table revocation has 1 rows"),
        ("DELETE FROM revocation WHERE id = 2", "that act is gone"),
        ("DELETE FROM revocation", "that act is gone"),
        ("UPDATE revocation SET reason = 0 WHERE id = 1", "are not those that CRL 1 told of"),
        ("UPDATE revocation SET serial = '00000000000000000000000000000000000000ff'", "are not those that CRL 1"),
    ],
)
def test_act_that_is_changed_or_removed_is_told(tmp_path, issuer, sql, told):
    path = tmp_path / "ca.db"
    with CaJournal.open(path) as journal:
        revoke(journal, issuer.revoker, [Target(1), Target(2)], Reason.KEY_COMPROMISE)
        make(journal, issuer, [FULL], later())
        with journal.reader() as reader:
            assert [*faults(reader)] == []
    tamper(path, sql)
    with JournalReader(path) as reader:
        assert any(told in sentence for sentence in faults(reader))


def test_each_list_goes_on_from_the_head_of_the_one_before(journal, issuer, acts):
    for serial in range(1, 5):
        acts.revoke(serial)
        make(journal, issuer, [FULL], later())
    with journal.reader() as reader:
        assert [*faults(reader)] == []
        ((heads, different),) = reader.rows("SELECT count(*), count(DISTINCT head) FROM crl_head")
    assert (heads, different) == (4, 4)
