"""A folder of requests: each has its end, a crash loses nothing, nothing is signed twice."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from pkcs11.exceptions import MechanismInvalid

from hsm import Authority, Csr, Profile, TokenError, der
from hsm.batch import CHUNK, CHUNK_FIRST, CHUNK_LEAST, JUDGED_SECONDS, Batch, End, request_files
from hsm.certificate_files import Form
from hsm.issuing import Desk
from hsm.journal import CaJournal, JournalReader, JournalUnwritable
from hsm.testing import make_csr

FIELDS = {"product_serial": "SN1"}


@pytest.fixture
async def desk(ca, tmp_path):
    authority = await Authority.open(ca.signer, issuer=ca.issuer, chain=[ca.root])
    with CaJournal.open(tmp_path / "ca.db") as journal:
        yield Desk(authority, journal, Profile.load("tls-client"), 1, FIELDS, batch="b")


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "requests"
    made.mkdir()
    (tmp_path / "out").mkdir()
    return made


def fill(folder, count, *, first=0):
    for number in range(first, first + count):
        (folder / f"unit-{number}.csr").write_bytes(make_csr(common_name=f"unit-{number}"))


async def sign(desk, folder, *, out="out", **options):
    outcomes = []
    await Batch(desk, folder.parent / out, tell=outcomes.append, **options).sign(request_files(folder))
    return outcomes


def ends(outcomes):
    return Counter(outcome.end for outcome in outcomes)


async def test_each_request_has_a_row_and_a_file(desk, folder, ca):
    fill(folder, CHUNK + 3)
    outcomes = await sign(desk, folder)
    assert ends(outcomes) == {End.SIGNED: CHUNK + 3}
    with JournalReader(desk.journal.path) as reader:
        rows = {row.request: row for row in reader.by_batch("b")}
    assert len(rows) == CHUNK + 3
    for outcome in outcomes:
        (certificate,) = x509.load_pem_x509_certificates(
            (folder.parent / "out" / f"{outcome.request}.pem").read_bytes()
        )
        certificate.verify_directly_issued_by(ca.issuer)
        request = x509.load_der_x509_csr((folder / f"{outcome.request}.csr").read_bytes())
        assert certificate.public_key() == request.public_key()
        assert certificate.public_bytes(Encoding.DER) == rows[outcome.request].certificate
        assert certificate.serial_number == outcome.serial


async def test_commits_are_shared(desk, folder):
    fill(folder, 2 * CHUNK)
    before = desk.journal.commits
    await sign(desk, folder)
    assert desk.journal.commits - before <= 32


def test_chunks_are_as_large_as_the_token_is_fast(desk, folder):
    batch = Batch(desk, folder)
    for _ in range(20):
        batch._adapt(0.01, 0.01)
    assert batch._chunk == CHUNK
    for _ in range(20):
        batch._adapt(10, 10)
    assert batch._chunk == CHUNK_LEAST
    batch._adapt(0.5, 0.5)
    assert batch._chunk == CHUNK_LEAST


async def test_on_one_core_nothing_is_prepared_while_a_token_of_this_process_signs(desk, folder, monkeypatch):
    monkeypatch.setattr("hsm.batch._cores", lambda: 1)
    fill(folder, 4 * CHUNK_FIRST)
    batch = Batch(desk, folder.parent / "out")
    issue_all, prepared = desk.authority.issue_all, batch._prepared
    signing, prepared_meanwhile = [], []

    async def watched_issue_all(*arguments, **options):
        signing.append(True)
        await asyncio.sleep(0)
        try:
            return await issue_all(*arguments, **options)
        finally:
            signing.pop()

    def watched_prepared(paths):
        prepared_meanwhile.extend(bool(signing) for _ in paths)
        return prepared(paths)

    monkeypatch.setattr(desk.authority, "issue_all", watched_issue_all)
    monkeypatch.setattr(batch, "_prepared", watched_prepared)
    await batch.sign(request_files(folder))
    assert prepared_meanwhile == [False] * 4 * CHUNK_FIRST


def test_requests_are_prepared_beside_a_token_that_computes_elsewhere(desk, folder, monkeypatch):
    monkeypatch.setattr("hsm.batch._cores", lambda: 2)
    assert isinstance(Batch(desk, folder)._turns, nullcontext)
    monkeypatch.setattr("hsm.batch._cores", lambda: 1)
    batch = Batch(desk, folder)
    for seconds, worked in ((JUDGED_SECONDS, 0), (1, 0.9)):
        batch._adapt(seconds, worked)
        assert not isinstance(batch._turns, nullcontext)
    batch._adapt(1, 0.1)
    assert isinstance(batch._turns, nullcontext)


async def test_second_run_signs_nothing_and_writes_what_is_missing(desk, folder):
    fill(folder, 5)
    await sign(desk, folder)
    (folder.parent / "out" / "unit-1.pem").unlink()
    fill(folder, 1, first=5)
    outcomes = await sign(desk, folder)
    assert ends(outcomes) == {End.DONE_BEFORE: 5, End.SIGNED: 1}
    assert len(list((folder.parent / "out").iterdir())) == 6
    with JournalReader(desk.journal.path) as reader:
        assert reader.signatures() == {"certificate": 6}


async def test_refused_request_does_not_stop_the_others(desk, folder):
    fill(folder, 3)
    key = ec.generate_private_key(ec.SECP256R1())
    ca_wish = x509.BasicConstraints(ca=True, path_length=None)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    wish = builder.add_extension(ca_wish, critical=True).sign(key, hashes.SHA256())
    good = make_csr()
    bad = {
        "garbage": (b"-----BEGIN CERTIFICATE REQUEST-----\n????\n-----END CERTIFICATE REQUEST-----\n", "csr.malformed"),
        "empty": (b"", "csr.malformed"),
        "large": (b"\x30" * 10_000_000, "csr.too_large"),
        "signature": (good[:-4] + bytes(4), "csr.signature_invalid"),
        "wish": (wish.public_bytes(Encoding.DER), "csr.asks_for_ca"),
        "sha1": (good.replace(bytes.fromhex("2a8648ce3d040302"), bytes.fromhex("2a8648ce3d040301")), "csr."),
    }
    for name, (content, _) in bad.items():
        (folder / f"{name}.csr").write_bytes(content)
    outcomes = await sign(desk, folder)
    assert ends(outcomes) == {End.SIGNED: 3, End.REFUSED: len(bad)}
    for outcome in outcomes:
        if outcome.end is End.REFUSED:
            assert outcome.code.startswith(bad[outcome.request][1]), outcome
            assert "\n" not in outcome.sentence


async def test_key_that_comes_twice_gets_one_certificate(desk, folder):
    content = make_csr()
    for name in ("a", "b"):
        (folder / f"{name}.csr").write_bytes(content)
    outcomes = await sign(desk, folder)
    assert ends(outcomes) == {End.SIGNED: 1, End.REFUSED: 1}
    assert {outcome.code for outcome in outcomes} <= {"", "journal.key_certified", "journal.issuance_open"}


async def test_two_files_of_one_name_get_one_certificate(desk, folder):
    for end in ("csr", "der"):
        (folder / f"a.{end}").write_bytes(make_csr())
    outcomes = await sign(desk, folder)
    assert {outcome.code for outcome in outcomes} == {"", "journal.request_signed"}


async def test_request_with_another_key_under_a_name_that_is_signed_is_refused(desk, folder):
    fill(folder, 1)
    await sign(desk, folder)
    fill(folder, 1)
    (outcome,) = await sign(desk, folder)
    assert outcome.code == "batch.request_differs"


async def test_intents_of_a_run_that_died_are_signed_as_they_were(desk, folder):
    fill(folder, 3)
    csr = Csr.parse((folder / "unit-1.csr").read_bytes())
    intent = desk.journal.reserve_blocking(desk.prepare(csr, request="unit-1")[1])
    outcomes = {outcome.request: outcome for outcome in await sign(desk, folder)}
    assert outcomes["unit-1"].serial == intent.serial
    with JournalReader(desk.journal.path) as reader:
        assert reader.by_serial(intent.serial).tries == 2
        assert not list(reader.open_intents())


async def test_what_a_chunk_has_signed_is_recorded_though_the_token_fails_in_it(desk, folder, ca):
    fill(folder, 5)
    anchor = ca.signer._worker.anchor
    real, asked = anchor.port.sign, []

    def fails_at_the_third(found, request):
        asked.append(request)
        if len(asked) == 3:
            raise MechanismInvalid
        return real(found, request)

    anchor.port.sign = fails_at_the_third
    told = []
    with pytest.raises(TokenError):
        await Batch(desk, folder.parent / "out", tell=told.append).sign(request_files(folder))
    assert ends(told) == {End.SIGNED: 2}
    assert len(list((folder.parent / "out").iterdir())) == 2
    anchor.port.sign = real
    assert ends(await sign(desk, folder)) == {End.DONE_BEFORE: 2, End.SIGNED: 3}
    with JournalReader(desk.journal.path) as reader:
        assert reader.signatures() == {"certificate": 8}  # three of them were intended twice


async def test_fields_of_single_requests_are_used(desk, folder):
    fill(folder, 2)
    await sign(desk, folder, fields={"unit-1": {"product_serial": "SN9"}})
    with JournalReader(desk.journal.path) as reader:
        assert {row.request: row.subject for row in reader.by_batch("b")} == {"unit-0": "CN=SN1", "unit-1": "CN=SN9"}


async def test_renewal_gives_each_key_another_certificate_once(desk, folder):
    fill(folder, 2)
    await sign(desk, folder)
    renewing = replace(desk, batch="next", renew=True)
    (folder.parent / "renewed").mkdir()
    assert ends(await sign(renewing, folder, out="renewed")) == {End.SIGNED: 2}
    assert ends(await sign(renewing, folder, out="renewed")) == {End.DONE_BEFORE: 2}


def signatures(desk):
    with JournalReader(desk.journal.path) as reader:
        return reader.signatures()


@pytest.mark.parametrize("begun", ["", "-----BEGIN"], ids=["empty", "other beginning"])
async def test_foreign_file_is_left_as_it_is_and_nothing_signed_for_it(desk, folder, begun):
    fill(folder, 2)
    foreign = folder.parent / "out" / "unit-0.pem"
    foreign.write_text(f"{begun}a private key")
    outcomes = {one.request: one for one in await sign(desk, folder)}
    assert (outcomes["unit-0"].end, outcomes["unit-0"].code) == (End.REFUSED, "batch.file_in_the_way")
    assert outcomes["unit-1"].end is End.SIGNED
    assert foreign.read_text() == f"{begun}a private key"
    assert signatures(desk) == {"certificate": 1}


@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "fifo", "folder"])
async def test_what_came_into_the_way_meanwhile_is_left_and_a_further_run_writes_the_certificate(desk, folder, kind):
    fill(folder, 1)
    path = folder.parent / "out" / "unit-0.pem"
    await sign(desk, folder)
    content = path.read_bytes()
    path.unlink()
    (folder.parent / "mine").write_text("mine")
    {
        "file": lambda: path.write_text("mine"),
        "link": lambda: path.symlink_to(folder.parent / "mine"),
        "dangling link": lambda: path.symlink_to(folder.parent / "nowhere"),
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }[kind]()
    (outcome,) = await sign(desk, folder)
    assert (outcome.end, outcome.code) == (End.REFUSED, "batch.file_in_the_way")
    assert "on record" in outcome.sentence
    assert (folder.parent / "mine").read_text() == "mine"
    assert not (folder.parent / "nowhere").exists()
    path.rename(folder.parent / "away")
    assert ends(await sign(desk, folder)) == {End.DONE_BEFORE: 1}
    assert path.read_bytes() == content


@pytest.mark.parametrize("form", Form)
async def test_file_that_a_power_cut_left_unfinished_is_finished(desk, folder, form):
    fill(folder, 3)
    await sign(desk, folder, form=form)
    paths = sorted((folder.parent / "out").iterdir())
    content = [path.read_bytes() for path in paths]
    for path, length in zip(paths, (0, 100, None), strict=True):
        path.write_bytes(path.read_bytes()[:length])
    assert ends(await sign(desk, folder, form=form)) == {End.DONE_BEFORE: 3}
    assert [path.read_bytes() for path in paths] == content


async def test_what_is_on_record_for_another_profile_is_not_done_before(desk, folder):
    fill(folder, 1)
    await sign(desk, folder)
    other = replace(desk, profile=Profile.load("code-signing"), fields={"name": "x"})
    (outcome,) = await sign(other, folder)
    assert outcome.code == "batch.request_differs"


async def test_intent_of_a_run_with_other_fields_is_not_finished(desk, folder):
    fill(folder, 1)
    csr = Csr.parse((folder / "unit-0.csr").read_bytes())
    desk.journal.reserve_blocking(desk.prepare(csr, request="unit-0", fields={"product_serial": "SN9"})[1])
    (outcome,) = await sign(desk, folder)
    assert outcome.code == "issuance.other_intent"
    assert signatures(desk) == {"certificate": 1}


@pytest.mark.parametrize("name", ["\udcff", "a\nrefused b", "\x1b[2J", "\u202e"], ids=ascii)
async def test_name_that_can_not_be_printed_is_refused_alone(desk, folder, name):
    fill(folder, 1)
    (folder / f"{name}.csr").write_bytes(make_csr())
    outcomes = {one.request: one for one in await sign(desk, folder)}
    assert outcomes[name].code == "batch.request_name"
    assert outcomes["unit-0"].end is End.SIGNED


async def test_what_is_no_file_is_refused_and_not_waited_for(desk, folder):
    fill(folder, 1)
    os.mkfifo(folder / "fifo.csr")
    (folder / "folder.csr").mkdir()
    (folder / "null.csr").symlink_to("/dev/null")
    outcomes = {one.request: one for one in await sign(desk, folder)}
    assert {outcomes[name].code for name in ("fifo", "folder", "null")} == {"csr.unreadable"}
    assert outcomes["unit-0"].end is End.SIGNED


async def test_names_that_nobody_can_read_are_refused_alone(desk, folder):
    fill(folder, 1)
    (folder / "x400.csr").write_bytes(csr_with_names(der.encode(0xA3, der.encode(der.SEQUENCE, b""))))
    outcomes = {one.request: one for one in await sign(desk, folder)}
    assert outcomes["x400"].code == "csr.malformed"
    assert outcomes["unit-0"].end is End.SIGNED


def csr_with_names(*names):
    """Return a request whose SubjectAltName holds names in DER, as pyca would not write them."""
    value = der.encode(der.SEQUENCE, b"".join(names))
    unknown = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, value)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(unknown, False)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.DER)


async def test_form_decides_the_files(desk, folder):
    fill(folder, 1)
    await sign(desk, folder, form=Form.P7B)
    assert [path.name for path in (folder.parent / "out").iterdir()] == ["unit-0.p7b"]


async def test_full_disk_ends_the_batch_and_space_lets_it_go_on(desk, folder):
    fill(folder, 4 * CHUNK)
    connection = desk.journal._db.conn
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 20}")
    told = []
    with pytest.raises(JournalUnwritable) as caught:
        await Batch(desk, folder.parent / "out", tell=told.append).sign(request_files(folder))
    assert caught.value.code == "journal.disk_full"
    connection.execute("PRAGMA max_page_count = 1000000")
    outcomes = await sign(desk, folder)
    assert ends(outcomes)[End.DONE_BEFORE] >= len(told)
    assert not [one for one in outcomes if one.end is End.REFUSED]
    assert len(outcomes) == 4 * CHUNK
    with JournalReader(desk.journal.path) as reader:
        assert sum(1 for row in reader.by_batch("b") if row.certificate) == 4 * CHUNK


async def test_memory_stays_flat(desk, folder):
    content = [make_csr() for _ in range(2)]

    class Endless:
        """A million names that are not in memory."""

        def __init__(self, count):
            self.count = count

        def __iter__(self):
            return (f"{folder}/x{number % 2}.csr" for number in range(self.count))

    for number, one in enumerate(content):
        (folder / f"x{number}.csr").write_bytes(one)
    await Batch(desk, folder.parent / "out").sign(Endless(200))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await Batch(desk, folder.parent / "out").sign(Endless(5000))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024  # KiB


KILLED = """
import asyncio, os, sys
from pathlib import Path
from cryptography import x509
from hsm import Authority, Profile, Signer, TokenUri
from hsm.batch import Batch, request_files
from hsm.issuing import Desk
from hsm.journal import CaJournal

async def main(uri, ca, journal, folder, out):
    load = lambda name: x509.load_pem_x509_certificate(Path(ca, name).read_bytes())
    with CaJournal.open(Path(journal)) as opened, Signer.open(TokenUri.parse(uri)) as signer:
        authority = await Authority.open(signer, issuer=load("intermediate.pem"), chain=[load("root.pem")])
        desk = Desk(authority, opened, Profile.load("tls-client"), 1, {"product_serial": "SN1"}, batch="b")
        await Batch(desk, Path(out), tell=lambda one: print(one.request, f"{one.serial:x}", flush=True)).sign(
            request_files(Path(folder)))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("after", [1, CHUNK, 3 * CHUNK])
def test_kill_9_loses_nothing_and_signs_nothing_twice(made_ca, folder, tmp_path, after):
    fill(folder, 5 * CHUNK)
    journal = tmp_path / "ca.db"
    command = [sys.executable, "-c", KILLED, made_ca.softhsm.uri("intermediate"), made_ca.folder, journal, folder]
    environment = {"PATH": "/usr/bin:/bin", **made_ca.softhsm.environment}
    told = {}
    with subprocess.Popen([*command, tmp_path / "out"], stdout=subprocess.PIPE, text=True, env=environment) as first:
        for line in first.stdout:
            request, serial = line.split()
            told[request] = serial
            if len(told) == after:
                first.send_signal(signal.SIGKILL)
    done = subprocess.run(
        [*command, tmp_path / "out"], check=True, capture_output=True, text=True, env=environment
    ).stdout
    finished = dict(line.split() for line in done.splitlines())
    assert len(finished) == 5 * CHUNK
    assert told.items() <= finished.items()
    with JournalReader(journal) as reader:
        rows = list(reader.by_batch("b"))
        assert not list(reader.open_intents())
    assert len({row.spki_sha256 for row in rows}) == len(rows) == 5 * CHUNK
    for row in rows:
        certificate = x509.load_pem_x509_certificate((tmp_path / "out" / f"{row.request}.pem").read_bytes())
        assert certificate.public_bytes(Encoding.DER) == row.certificate
        assert certificate.tbs_certificate_bytes == row.tbs


async def test_batch_that_is_cancelled_can_go_on(desk, folder):
    fill(folder, 3 * CHUNK)

    def tell(outcome):
        task.cancel()

    task = asyncio.ensure_future(Batch(desk, folder.parent / "out", tell=tell).sign(request_files(folder)))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends(await sign(desk, folder)).total() == 3 * CHUNK
