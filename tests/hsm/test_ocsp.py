"""OCSP: requests of any kind, answers that are true at once, and what anybody may send."""

import asyncio
import base64
import datetime as dt
import hashlib
import os
import subprocess
from dataclasses import dataclass, replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hsm import Authority, KeyKind, OcspError, Profile, Recovery, TokenError, der, find_key
from hsm.journal import CaJournal, certificate_sha256
from hsm.ocsp import (
    Failure,
    Good,
    JournalStatuses,
    OcspRequest,
    OcspResponder,
    PresignedFolder,
    Presigning,
    Responder,
    Signing,
    Unknown,
    presign,
)
from hsm.ocsp.delegation import check_delegation, delegate
from hsm.ocsp.identity import IssuerIdentity
from hsm.ocsp.request import MAX_REQUEST
from hsm.revocation import Reason, Revoked, Target, hold, release, revoke, revoker_of
from hsm.serials import new_serial
from hsm.testing import INTERMEDIATE_TOKEN, open_signer, temporary_ca

SHA1 = hashes.SHA1()  # noqa: S303 - what clients name issuers by (RFC 5019 2.1.1)
HOUR = dt.timedelta(hours=1)
STATUS = {
    "good": ocsp.OCSPCertStatus.GOOD,
    "revoked": ocsp.OCSPCertStatus.REVOKED,
    "unknown": ocsp.OCSPCertStatus.UNKNOWN,
}


def utc_now():
    return dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def delegated(made_ca, tmp_path_factory):
    """A responder's certificate; its key is in the CA's own token, and stays there."""

    async def make(signer, journal):
        authority = await Authority.open(signer, issuer=made_ca.issuer, chain=[made_ca.root])
        return await delegate(authority, journal, signer, station_id=1, now=utc_now())

    path = tmp_path_factory.mktemp("delegated") / "ca.db"
    with open_signer(made_ca.softhsm, INTERMEDIATE_TOKEN, writable=True) as signer, CaJournal.open(path) as journal:
        certificate = asyncio.run(make(signer, journal))
        with journal.reader() as reader:
            assert reader.by_serial(certificate.serial_number).profile == "ocsp-signer"
    return certificate


class Bench:
    """A responder for the CA, with a journal to revoke in."""

    def __init__(self, ca, certificate, folder):
        self.ca = ca
        self.certificate = certificate
        self.journal = CaJournal.open(folder / "ca.db")
        self.issued = set()
        self.statuses = JournalStatuses(self.journal.path, ca.issuer, also_issued=self.issued.__contains__)
        self.presigned = PresignedFolder(folder / "ocsp", ca.issuer)
        self.identity = IssuerIdentity(ca.issuer)
        self.signer = Responder(certificate, find_key(ca.signer, certificate.public_key()))
        self.counted = 0
        self.offset = dt.timedelta()
        self.responder = self.responder_with(presigned=self.presigned)

    def responder_with(self, **options):
        signing = Signing(self.signer, self.count)
        return OcspResponder(self.ca.issuer, signing, self.statuses, clock=self.now, **options)

    def now(self):
        return utc_now() + self.offset

    async def count(self, number=1):
        self.counted += number

    def issue(self, serial=None):
        serial = serial or new_serial(1)
        self.issued.add(serial)
        return serial

    def revoke(self, serial, reason=Reason.KEY_COMPROMISE, **more):
        revoke(self.journal, revoker_of(self.ca.issuer), [Target(serial)], reason, **more)

    def hold(self, serial):
        hold(self.journal, revoker_of(self.ca.issuer), [Target(serial)])

    def release(self, serial):
        release(self.journal, revoker_of(self.ca.issuer), [Target(serial)])

    def request(self, serial, algorithm=None, nonce=None):
        builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
            *self.hashes(algorithm or SHA1), serial, algorithm or SHA1
        )
        if nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
        return builder.build().public_bytes(serialization.Encoding.DER)

    def hashes(self, algorithm):
        name = self.ca.issuer.subject.public_bytes()
        key = self.ca.issuer.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return hashlib.new(algorithm.name, name).digest(), hashlib.new(algorithm.name, key).digest()

    async def ask(self, serial, **options):
        answer = await self.responder.answer(self.request(serial, **options))
        response = ocsp.load_der_ocsp_response(answer.der)
        assert response.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
        self.certificate.public_key().verify(
            response.signature, response.tbs_response_bytes, ec.ECDSA(response.signature_hash_algorithm)
        )
        return response

    async def presign(self, *serials, validity=24 * HOUR, renew_within=HOUR):
        signing = Presigning(self.signer, validity, renew_within, self.count)
        statuses = [(serial, self.statuses.status(serial)) for serial in serials]
        return await presign(self.presigned, signing, statuses, self.now)


@pytest.fixture
def bench(ca, delegated, tmp_path):
    made = Bench(ca, delegated, tmp_path)
    yield made
    made.statuses.close()
    made.journal.close()


# -- the key


def test_responder_has_a_key_of_its_own_and_says_what_it_is_for(delegated, ca):
    usages = delegated.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    assert delegated.extensions.get_extension_for_class(x509.OCSPNoCheck)
    assert delegated.public_key() != ca.issuer.public_key()
    check_delegation(delegated, ca.issuer)


@pytest.mark.parametrize("which", ["root", "leaf"])
def test_certificate_that_may_not_answer_is_refused(ca, which):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    leaf = x509.CertificateBuilder(name, ca.issuer.subject, key.public_key(), 1, utc_now(), utc_now() + HOUR)
    certificate = ca.root if which == "root" else leaf.sign(key, hashes.SHA256())
    with pytest.raises(OcspError) as caught:
        check_delegation(certificate, ca.issuer)
    assert caught.value.code == "ocsp.not_delegated"


async def test_ed25519_is_no_key_for_a_responder(made_ca):
    with pytest.raises(OcspError) as caught:
        await delegate(None, None, None, station_id=1, now=utc_now(), kind=KeyKind.ED25519)
    assert caught.value.code == "ocsp.key_type"


# -- what is true, at once


async def test_certificate_that_we_issued_is_good(bench):
    response = await bench.ask(bench.issue())
    assert response.certificate_status is STATUS["good"]
    assert response.certificates == [bench.certificate]


async def test_serial_number_that_we_never_gave_out_is_unknown(bench):
    assert (await bench.ask(new_serial(1))).certificate_status is STATUS["unknown"]


async def test_certificate_in_the_journal_is_good(bench):
    """Not only those that somebody else remembers."""
    authority = await Authority.open(bench.ca.signer, issuer=bench.ca.issuer)
    draft = authority.draft(
        Profile.load("tls-client"),
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        fields={"product_serial": "SN1"},
        serial=new_serial(1),
        now=utc_now(),
    )
    intent = await bench.journal.reserve(
        issuer=certificate_sha256(bench.ca.issuer),
        profile="tls-client",
        subject="CN=SN1",
        spki_sha256=draft.spki_sha256,
        draft=draft,
    )
    assert isinstance(bench.statuses.status(draft.serial), Unknown)
    await bench.journal.record(intent, await authority.issue(draft))
    assert isinstance(bench.statuses.status(draft.serial), Good)
    assert isinstance(JournalStatuses(bench.journal.path, bench.ca.root).status(draft.serial), Unknown)


async def test_revocation_is_told_by_the_next_answer(bench):
    serial = bench.issue()
    since = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    await bench.presign(serial)
    assert (await bench.ask(serial)).certificate_status is STATUS["good"]
    bench.revoke(serial, Reason.SUPERSEDED, invalid_since=since)
    response = await bench.ask(serial)
    assert response.certificate_status is STATUS["revoked"]
    assert response.revocation_reason is x509.ReasonFlags.superseded
    assert utc_now() - response.revocation_time_utc < dt.timedelta(minutes=1)
    assert response.single_extensions.get_extension_for_class(x509.InvalidityDate).value.invalidity_date_utc == since


async def test_hold_and_release_are_told_by_the_next_answer(bench):
    serial = bench.issue()
    seen = [await bench.ask(serial)]
    bench.hold(serial)
    seen.append(await bench.ask(serial))
    bench.release(serial)
    seen.append(await bench.ask(serial))
    assert [one.certificate_status.name for one in seen] == ["GOOD", "REVOKED", "GOOD"]
    assert seen[1].revocation_reason is x509.ReasonFlags.certificate_hold


async def test_revocation_without_a_reason_names_none(bench):
    serial = bench.issue()
    bench.revoke(serial, Reason.UNSPECIFIED)
    assert (await bench.ask(serial)).revocation_reason is None


async def test_journal_that_is_replaced_by_a_backup_is_read_anew(bench, tmp_path):
    serial = bench.issue()
    bench.revoke(serial)
    assert (await bench.ask(serial)).certificate_status is STATUS["revoked"]
    bench.journal.close()
    with CaJournal.open(tmp_path / "backup.db"):
        pass
    for suffix in ("-wal", "-shm"):
        bench.journal.path.with_name(f"{bench.journal.path.name}{suffix}").unlink(missing_ok=True)
    (tmp_path / "backup.db").replace(bench.journal.path)
    assert (await bench.ask(serial)).certificate_status is STATUS["good"]


async def test_journal_that_nobody_writes_to_is_seen_to_change(bench, tmp_path):
    """Read as it lies, a file shows nothing of what is written after; the next answer must."""
    serial = bench.issue()
    bench.journal.close()
    statuses = JournalStatuses(bench.journal.path, bench.ca.issuer)
    try:
        assert isinstance(statuses.status(serial), Unknown)
        with CaJournal.open(bench.journal.path) as journal:
            revoke(journal, revoker_of(bench.ca.issuer), [Target(serial)], Reason.SUPERSEDED)
            assert isinstance(statuses.status(serial), Revoked)
        assert isinstance(statuses.status(serial), Revoked)
    finally:
        statuses.close()


# -- answers


async def test_answer_has_the_serial_the_hashes_and_the_times(bench):
    serial = bench.issue()
    response = await bench.ask(serial, algorithm=hashes.SHA256())
    assert (response.serial_number, response.hash_algorithm.name) == (serial, "sha256")
    assert (response.issuer_name_hash, response.issuer_key_hash) == bench.hashes(hashes.SHA256())
    assert response.produced_at_utc == response.this_update_utc
    assert response.next_update_utc - response.this_update_utc == 12 * HOUR
    assert (
        response.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(bench.certificate.public_key()).digest
    )


@pytest.mark.parametrize("algorithm", [SHA1, hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
async def test_issuer_may_be_named_by_any_hash(bench, algorithm):
    assert (await bench.ask(bench.issue(), algorithm=algorithm)).certificate_status is STATUS["good"]


@pytest.mark.parametrize("size", [1, 16, 32, 128])
async def test_nonce_is_repeated(bench, size):
    """RFC 9654 2.1."""
    nonce = os.urandom(size)
    response = await bench.ask(bench.issue(), nonce=nonce)
    assert response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce


@pytest.mark.parametrize("size", [0, 129, 1000])
async def test_nonce_of_a_forbidden_length_is_malformed(bench, size):
    answer = await bench.responder.answer(bench.request(bench.issue(), nonce=bytes(size)))
    assert answer.der == Failure.MALFORMED_REQUEST.der


async def test_answer_without_a_nonce_has_none(bench):
    assert len((await bench.ask(bench.issue())).extensions) == 0


async def test_answer_with_a_nonce_is_signed_for_it_alone(bench):
    serial = bench.issue()
    await bench.ask(serial)
    before = bench.counted
    for number in range(3):
        await bench.ask(serial, nonce=bytes([number]) * 16)
    assert bench.counted == before + 3


async def test_answer_that_is_known_is_not_signed_again(bench):
    serial = bench.issue()
    first = await bench.ask(serial)
    assert (await bench.ask(serial)).signature == first.signature
    assert bench.counted == 1


async def test_answer_is_signed_again_before_it_ends(bench):
    serial = bench.issue()
    await bench.ask(serial)
    bench.offset = dt.timedelta(hours=11, minutes=56)
    await bench.ask(serial)
    assert bench.counted == 2


async def test_answer_does_not_outlive_the_certificate_of_who_signs_it(bench):
    bench.offset = bench.certificate.not_valid_after_utc - utc_now() - HOUR
    response = await bench.ask(bench.issue())
    assert response.next_update_utc == bench.certificate.not_valid_after_utc


async def test_expired_responder_answers_nothing(bench):
    bench.offset = bench.certificate.not_valid_after_utc - utc_now() + HOUR
    answer = await bench.responder.answer(bench.request(bench.issue()))
    assert answer.der == Failure.INTERNAL_ERROR.der


async def test_several_certificates_in_one_request_get_one_answer(bench):
    good, revoked, unknown = bench.issue(), bench.issue(), new_serial(1)
    bench.revoke(revoked)
    answer = await bench.responder.answer(request_for(bench, good, revoked, unknown))
    singles = list(ocsp.load_der_ocsp_response(answer.der).responses)
    assert [(one.serial_number, one.certificate_status.name) for one in singles] == [
        (good, "GOOD"),
        (revoked, "REVOKED"),
        (unknown, "UNKNOWN"),
    ]


async def test_certificate_of_another_issuer_is_unauthorized(bench):
    """RFC 5019 2.2.3; also if it stands beside one of ours."""
    theirs = IssuerIdentity(bench.ca.root).request(bench.issue())
    assert (await bench.responder.answer(theirs)).der == Failure.UNAUTHORIZED.der
    mixed = request_of([bench.identity.certificate(1).der, IssuerIdentity(bench.ca.root).certificate(1).der])
    assert (await bench.responder.answer(mixed)).der == Failure.UNAUTHORIZED.der


def test_failures_are_what_pyca_reads():
    names = [ocsp.load_der_ocsp_response(failure.der).response_status.name for failure in Failure]
    assert names == [failure.name for failure in Failure]


async def test_token_that_is_away_is_told_as_try_later(bench, monkeypatch):
    async def away(*_, **__):
        raise TokenError("gone", recovery=Recovery.TOKEN_GONE)

    monkeypatch.setattr(bench.signer.key, "sign_message", away)
    answer = await bench.responder.answer(bench.request(bench.issue()))
    assert answer.der == Failure.TRY_LATER.der


async def test_signature_that_does_not_verify_never_leaves(bench, monkeypatch):
    async def wrong(*_, **__):
        return bytes.fromhex("3006020101020101")

    monkeypatch.setattr(bench.signer.key, "sign_message", wrong)
    answer = await bench.responder.answer(bench.request(bench.issue()))
    assert answer.der == Failure.INTERNAL_ERROR.der


async def test_too_many_who_wait_for_the_token_are_told_to_try_later(bench):
    responder = bench.responder_with(most_waiting=4)
    serial = bench.issue()
    requests = [bench.request(serial, nonce=bytes([number]) * 16) for number in range(20)]
    answers = await asyncio.gather(*(responder.answer(request) for request in requests))
    assert sum(answer.busy and answer.der == Failure.TRY_LATER.der for answer in answers) == 16
    assert (await bench.ask(serial, nonce=b"later")).certificate_status is STATUS["good"]


async def test_memory_for_answers_is_bounded(bench, monkeypatch):
    monkeypatch.setattr("hsm.ocsp.responder.KEPT", 10)
    for _ in range(30):
        await bench.ask(new_serial(1))
    assert len(bench.responder._kept) == 10


# -- signed ahead


async def test_presigned_answer_is_where_a_get_request_points(bench):
    serial = bench.issue()
    await bench.presign(serial)
    path = bench.presigned.path / base64.b64encode(bench.request(serial)).decode()
    response = ocsp.load_der_ocsp_response(path.read_bytes())
    assert response.certificate_status is STATUS["good"]
    assert path.stat().st_mtime == response.this_update_utc.timestamp()


async def test_responder_hands_out_what_is_presigned(bench):
    serial = bench.issue()
    await bench.presign(serial)
    counted = bench.counted
    await bench.ask(serial)
    assert bench.counted == counted == 1


async def test_presigning_again_signs_only_what_is_old_or_wrong(bench):
    serials = [bench.issue() for _ in range(6)]
    await bench.presign(*serials)
    bench.revoke(serials[0])
    again = await bench.presign(*serials)
    assert (again.signed, again.fresh) == (1, 5)
    bench.offset = 24 * HOUR - dt.timedelta(minutes=30)
    late = await bench.presign(*serials)
    assert (late.signed, late.fresh) == (6, 0)


async def test_presigned_answer_that_is_damaged_is_signed_again(bench):
    serial = bench.issue()
    await bench.presign(serial)
    (path,) = [path for path in bench.presigned.path.rglob("*") if path.is_file()]
    path.write_bytes(path.read_bytes()[:50])
    assert (await bench.ask(serial)).certificate_status is STATUS["good"]
    assert (await bench.presign(serial)).signed == 1


@pytest.mark.parametrize("fault", ["another", "spoiled"])
async def test_presigned_answer_that_is_not_about_this_certificate_or_not_signed_is_signed_again(bench, fault):
    serial, other = bench.issue(), bench.issue()
    await bench.presign(serial, other)
    path = bench.presigned.path / bench.presigned.identity.path(serial)
    answer = path.read_bytes()
    at = answer.index(ocsp.load_der_ocsp_response(answer).signature) + 20
    spoiled = answer[:at] + bytes((answer[at] ^ 1,)) + answer[at + 1 :]
    elsewhere = (bench.presigned.path / bench.presigned.identity.path(other)).read_bytes()
    path.write_bytes(elsewhere if fault == "another" else spoiled)
    assert (await bench.ask(serial)).serial_number == serial
    assert (await bench.presign(serial)).signed == 1


async def test_presigned_answer_that_is_over_is_not_handed_out(bench):
    serial = bench.issue()
    await bench.presign(serial)
    bench.offset = 24 * HOUR
    response = await bench.ask(serial)
    assert response.next_update_utc > bench.now()


async def test_presigning_leaves_no_unfinished_files(bench):
    await bench.presign(*(bench.issue() for _ in range(50)))
    names = [path.name for path in bench.presigned.path.rglob("*") if path.is_file()]
    assert len(names) == 50
    assert not [name for name in names if name.startswith(".")]


async def test_folder_that_cannot_be_written_is_told(bench):
    bench.presigned.path.write_text("a file")
    with pytest.raises(OcspError) as caught:
        await bench.presign(bench.issue())
    assert caught.value.code == "ocsp.folder"


def test_our_serial_numbers_always_have_a_path(ca):
    identity = IssuerIdentity(ca.issuer)
    assert all(identity.path(new_serial(station)) for station in range(1, 128))


# -- what anybody may send


def request_of(certificates, *, extensions=b"", single=b"", version=b"", requestor=b"", signature=b""):
    """Build a request by hand."""
    requests = b"".join(der.encode(0x30, certificate + single) for certificate in certificates)
    tbs = version + requestor + der.encode(0x30, requests) + extensions
    return der.encode(0x30, der.encode(0x30, tbs) + signature)


def request_for(bench, *serials):
    return request_of([bench.identity.certificate(serial).der for serial in serials])


def extension(oid, *, critical=False, value=b"\x04\x00"):
    flag = b"\x01\x01\xff" if critical else b""
    return der.encode(0x30, der.object_identifier(oid) + flag + value)


def tagged(tag, *found):
    return der.encode(tag, der.encode(0x30, b"".join(found)))


NONCE_OID = "1.3.6.1.5.5.7.48.1.2"
SERVICE_LOCATOR = "1.3.6.1.5.5.7.48.1.7"


def nonce(value):
    return extension(NONCE_OID, value=der.encode(0x04, value))


@dataclass(frozen=True)
class Case:
    what: str
    make: object


GOOD_ONES = [
    Case("plain", lambda c: request_of([c])),
    Case("version v1 written out", lambda c: request_of([c], version=b"\xa0\x03\x02\x01\x00")),
    Case("requestor named", lambda c: request_of([c], requestor=b"\xa1\x05\xa4\x03\x30\x01\x00")),
    Case("signed", lambda c: request_of([c], signature=b"\xa0\x04\x30\x02\x30\x00")),
    Case("extension that may be ignored", lambda c: request_of([c], extensions=tagged(0xA2, extension("1.2.3")))),
    Case("single extension", lambda c: request_of([c], single=tagged(0xA0, extension(SERVICE_LOCATOR)))),
    Case("sixteen", lambda c: request_of([c] * 16)),
]

BAD_ONES = [
    Case("nothing", lambda _: b""),
    Case("text", lambda _: b"GET / HTTP/1.1"),
    Case("cut off", lambda c: request_of([c])[:-1]),
    Case("more after it", lambda c: request_of([c]) + b"\0"),
    Case("no certificate", lambda _: request_of([])),
    Case("seventeen", lambda c: request_of([c] * 17)),
    Case("version v2", lambda c: request_of([c], version=b"\xa0\x03\x02\x01\x01")),
    Case(
        "too large",
        lambda c: request_of([c], extensions=tagged(0xA2, extension("1.2.3", value=der.encode(4, bytes(MAX_REQUEST))))),
    ),
    Case("critical and unknown", lambda c: request_of([c], extensions=tagged(0xA2, extension("1.2.3", critical=True)))),
    Case("critical in a single", lambda c: request_of([c], single=tagged(0xA0, extension("1.2.3", critical=True)))),
    Case("two nonces", lambda c: request_of([c], extensions=tagged(0xA2, nonce(b"\4\1a"), nonce(b"\4\1b")))),
    Case("bare nonce", lambda c: request_of([c], extensions=tagged(0xA2, nonce(b"a" * 16)))),
    Case("indefinite length", lambda c: b"\x30\x80" + request_of([c])[2:] + b"\0\0"),
    Case("long form", lambda c: b"\x30\x81" + request_of([c])[1:]),
    Case("serial of no octets", lambda c: request_of([with_serial(c, b"")])),
    Case("serial of 21 octets", lambda c: request_of([with_serial(c, b"\1" * 21)])),
    Case("negative serial", lambda c: request_of([with_serial(c, b"\xff")])),
    Case("serial with zeros", lambda c: request_of([with_serial(c, b"\0\1")])),
    Case("short hash", lambda c: request_of([c.replace(b"\x04\x14", b"\x04\x13", 1)])),
    Case("a hash that lacks an octet", lambda c: request_of([shortened(c)])),
]


def parts_of(certificate):
    return [certificate[e.start : e.end] for e in der.children(certificate, der.read(certificate, 0, len(certificate)))]


def with_serial(certificate, content):
    return der.encode(0x30, b"".join(parts_of(certificate)[:3]) + der.encode(0x02, content))


def shortened(certificate):
    algorithm, name, key, serial = parts_of(certificate)
    return der.encode(0x30, algorithm + der.encode(0x04, name[3:]) + key + serial)


@pytest.mark.parametrize("case", GOOD_ONES, ids=lambda case: case.what)
async def test_request_of_any_form_is_answered(bench, case):
    serial = bench.issue()
    answer = await bench.responder.answer(case.make(bench.identity.certificate(serial).der))
    singles = list(ocsp.load_der_ocsp_response(answer.der).responses)
    assert {one.certificate_status for one in singles} == {STATUS["good"]}


@pytest.mark.parametrize("case", BAD_ONES, ids=lambda case: case.what)
async def test_what_is_no_request_is_malformed(bench, case):
    answer = await bench.responder.answer(case.make(bench.identity.certificate(bench.issue()).der))
    assert answer.der == Failure.MALFORMED_REQUEST.der


@pytest.mark.parametrize("serial", [0, 2**159 - 1])
async def test_serial_that_no_certificate_has_is_unknown(bench, serial):
    size = serial.bit_length() // 8 + 1
    certificate = with_serial(bench.identity.certificate(1).der, serial.to_bytes(size, signed=True))
    answer = await bench.responder.answer(request_of([certificate]))
    assert ocsp.load_der_ocsp_response(answer.der).certificate_status is STATUS["unknown"]


async def test_hash_that_nobody_knows_is_unauthorized(bench):
    algorithm, *rest = parts_of(bench.identity.certificate(1).der)
    md5 = der.encode(0x30, der.object_identifier("1.2.840.113549.2.5") + b"\5\0")
    certificate = der.encode(0x30, md5 + b"".join(rest))
    assert algorithm != md5
    assert (await bench.responder.answer(request_of([certificate]))).der == Failure.UNAUTHORIZED.der


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255), drop=st.booleans())
def test_damaged_request_is_read_as_pyca_reads_it_or_refused(ca, position, value, drop):
    """Whatever we take, a reader that others wrote takes as the same question."""
    good = IssuerIdentity(ca.issuer).request(new_serial(1))
    position %= len(good)
    bad = good[:position] + (b"" if drop else bytes([value])) + good[position + 1 :]
    try:
        ours = OcspRequest.parse(bad)
    except OcspError:
        return
    (certificate,) = ours.certificates
    if certificate.hash_name is None:
        return  # unauthorized, whatever it may mean
    theirs = ocsp.load_der_ocsp_request(bad)
    assert certificate.serial == theirs.serial_number
    assert (certificate.name_hash, certificate.key_hash) == (theirs.issuer_name_hash, theirs.issuer_key_hash)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200))
def test_noise_is_malformed(data):
    with pytest.raises(OcspError) as caught:
        OcspRequest.parse(data)
    assert caught.value.code == "ocsp.malformed"


# -- RSASSA-PSS


async def test_answer_of_a_responder_whose_certificate_says_pss_is_signed_so_and_openssl_accepts(tmp_path):
    with temporary_ca(tmp_path / "rsa", intermediate_kind=KeyKind.RSA2048) as made:
        pass
    pss = replace(Profile.load("ocsp-signer"), rsa_pss=True)
    with (
        open_signer(made.softhsm, INTERMEDIATE_TOKEN, writable=True) as signer,
        CaJournal.open(tmp_path / "ca.db") as journal,
    ):
        authority = await Authority.open(signer, issuer=made.issuer, chain=[made.root])
        certificate = await delegate(
            authority, journal, signer, station_id=1, now=utc_now(), kind=KeyKind.RSA2048, profile=pss
        )
        speaker = Responder(certificate, find_key(signer, certificate.public_key()))
        folder = PresignedFolder(tmp_path / "ocsp", made.issuer)
        await presign(folder, Presigning(speaker, HOUR, HOUR / 2, _count_nothing), [(7, Good())], utc_now)
    answer = folder.read(7).der
    assert ocsp.load_der_ocsp_response(answer).signature_algorithm_oid == x509.SignatureAlgorithmOID.RSASSA_PSS
    (tmp_path / "answer.der").write_bytes(answer)
    chain = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (made.issuer, made.root))
    (tmp_path / "chain.pem").write_bytes(chain)
    command = [
        "openssl",
        "ocsp",
        "-respin",
        "answer.der",
        "-issuer",
        "chain.pem",
        "-serial",
        "7",
        "-CAfile",
        "chain.pem",
    ]
    done = await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Response verify OK" in done.stderr
    assert "7: good" in done.stdout


async def _count_nothing(_number):
    pass
