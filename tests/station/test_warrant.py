"""The signer's own gate: nothing that needs an order is signed without one that allows it, at the token itself."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from pkcs11 import exceptions as p11

from hsm import Csr, IssuanceError, Profile, Signer, State, Timing, WarrantError, new_serial
from hsm.authority import Authority
from hsm.fake_token import FAKE_URI, FakeToken, ManualClock
from hsm.profile_file import FOLDER
from hsm.testing import make_csr
from station.manifest import Act, LifeRequest, Manifest, OrderDiffers, OrderExhausted, RowRefused
from station.manifest.testing import begin
from station.orders import OrderError, Share
from station.testing.orders import MODEL, book_of, open_signed, order_of

IDEVID = Profile.load("idevid")
STATION = 7
"""Of the station that these tests are."""


NO_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def issuer_of(token):
    """Return a CA's certificate for a fake's key."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test Intermediate")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return (
        x509.CertificateBuilder(name, name, token.public, 7, datetime.now(UTC) - timedelta(1), NO_END)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(token.public), critical=False)
        .sign(token.private, hashes.SHA256())
    )


class Desk:
    """A token, an authority, and a manifest with one order of three units."""

    def __init__(self, token, clock, signer, authority, manifest):
        self.token, self.clock, self.signer, self.authority, self.manifest = token, clock, signer, authority, manifest
        self.now = datetime.now(UTC)
        self.orders = None

    async def open(self, order=None, **terms):
        given = order or order_of(**{"quantity": 3, "station_id": STATION, **terms})
        self.orders = await open_signed(self.manifest, given, station_id=STATION, now=lambda: self.now)
        return self.orders.warrant(given.name)

    def draft(self, serial, profile=IDEVID, hardware_id="H"):
        csr = Csr.parse(make_csr())
        fields = {"product_serial": serial, "hardware_id": hardware_id, "model": MODEL}
        return self.authority.draft(
            profile, csr.public_key, fields=fields, serial=new_serial(STATION), now=datetime.now(UTC)
        )

    async def issue(self, warrant, serial, *, holder="H", product=MODEL, draft=None):
        unit = None if warrant is None else warrant.unit(serial, holder=holder, product=product)
        return await self.authority.issue(draft or self.draft(serial), warrant=unit)

    @property
    def signatures(self):
        return self.token.calls["sign"]


@pytest.fixture
async def desk(tmp_path):
    token, clock = FakeToken(), ManualClock()
    with Signer.on(token, FAKE_URI, timing=Timing(clock=clock)) as signer:
        authority = await Authority.open(signer, issuer=issuer_of(token))
        with Manifest.open(tmp_path / "manifest.db") as manifest:
            yield Desk(token, clock, signer, authority, manifest)
        token.release()


async def refused(desk, *arguments, **more):
    """Return the code that a signature is refused with; the token was not asked."""
    before = desk.signatures
    with pytest.raises(WarrantError) as error:
        await desk.issue(*arguments, **more)
    assert desk.signatures == before
    assert error.value.operator.endswith(".")
    return error.value.code


async def test_an_identity_is_not_signed_without_an_order(desk):
    assert await refused(desk, None, "SN000001") == "warrant.missing"


async def test_a_draft_that_was_refused_for_want_of_an_order_is_still_good_for_one_signature(desk):
    draft, warrant = desk.draft("SN000001"), await desk.open()
    await refused(desk, None, "SN000001", draft=draft)
    await desk.issue(warrant, "SN000001", draft=draft)
    with pytest.raises(IssuanceError):
        await desk.issue(warrant, "SN000001", draft=draft)


async def test_what_needs_no_order_needs_no_warrant(desk):
    assert await desk.issue(None, "SN000001", draft=desk.draft("SN000001", Profile.load("tls-client")))


@pytest.mark.parametrize("profile", ["idevid", "matter-dac"])
def test_identities_of_products_need_an_order(profile):
    assert Profile.load(profile).order.value == "required"


async def test_blocking_callers_meet_the_gate_too(desk):
    draft = desk.draft("SN000001")
    with pytest.raises(WarrantError):
        await asyncio.to_thread(desk.authority.issue_blocking, draft)


async def test_unit_4_of_3_is_refused(desk):
    warrant = await desk.open()
    for number in (1, 2, 3):
        await desk.issue(warrant, f"SN{number:06d}")
    assert await refused(desk, warrant, "SN000004") == "warrant.exhausted"


async def test_a_unit_that_comes_again_is_no_further_unit(desk):
    warrant = await desk.open(quantity=1)
    await desk.issue(warrant, "SN000001")
    await desk.issue(warrant, "SN000001")


async def test_a_serial_is_signed_for_one_board(desk):
    warrant = await desk.open()
    await desk.issue(warrant, "SN000001", holder="A")
    assert await refused(desk, warrant, "SN000001", holder="B") == "warrant.serial_twice"


@pytest.mark.parametrize("serial", ["SN000000", "SN1", "XX000001", "SN0000001"])
async def test_a_serial_of_another_order_is_refused(desk, serial):
    assert await refused(desk, await desk.open(), serial) == "warrant.foreign_serial"


async def test_a_certificate_has_to_name_the_serial_that_it_is_allowed_for(desk):
    assert await refused(desk, await desk.open(), "SN000001", draft=desk.draft("SN000009")) == "warrant.foreign_serial"


async def test_another_product_or_profile_is_refused(desk):
    warrant = await desk.open()
    assert await refused(desk, warrant, "SN000001", product="toaster") == "warrant.product"
    other = replace(IDEVID, name="idevid-2")
    assert await refused(desk, warrant, "SN000001", draft=desk.draft("SN000001", other)) == "warrant.profile"


async def test_a_file_of_the_same_name_that_says_something_else_is_another_profile(desk, tmp_path):
    own = tmp_path / "idevid.toml"
    own.write_text((FOLDER / "idevid.toml").read_text().replace("[subject]", '[subject]\nO = "Somebody Else"'))
    warrant = await desk.open()
    draft = desk.draft("SN000001", Profile.load(own))
    assert await refused(desk, warrant, "SN000001", draft=draft) == "warrant.profile"


async def test_a_serial_that_is_a_part_of_the_certificates_is_not_the_certificates(desk):
    warrant = await desk.open(serial_format="SN{number}", quantity=20)
    assert await refused(desk, warrant, "SN1", draft=desk.draft("SN11")) == "warrant.foreign_serial"


async def test_before_and_after_its_time_nothing_is_signed(desk):
    warrant, today = await desk.open(), desk.now
    desk.now = today + timedelta(days=366)
    assert await refused(desk, warrant, "SN000001") == "warrant.over"
    desk.now = today - timedelta(days=2)
    assert await refused(desk, warrant, "SN000001") == "warrant.not_begun"
    desk.now = today
    assert await desk.issue(warrant, "SN000001")


async def test_a_token_that_sleeps_over_the_end_of_an_order_signs_nothing_when_it_wakes(desk):
    warrant = await desk.open()
    desk.token.at("sign", desk.signatures + 1, p11.SessionHandleInvalid())

    async def time_passes():
        desk.now += timedelta(days=366)

    unit = warrant.unit("SN000001", holder="H", product=MODEL)
    with pytest.raises(WarrantError) as error:
        await desk.authority.issue(desk.draft("SN000001"), again=time_passes, warrant=unit)
    assert error.value.code == "warrant.over"
    assert desk.signer.state is State.AWAKE


async def test_a_refusal_of_the_gate_is_not_counted_as_a_signature(desk):
    warrant = await desk.open(quantity=1)
    await desk.issue(warrant, "SN000001")
    await refused(desk, warrant, "SN000002")


# -- somebody edits the database while the line runs


def shell(manifest, *statements):
    """Do what a database shell can: take the triggers out, and change rows."""
    with closing(sqlite3.connect(manifest.path, isolation_level=None)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in names:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("PRAGMA ignore_check_constraints = 1")
        for statement in statements:
            connection.execute(statement)


async def take(desk, warrant, number, *, checked=True):
    """Bring a board to its certificate; ``checked`` compares the row with the order, as the line does."""
    unit = await begin(desk.manifest, f"H{number}", order="WO-1")
    drafts = []

    def draft(serial):
        drafts.append(desk.draft(serial, hardware_id=f"H{number}"))
        return drafts[-1]

    more = {"order": warrant.terms, "taken": warrant.taken} if checked else {}
    key = number.to_bytes(32)
    intent = await desk.manifest.reserve(unit.id, spki_sha256=key, draft=draft, **more)
    allowed = warrant.unit(intent.product_serial, holder=f"H{number}", product=MODEL)
    return await desk.authority.issue(drafts[-1], warrant=allowed)


async def test_a_greater_quantity_in_the_row_gives_no_unit_more(desk):
    warrant = await desk.open(quantity=2)
    for number in (1, 2):
        await take(desk, warrant, number)
    shell(desk.manifest, "UPDATE production_order SET quantity = 9999")
    with pytest.raises(OrderDiffers) as edited:
        await take(desk, warrant, 3)
    assert edited.value.code == "manifest.order_edited"
    with pytest.raises(WarrantError) as gate:
        await take(desk, warrant, 3, checked=False)
    assert gate.value.code == "warrant.exhausted"


async def test_a_lower_count_in_the_row_gives_no_unit_more(desk):
    warrant = await desk.open(quantity=2)
    for number in (1, 2):
        await take(desk, warrant, number)
    shell(
        desk.manifest,
        "UPDATE unit SET product_serial = 'gone' || id",
        "UPDATE production_order SET reserved = 0",
    )
    with pytest.raises(RowRefused) as edited:
        await take(desk, warrant, 3)
    assert edited.value.code == "manifest.order_count"
    with pytest.raises(WarrantError) as gate:
        await take(desk, warrant, 3, checked=False)
    assert gate.value.code == "warrant.serial_twice"


async def test_budget_is_gone_with_the_last_unit(desk):
    warrant = await desk.open(quantity=1)
    await take(desk, warrant, 1)
    with pytest.raises(OrderExhausted, match="would be number 2 of 1"):
        await take(desk, warrant, 2)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE production_order SET quantity = 9999", "order.edited"),
        ("UPDATE production_order SET product = 'toaster'", "order.edited"),
        ("UPDATE production_order SET first_number = 500", "order.edited"),
        ("UPDATE production_order SET not_after = '2999-01-01T00:00:00.000Z'", "order.edited"),
        ("UPDATE production_order SET station_id = 8", "order.wrong_station"),
        ("UPDATE production_order SET scrap_allowance = 100", "order.edited"),
        ("UPDATE production_order SET uid = 'ffffffffffffffffffffffffffffffff'", "order.edited"),
        ("UPDATE production_order SET jws = replace(jws, 'a', 'b')", None),
        ("UPDATE production_order SET reserved = 0", "order.count"),
        ("UPDATE production_order SET uid = NULL", "order.unsigned"),
    ],
)
async def test_an_edited_row_does_not_start(desk, statement, code):
    warrant = await desk.open()
    await take(desk, warrant, 1)
    shell(desk.manifest, statement)
    with pytest.raises(OrderError) as edited:
        book_of(desk.manifest, station_id=STATION).check_begins("WO-1")
    assert code is None or edited.value.code == code


@pytest.mark.parametrize(
    ("statements", "code"),
    [
        (["DELETE FROM unit", "UPDATE production_order SET reserved = 0"], "order.count"),
        (["UPDATE production_order SET reserved = 0, returned = 1"], "order.count"),
        (["UPDATE production_order SET closed_at = NULL, closed_reason = NULL"], "order.edited"),
        (["UPDATE production_order SET closed_at = '2020-01-01T00:00:00.000Z'"], "order.edited"),
        (["DELETE FROM desk_serial", "UPDATE production_order SET reserved = 1"], "order.count"),
        (["UPDATE unit SET order_id = 2", "UPDATE production_order SET reserved = 2 - id"], "order.count"),
    ],
)
async def test_rows_that_were_edited_together_do_not_start_against_the_journal(desk, statements, code):
    warrant = await desk.open(scrap_allowance=1)
    await take(desk, warrant, 1)
    desk.manifest.take_desk_serial(warrant.terms, bytes(32), taken=warrant.taken)
    assert await desk.manifest.close_order("WO-1", "the rest was cancelled")
    assert book_of(desk.manifest, station_id=STATION).warrant("WO-1")
    shell(desk.manifest, *statements)
    with pytest.raises(OrderError) as edited:
        book_of(desk.manifest, station_id=STATION).warrant("WO-1")
    assert edited.value.code == code


async def test_an_order_under_another_name_does_not_start(desk):
    await desk.open()
    shell(desk.manifest, "UPDATE production_order SET name = 'WO-2'")
    with pytest.raises(OrderError) as edited:
        book_of(desk.manifest, station_id=STATION).warrant("WO-2")
    assert edited.value.code == "order.edited"


async def test_a_scrapped_unit_keeps_its_order_startable(desk):
    warrant = await desk.open(scrap_allowance=1)
    await take(desk, warrant, 1)
    await desk.manifest.act(LifeRequest(Act.SCRAP, "H1", "dropped", "R. Vogel", "line"))
    again = book_of(desk.manifest, station_id=STATION)
    assert again.check_begins("WO-1").taken == 1


# -- closed, not imported, of another station


async def test_a_closed_order_begins_no_unit_and_finishes_those_that_hold_a_serial(desk):
    await desk.open()
    unit = await begin(desk.manifest, "H1", order="WO-1")
    await desk.manifest.reserve(unit.id, spki_sha256=bytes(32), draft=desk.draft)
    assert await desk.manifest.close_order("WO-1", "the rest was cancelled")
    assert not await desk.manifest.close_order("WO-1", "again")
    book = book_of(desk.manifest, station_id=STATION)
    with pytest.raises(OrderError, match=r"was closed at .* \(the rest was cancelled\)"):
        book.check_begins("WO-1")
    assert await desk.issue(book.warrant("WO-1"), "SN000001")
    assert await refused(desk, book.warrant("WO-1"), "SN000002") == "warrant.closed"
    other = await begin(desk.manifest, "H2", order="WO-1")
    with pytest.raises(RowRefused) as closed:
        await desk.manifest.reserve(other.id, spki_sha256=b"2" * 32, draft=desk.draft)
    assert closed.value.code == "manifest.order_closed"


async def test_a_copy_on_another_station_finishes_what_is_begun_and_begins_nothing(desk):
    await desk.open(stations={STATION: Share(2, 1), 8: Share(1, 3)})
    unit = await begin(desk.manifest, "H1", order="WO-1")
    await desk.manifest.reserve(unit.id, spki_sha256=bytes(32), draft=desk.draft)
    warrant = book_of(desk.manifest, station_id=8).check_begins("WO-1")
    assert await desk.issue(warrant, "SN000001")
    assert await refused(desk, warrant, "SN000002") == "warrant.wrong_station"


async def test_an_order_that_was_not_imported_is_named(desk):
    await desk.open()
    with pytest.raises(OrderError, match=r"order 'WO-9' is not in the manifest \(WO-1\)"):
        desk.orders.warrant("WO-9")


async def test_the_window_is_held_when_a_serial_is_taken(desk):
    warrant = await desk.open()
    later = replace(warrant.terms.seal, not_after="2020-01-01T00:00:00.000Z", not_before="2019-01-01T00:00:00.000Z")
    shell(
        desk.manifest,
        "UPDATE production_order SET not_before = '2019-01-01T00:00:00.000Z', not_after = '2020-01-01T00:00:00.000Z'",
    )
    unit = await begin(desk.manifest, "H1", order="WO-1")
    terms = replace(warrant.terms, seal=later)
    with pytest.raises(RowRefused) as over:
        await desk.manifest.reserve(unit.id, spki_sha256=bytes(32), draft=desk.draft, order=terms)
    assert over.value.code == "manifest.order_over"


async def test_scrapped_units_give_budget_back_as_far_as_the_order_says(desk):
    warrant = await desk.open(quantity=1, scrap_allowance=1)
    await desk.issue(warrant, "SN000001")
    warrant.give_back()
    await desk.issue(warrant, "SN000002")
    warrant.give_back()
    assert await refused(desk, warrant, "SN000003") == "warrant.exhausted"


async def test_a_share_that_names_a_key_is_begun_with_that_key_only(desk):
    warrant = await desk.open(stations={STATION: Share(3, 1, 0, b"k" * 32)})
    assert await refused(desk, warrant, "SN000001") == "warrant.wrong_key"
    desk.orders.at_station(frozenset({b"k" * 32}), lambda _: Told([]))
    await desk.issue(warrant, "SN000001")


class Told:
    """Stands where the token's notes of numbers are."""

    def __init__(self, calls):
        self.calls = calls

    def tell(self, index, taken):
        self.calls.append((index, taken))

    def read(self, _most):
        return max((taken for _, taken in self.calls), default=0)


async def test_the_token_is_told_of_a_number_before_it_signs_and_again_asked_for_each_try(desk):
    warrant, calls = await desk.open(), []
    desk.orders.at_station(frozenset(), lambda _: Told(calls))
    ready = [warrant.unit(f"SN00000{number}", holder=f"H{number}", product=MODEL) for number in (1, 2)]
    before = desk.signatures
    for number, unit in enumerate(ready, start=1):
        await desk.authority.issue(desk.draft(f"SN00000{number}", hardware_id=f"H{number}"), warrant=unit)
    assert calls == [(0, 2), (1, 2)]
    assert desk.signatures == before + 2


async def test_a_token_that_can_not_be_told_signs_nothing(desk):
    class Deaf:
        def tell(self, _index, _taken):
            raise WarrantError("two copies", code="warrant.forked", operator="Stop.")

    warrant = await desk.open()
    desk.orders.at_station(frozenset(), lambda _: Deaf())
    assert await refused(desk, warrant, "SN000001") == "warrant.forked"


async def test_an_order_that_does_not_run_is_held_against_its_notes_too(desk):
    await desk.open(name="WO-1", serial_format="A{number}")
    await desk.open(name="WO-2", serial_format="B{number}")
    told = {"WO-1": Told([(1, 2)]), "WO-2": Told([])}
    names = {desk.orders.warrant(name).terms.seal.uid: name for name in told}
    desk.orders.at_station(frozenset(), lambda seal: told[names[seal.uid]])
    desk.orders.warrant("WO-2").check_newest()
    with pytest.raises(OrderError) as older:
        desk.orders.check_newest()
    assert older.value.code == "order.rolled_back"
    assert "order resume WO-1" in str(older.value)
