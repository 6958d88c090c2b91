"""Two tokens hold the line's key and the first fails: each is told of the numbers that it signs for."""

import asyncio
import contextlib
import shutil
import sqlite3
from contextlib import asynccontextmanager, closing

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import KeyType

from hsm import Signer, Timing, TokenUri
from hsm.data_objects import read_marks
from hsm.key_rules import CURVES
from hsm.key_store import KeyFamily
from softhsm import make_tokens
from station.config import load
from station.config.certificates import load_certificate
from station.events import SlotChanged, SlotState
from station.line.daemon import run_line
from station.orders.taken import NAME
from station.signing import open_signer

QUICK = Timing(reload=0.3, tick=0.02)


def certified(old, public, issuer, key, issuer_public):
    """Return a certificate like another one, for another key."""
    made = x509.CertificateBuilder().subject_name(old.subject).issuer_name(issuer).public_key(public)
    made = made.serial_number(old.serial_number)
    made = made.not_valid_before(old.not_valid_before_utc).not_valid_after(old.not_valid_after_utc)
    for extension in old.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectKeyIdentifier):
            value = x509.SubjectKeyIdentifier.from_public_key(public)
        if isinstance(value, x509.AuthorityKeyIdentifier):
            value = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public)
        made = made.add_extension(value, extension.critical)
    return made.sign(key, hashes.SHA256())


def copy_key(softhsm, label, key):
    """Put a key into a token, as a ceremony's copy would be there."""
    point = bytes((4, 65)) + key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    common = {Attribute.KEY_TYPE: KeyType.EC, Attribute.EC_PARAMS: CURVES[KeyFamily.P256], Attribute.ID: b"copied"}
    common |= {Attribute.TOKEN: True, Attribute.LABEL: "copied"}
    private = {
        Attribute.CLASS: ObjectClass.PRIVATE_KEY,
        Attribute.VALUE: key.private_numbers().private_value.to_bytes(32),
        **dict.fromkeys((Attribute.SENSITIVE, Attribute.PRIVATE, Attribute.SIGN), True),
        Attribute.EXTRACTABLE: False,
        **dict.fromkeys((Attribute.DECRYPT, Attribute.UNWRAP, Attribute.DERIVE, Attribute.SIGN_RECOVER), False),
    }
    public = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.EC_POINT: point, Attribute.VERIFY: True}
    with Signer.open(TokenUri.parse(softhsm.uri(label)), environment=softhsm.environment, writable=True) as signer:
        signer.call_blocking(lambda session: [session.create_object(common | half) for half in (private, public)])


@pytest.fixture
def spared(line):
    """The line, with an issuing key that two tokens hold."""
    softhsm = make_tokens(line.folder / "tokens", ["intermediate", "spare"])
    root, issuing = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    for label in softhsm.labels:
        copy_key(softhsm, label, issuing)
    old = load_certificate(line.folder / "ca" / "root.pem")
    made = certified(old, root.public_key(), old.subject, root, root.public_key())
    (line.folder / "ca" / "root.pem").write_bytes(made.public_bytes(Encoding.PEM))
    old = load_certificate(line.folder / "ca" / "intermediate.pem")
    made = certified(old, issuing.public_key(), old.issuer, root, root.public_key())
    (line.folder / "ca" / "intermediate.pem").write_bytes(made.public_bytes(Encoding.PEM))
    text = line.config.read_text()
    more = f'[ca]\ntokens = ["{softhsm.uri("spare")}"]\nbacked_up = true\n'
    line.config.write_text(text.replace("[ca]\n", more, 1))
    return line


@asynccontextmanager
async def running(line, boards):
    """Run the daemon; lets a test wait for boards that passed."""
    line.name_slots([board.port for board in boards])
    passed, more = set(), asyncio.Event()

    def watch(event):
        if isinstance(event, SlotChanged) and event.state is SlotState.PASSED:
            passed.add(event.slot)
        more.set()

    async def until(slots):
        async with asyncio.timeout(40):
            while not passed >= slots:
                more.clear()
                await more.wait()

    task = asyncio.create_task(run_line(load(line.config), watch=watch))
    try:
        yield until
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def put_in(board):
    await asyncio.to_thread(board.plug)
    await asyncio.to_thread(board.power_on)


def known(line):
    """Return how many numbers each token knows to be taken."""
    with closing(sqlite3.connect(line.manifest)) as shell:
        (uid,) = shell.execute("SELECT uid FROM production_order").fetchone()
    with contextlib.chdir(line.folder), closing(open_signer(load(line.config).ca)) as group:
        return [
            max((int(mark.label.rpartition(".")[2]) for mark in read_marks(signer, f"{NAME}{uid}")), default=0)
            for signer in group.signers
        ]


def folder_of(line, label):
    """Return the folder of a token: SoftHSM writes the label into its object."""
    objects = (line.folder / "tokens" / "tokens").glob("*/token.object")
    (found,) = [path.parent for path in objects if label.encode() in path.read_bytes()]
    return found


async def test_a_spare_that_stands_in_is_told_and_the_first_one_is_no_obstacle_when_it_comes_back(
    spared, monkeypatch, tmp_path
):
    monkeypatch.setattr("hsm.signer.Timing", lambda: QUICK)
    first, gone = folder_of(spared, "intermediate"), tmp_path / "gone"
    async with spared.virtual_line() as line:
        boards = line.boards
        for board in boards[1:]:
            await asyncio.to_thread(board.unplug)
        async with running(spared, boards) as until:
            await until({"1"})
            first.rename(gone)
            await put_in(boards[1])
            await until({"2"})
            gone.rename(first)
            await put_in(boards[2])
            await until({"3"})
        newest = tmp_path / "newest.db"
        assert (await asyncio.to_thread(spared.station, "manifest", "backup", str(newest))).returncode == 0
        assert known(spared)[1] >= 2
        assert max(known(spared)) == 3

        first.rename(gone)  # who starts now would not hear what only the first token knows
        refused = await asyncio.to_thread(spared.station, "run", "--once")
        assert refused.returncode == 1
        assert "intermediate is away, and may hold it" in refused.stderr
        gone.rename(first)

        async with running(spared, boards) as until:
            await put_in(boards[3])
            await until({"4"})
    held = await spared.read_boards()
    assert len(set(held.values())) == 4
    assert known(spared)[0] == 4
    shutil.copy(newest, spared.manifest)  # an older copy, and the spare alone would not know
    refused = await asyncio.to_thread(spared.station, "run", "--once")
    assert refused.returncode == 1
    assert "older copy" in refused.stderr or "manifest accept" in refused.stderr
