"""Issuing: nothing is signed that was not linted, nothing leaves that does not verify."""

import asyncio
import datetime as dt
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hsm import (
    Authority,
    Csr,
    FieldError,
    IssuanceError,
    KeyKind,
    KeyMissing,
    LintError,
    Profile,
    Recovery,
    Signer,
    SignerError,
    TokenError,
    TokenUri,
    der,
    new_serial,
)
from hsm.testing import INTERMEDIATE_TOKEN, make_csr, open_signer, temporary_ca, unordered

FIELDS = {"model": "sensor", "product_serial": "SN000001", "hardware_id": "00:11:22", "order": "PO-1"}
IDEVID = unordered(Profile.load("idevid"))


def now():
    return dt.datetime.now(dt.UTC)


def draft(authority, profile=IDEVID, **changes):
    arguments = {"fields": FIELDS, "serial": new_serial(1), "now": now(), **changes}
    return authority.draft(profile, Csr.parse(make_csr()).public_key, **arguments)


async def opened(ca, signer=None):
    return await Authority.open(signer or ca.signer, issuer=ca.issuer, chain=[ca.root])


def certtool_and_openssl_accept(folder, leaf, tmp_path):
    pem = tmp_path / "leaf.pem"
    pem.write_bytes(x509.load_der_x509_certificate(leaf).public_bytes(serialization.Encoding.PEM))
    root, intermediate = folder / "root.pem", folder / "intermediate.pem"
    openssl = ["openssl", "verify", "-x509_strict", "-CAfile", root, "-untrusted", intermediate, pem]
    subprocess.run(openssl, check=True, capture_output=True)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(pem.read_bytes() + intermediate.read_bytes())
    certtool = ["certtool", "--verify", "--load-ca-certificate", root, "--infile", chain]
    subprocess.run(certtool, check=True, capture_output=True)


@pytest.mark.parametrize("name", ["idevid", "tls-client"])
async def test_openssl_and_gnutls_accept_the_chain(ca, tmp_path, name):
    authority = await opened(ca)
    leaf = await authority.issue(draft(authority, unordered(Profile.load(name))))
    certtool_and_openssl_accept(ca.folder, leaf, tmp_path)


async def test_certificate_holds_exactly_the_linted_bytes(ca):
    authority = await opened(ca)
    csr = Csr.parse(make_csr())
    serial = new_serial(3)
    linted = authority.draft(IDEVID, csr.public_key, fields=FIELDS, serial=serial, now=now())
    certificate = x509.load_der_x509_certificate(await authority.issue(linted))
    assert certificate.tbs_certificate_bytes == linted.tbs
    assert (certificate.serial_number, certificate.subject) == (serial, linted.subject)
    assert linted.spki_sha256 == csr.spki_sha256
    assert (linted.not_before, linted.not_after) == (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    certificate.verify_directly_issued_by(ca.issuer)


async def test_idevid_is_as_802_1ar_wants_it(ca):
    authority = await opened(ca)
    certificate = x509.load_der_x509_certificate(await authority.issue(draft(authority)))
    assert certificate.version is x509.Version.v3
    assert certificate.not_valid_after_utc == dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    assert b"\x18\x0f99991231235959Z" in certificate.tbs_certificate_bytes
    assert [extension.oid._name for extension in certificate.extensions] == [
        "authorityKeyIdentifier",
        "keyUsage",
        "subjectAltName",
    ]


async def test_request_of_the_device_decides_nothing_but_the_key(ca):
    authority = await opened(ca)
    csr = Csr.parse(make_csr(common_name="I am the CEO"))
    linted = authority.draft(IDEVID, csr.public_key, fields=FIELDS, serial=new_serial(1), now=now())
    assert b"CEO" not in linted.tbs


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.P384, KeyKind.RSA2048, KeyKind.ED25519])
async def test_issuer_of_every_kind_issues(tmp_path, kind):
    with temporary_ca(tmp_path, intermediate_kind=kind) as ca:
        authority = await opened(ca)
        leaf = await authority.issue(draft(authority))
        certtool_and_openssl_accept(ca.folder, leaf, tmp_path)


async def test_chain_leaves_the_root_out(ca):
    authority = await opened(ca)
    assert authority.chain == (ca.issuer.public_bytes(serialization.Encoding.DER),)


async def test_draft_is_good_for_one_signature(ca):
    authority = await opened(ca)
    linted = draft(authority)
    await authority.issue(linted)
    with pytest.raises(IssuanceError, match="redraft") as caught:
        await authority.issue(linted)
    assert caught.value.code == "issuance.draft_spent"


async def test_draft_of_another_authority_is_refused(ca):
    one, two = await opened(ca), await opened(ca)
    with pytest.raises(IssuanceError) as caught:
        await two.issue(draft(one))
    assert caught.value.code == "issuance.foreign_draft"


async def test_journalled_bytes_are_issued_after_a_crash(ca):
    before = await opened(ca)
    journalled = draft(before)
    after = await opened(ca)
    again = after.redraft(IDEVID, journalled.tbs)
    assert (again.tbs_sha256, again.serial, again.spki_sha256) == (
        journalled.tbs_sha256,
        journalled.serial,
        journalled.spki_sha256,
    )
    certificate = x509.load_der_x509_certificate(await after.issue(again))
    assert certificate.tbs_certificate_bytes == journalled.tbs


async def test_corrupted_journal_cannot_change_the_issuer_or_the_extensions(ca):
    """Serial number, subject, dates and key are the journal's to check by the digest; all else is seen by the lint."""
    authority = await opened(ca)
    good = draft(authority)
    before = x509.load_der_x509_certificate(await authority.issue(good))
    passed = []
    for position in range(len(good.tbs)):
        bad = bytearray(good.tbs)
        bad[position] ^= 0x01
        with suppress(LintError):
            passed.append(authority.redraft(IDEVID, bytes(bad))._certificate)
    assert len(passed) < len(good.tbs) / 2
    assert {certificate.issuer for certificate in passed} == {before.issuer}
    fixed = (x509.AuthorityKeyIdentifier, x509.KeyUsage)
    for kind in fixed:
        wanted = before.extensions.get_extension_for_class(kind)
        assert all(certificate.extensions.get_extension_for_class(kind) == wanted for certificate in passed)


@pytest.mark.parametrize("tbs", [b"", b"\x30\x00", b"x" * 300])
async def test_journal_that_holds_garbage_is_refused(ca, tbs):
    authority = await opened(ca)
    with pytest.raises(LintError) as caught:
        authority.redraft(IDEVID, tbs)
    assert caught.value.code == "der.malformed"


async def test_journal_of_another_ca_is_refused(ca, tmp_path):
    ours = draft(await opened(ca)).tbs
    key = ec.generate_private_key(ec.SECP256R1())
    other = replace_issuer(ours, key)
    with pytest.raises(LintError) as caught:
        (await opened(ca)).redraft(IDEVID, other)
    assert caught.value.code == "aki.mismatch"


def replace_issuer(tbs, key):
    old = der.split_signed(der.join_signed(tbs, b"\x30\x00", b"x")).tbs
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    position = old.index(bytes.fromhex("0603551d23041830168014")) + 11
    return old[:position] + ski + old[position + 20 :]


async def test_eight_tasks_issue_at_once(ca):
    authority = await opened(ca)

    async def issue_many():
        return [await authority.issue(draft(authority)) for _ in range(10)]

    issued = [leaf for leaves in await asyncio.gather(*[issue_many() for _ in range(8)]) for leaf in leaves]
    assert len({x509.load_der_x509_certificate(leaf).serial_number for leaf in issued}) == 80


async def test_threads_draft_at_once(ca):
    authority = await opened(ca)
    with ThreadPoolExecutor(4) as pool:
        drafts = await asyncio.to_thread(lambda: list(pool.map(lambda _: draft(authority), range(100))))
    leaves = await asyncio.gather(*[authority.issue(linted) for linted in drafts])
    assert len(set(leaves)) == 100


async def test_blocking_issue_is_the_same(ca):
    authority = await opened(ca)
    leaf = await asyncio.to_thread(authority.issue_blocking, draft(authority))
    x509.load_der_x509_certificate(leaf).verify_directly_issued_by(ca.issuer)


async def test_issue_after_close_is_refused(made_ca):
    signer = open_signer(made_ca.softhsm, INTERMEDIATE_TOKEN)
    authority = await opened(made_ca, signer)
    linted = draft(authority)
    signer.close()
    with pytest.raises(SignerError):
        await authority.issue(linted)


async def test_close_while_issuing_ends_every_task(made_ca):
    signer = open_signer(made_ca.softhsm, INTERMEDIATE_TOKEN)
    authority = await opened(made_ca, signer)
    busy = threading.Event()

    async def issue_until_closed():
        issued = []
        try:
            while True:
                issued.append(await authority.issue(draft(authority)))
                busy.set()
        except SignerError:
            return issued

    tasks = [asyncio.ensure_future(issue_until_closed()) for _ in range(8)]
    await asyncio.to_thread(busy.wait, 30)
    await asyncio.to_thread(signer.close)
    for leaf in (leaf for leaves in await asyncio.gather(*tasks) for leaf in leaves):
        x509.load_der_x509_certificate(leaf).verify_directly_issued_by(made_ca.issuer)


# -- what the token does wrong


@pytest.fixture
def watched_signer(made_ca, watched, monkeypatch):
    """A signer whose token does what WATCHED_HARM says, from the moment it is set."""
    uri = replace(TokenUri.parse(made_ca.softhsm.uri(INTERMEDIATE_TOKEN)), module_path=watched["WATCHED_SO"])
    with Signer.open(uri, environment={**made_ca.softhsm.environment, **watched}) as signer:
        yield signer, lambda harm: monkeypatch.setenv("WATCHED_HARM", harm)


async def test_signature_that_does_not_verify_never_leaves(made_ca, watched_signer):
    signer, harm = watched_signer
    authority = await opened(made_ca, signer)
    linted = draft(authority)
    harm("signature")
    with pytest.raises(IssuanceError, match="does not verify") as caught:
        await authority.issue(linted)
    assert caught.value.code == "issuance.signature_invalid"


async def test_token_that_signs_wrongly_is_found_at_the_start(made_ca, watched_signer):
    signer, harm = watched_signer
    harm("signature")
    with pytest.raises(IssuanceError) as caught:
        await opened(made_ca, signer)
    assert caught.value.code == "issuer.key_mismatch"


async def test_lost_session_may_be_tried_again_with_the_same_bytes(made_ca, watched_signer):
    signer, harm = watched_signer
    authority = await opened(made_ca, signer)
    linted = draft(authority)
    harm("session")
    with pytest.raises(TokenError, match="SessionHandleInvalid") as caught:
        await authority.issue(linted)
    assert caught.value.recovery in {Recovery.RELOAD, Recovery.TOKEN_GONE}
    assert authority.redraft(IDEVID, linted.tbs).tbs == linted.tbs


# -- what does not fit


async def test_certificate_of_another_key_is_refused(ca):
    with pytest.raises(KeyMissing, match="does not hold the private key of the issuer's certificate"):
        await Authority.open(ca.signer, issuer=ca.root)


def self_signed(*extensions):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now(), now() + dt.timedelta(days=1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256())


async def test_certificate_that_is_no_cas_is_refused(ca):
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    ski = x509.SubjectKeyIdentifier(b"x" * 20)
    for issuer in (self_signed(), self_signed(x509.BasicConstraints(False, None), usage, ski)):
        with pytest.raises(IssuanceError) as caught:
            await Authority.open(ca.signer, issuer=issuer)
        assert caught.value.code == "issuer.not_ca"


async def test_chain_that_does_not_lead_upwards_is_refused(ca):
    with pytest.raises(IssuanceError, match="was not issued by") as caught:
        await Authority.open(ca.signer, issuer=ca.issuer, chain=[ca.issuer])
    assert caught.value.code == "issuer.chain"


async def test_clock_before_the_issuer_is_refused(ca):
    authority = await opened(ca)
    with pytest.raises(IssuanceError, match="check the clock") as caught:
        draft(authority, now=dt.datetime(2001, 1, 1, tzinfo=dt.UTC))
    assert caught.value.code == "issuance.issuer_not_valid"


async def test_clock_without_time_zone_is_a_programming_error(ca):
    authority = await opened(ca)
    with pytest.raises(ValueError, match="time zone"):
        draft(authority, now=dt.datetime(2026, 12, 1))  # noqa: DTZ001 - that is the point


async def test_missing_field_is_named(ca):
    authority = await opened(ca)
    with pytest.raises(FieldError, match="'hardware_id'"):
        draft(authority, fields={"model": "m", "product_serial": "1"})


async def test_serial_number_out_of_range_is_refused(ca):
    authority = await opened(ca)
    for serial in (0, -1, 1 << 160):
        with pytest.raises(LintError) as caught:
            draft(authority, serial=serial)
        assert caught.value.code == "serial.range"


async def test_findings_are_listed(ca):
    authority = await opened(ca)
    small = replace(IDEVID, max_size=300, keys=frozenset())
    with pytest.raises(LintError, match=r"key.not_allowed: .*size.too_large: ") as caught:
        draft(authority, small)
    assert caught.value.facts["codes"] == "key.not_allowed, size.too_large"


def test_serial_number_begins_with_the_station():
    serials = {new_serial(17) for _ in range(100)}
    assert len(serials) == 100
    assert {serial.to_bytes(16)[0] for serial in serials} == {17}


@pytest.mark.parametrize("station", [0, 128, -1])
def test_station_number_that_fits_no_octet_is_refused(station):
    with pytest.raises(ValueError, match="1 to 127"):
        new_serial(station)


async def test_authority_holds_few_profiles(ca):
    authority = await opened(ca)
    for _ in range(100):
        draft(authority, replace(IDEVID))
    assert len(authority._drafter._blueprints) <= 64
