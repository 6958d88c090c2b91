"""A ledger key in a real token, and a manifest with a row of everything, sealed."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from firmware_tools.version import Version
from hsm import KeyKind, Signer, TokenUri
from hsm.key_store import generate_key
from hsm.keys import AnyTokenKey
from softhsm import make_tokens
from station.ledger.anchor import Anchors
from station.ledger.ledger import Ledger
from station.ledger.note import VerifierKey
from station.manifest import FirmwareRelease, LifeRequest, Manifest, ManifestReader, OrderSeal, handing
from station.manifest.life import Act
from station.manifest.order_operations import suspend_orders
from station.manifest.schema import MANIFEST
from station.manifest.testing import ORDER, SoftBoard, begin, issue, provision, reserve

SEAL = OrderSeal("ab" * 16, '{"payload":"x"}', b"p" * 32, 7, "2020-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z")
SIGNED = replace(
    ORDER, name="signed", serial_format="M{number:06d}", mac_first="02:00:00:00:00:01", scrap_allowance=3, seal=SEAL
)

WAITING = replace(
    SIGNED,
    name="waiting",
    serial_format="W{number:06d}",
    mac_first="02:00:00:00:10:01",
    seal=replace(SEAL, uid=SEAL.uid[::-1], payload_sha256=b"w" * 32),
)


@dataclass(frozen=True)
class Token:
    """A token with a ledger key of each kind."""

    signer: Signer
    keys: dict[KeyKind, AnyTokenKey]

    @property
    def key(self) -> AnyTokenKey:
        return self.keys[KeyKind.ED25519]


@pytest.fixture(scope="module")  # one process has one SoftHSM folder open at a time: other tests have theirs
def token(tmp_path_factory) -> Iterator[Token]:
    softhsm = make_tokens(tmp_path_factory.mktemp("ledger-token"), ["line"])
    uri = TokenUri.parse(softhsm.uri("line"))
    with Signer.open(uri, environment=softhsm.environment, writable=True) as signer:
        yield Token(signer, {kind: generate_key(signer, kind, kind.value) for kind in (KeyKind.ED25519, KeyKind.P256)})


@pytest.fixture
def ledger_of(token) -> Callable[[Manifest], Ledger]:
    """Open the ledger of a manifest."""
    return lambda manifest, key=None: Ledger(
        manifest, key or token.key, Anchors(manifest.path, manifest.identity, token.signer)
    )


async def fill(manifest: Manifest) -> None:
    """Write a row of everything that a manifest can hold."""
    await manifest.open_order(ORDER)
    await manifest.open_order(SIGNED)
    await reserve(manifest, SoftBoard("intended"), await begin(manifest, "intended"))
    retried = await begin(manifest, "retried")
    intent = await reserve(manifest, SoftBoard("retried"), retried)
    await manifest.attempt(intent.issuance_id)
    await issue(manifest, SoftBoard("recorded"))
    await provision(manifest, "passed", order="signed")
    await begin(manifest, "open")
    for _ in range(2):
        await manifest.failed((await begin(manifest, "failed")).id, "link.no_answer", "silent", "key")
    await manifest.void((await issue(manifest, SoftBoard("voided"))).issuance_id, "board was erased")
    for name in ("scrapped", "reworked", "returned", "released", "replaced", "substitute"):
        await provision(manifest, name, order="signed")
    for act, name in (
        (Act.SCRAP, "scrapped"),
        (Act.REWORK, "reworked"),
        (Act.RMA, "returned"),
        (Act.RMA, "released"),
        (Act.RELEASE, "released"),
    ):
        await manifest.act(LifeRequest(act, name, "it had to be", "R. Vogel", "root"))
    await manifest.act(LifeRequest(Act.REPLACE, "replaced", "it had to be", "R. Vogel", "root", "substitute"))
    await provision(manifest, "reworked", order="signed")
    manifest.take_desk_serial(SIGNED, b"k" * 32)
    manifest.refuse_desk_request(b"k" * 32, "lint.subject", "its name is too long")
    await manifest.open_order(WAITING)
    await manifest.perform(partial(suspend_orders, reason="an older copy was accepted"))
    await manifest.resume_order("signed", burned=3, reason="ticket 88", actor="R. Vogel", os_user="root")
    await manifest.close_order(ORDER.name, "all are made")
    await manifest.take_up(FirmwareRelease("sensor", Version.parse("1.2.0"), b"b" * 32))
    await manifest.take_up(FirmwareRelease("sensor", Version.parse("1.1.9"), b"c" * 32), "1.2.0 lost its radio")
    manifest.event(None, "1", "open", "note", {"what": "the port was opened"})
    await manifest.answer()
    hand_out(manifest)


def hand_out(manifest: Manifest) -> None:
    """Write two exports that were handed out, one that was only begun, receipts, and a list."""
    with ManifestReader(manifest.path) as reader:
        sql = "SELECT unit_id, id FROM issuance WHERE certificate IS NOT NULL AND state <> 'void' ORDER BY unit_id"
        units = list(reader.rows(sql))
    digest = sha256(b"".join(b"%d %d\n" % unit for unit in units)).digest()
    about = {"target": "csv", "naming": "{hardware_id}", "units": len(units), "digest": digest}
    for recipient in ("cloud", "customer", "nobody"):
        number = manifest.perform_blocking(partial(handing.begin, recipient=recipient, **about))
        if recipient != "nobody":
            manifest.perform_blocking(partial(handing.add, export_id=number, first=1, members=units))
            manifest.perform_blocking(partial(handing.hand_out, export_id=number, statement=f'{{"to":"{recipient}"}}'))
            verdicts = [
                handing.Verdict(handing.Member(place, *unit, "", ""), outcome, "exists already")
                for (place, unit), outcome in zip(enumerate(units, 1), handing.Outcome, strict=False)
            ]
            manifest.perform_blocking(partial(handing.receive, export_id=number, verdicts=verdicts, source=b"s" * 32))
    rows = [handing.ListRow(f"L{n}", f"02:00:00:00:01:{n:02x}", f"{350457790000000 + n}") for n in range(5)]
    manifest.perform_blocking(partial(handing.add_list, name="roll 1", rows=rows, source=b"f" * 32))


@dataclass(frozen=True)
class Sealed:
    """A manifest that is closed and sealed."""

    path: Path
    key: VerifierKey


@pytest.fixture(scope="module")
def _sealed(tmp_path_factory, token) -> Sealed:
    return asyncio.run(_seal(tmp_path_factory.mktemp("sealed") / "manifest.db", token))


async def _seal(path: Path, token: Token) -> Sealed:
    with closing(Manifest.open(path)) as manifest:
        ledger = Ledger(manifest, token.key, Anchors(path, manifest.identity, token.signer))
        await fill(manifest)
        ledger.seal("first")
        for number in range(300):  # more than a tile
            manifest.event(None, "1", "open", "note", {"number": number})
        await manifest.answer()
        ledger.seal("second")
        await provision(manifest, "late", order="signed")
        ledger.seal("third")
        return Sealed(path, ledger.key())


@pytest.fixture
def sealed(_sealed, tmp_path) -> Sealed:
    """A copy that a test may spoil."""
    shutil.copy(_sealed.path, tmp_path / "copy.db")
    return Sealed(tmp_path / "copy.db", _sealed.key)


@pytest.fixture
def schema_1(tmp_path) -> Path:
    """A manifest that the version with schema 1 wrote, with units in all states; kept as ``sqlite3 .dump`` gives it."""
    path = tmp_path / "schema-1.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(Path(__file__).with_name("schema_1_units.sql").read_text("utf-8"))
        connection.execute("PRAGMA user_version = 1")
        connection.execute(f"PRAGMA application_id = {MANIFEST.application_id}")
    return path
