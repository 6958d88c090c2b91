"""Two tokens with one key, and two CAs under one policy."""

import asyncio
import datetime as dt
import time
from contextlib import contextmanager

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11 import exceptions as p11
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import KeyType

from hsm import (
    Authority,
    Csr,
    IssuanceError,
    Issuer,
    Issuers,
    KeyMissing,
    KeyUnfit,
    PinError,
    Profile,
    Signer,
    SignerError,
    Spread,
    State,
    Timing,
    TokenError,
    TokenGroup,
    TokenUri,
    new_serial,
)
from hsm.algorithms import verify
from hsm.fake_token import FAKE_URI, FakeToken, ManualClock
from hsm.key_rules import BACKED_UP, CURVES
from hsm.key_store import KeyFamily, find
from hsm.request import message_request
from hsm.testing import make_csr, unordered
from softhsm import make_tokens

MESSAGE = b"the same bytes"
NO_END = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
USAGE = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
IDEVID = unordered(Profile.load("idevid"))
FIELDS = {"model": "m", "product_serial": "SN1", "hardware_id": "00", "order": "PO-1"}


class Pair:
    """Two fakes with the same key, and a clock."""

    def __init__(self, spread=Spread.FIRST, keys=None):
        key = ec.generate_private_key(ec.SECP256R1())
        self.clock = ManualClock()
        self.tokens = [
            FakeToken(private=private, label=f"fake-{number}", serial=str(number))
            for number, private in enumerate(keys or (key, key))
        ]
        timing = Timing(clock=self.clock)
        self.signers = [Signer.on(token, FAKE_URI, timing=timing) for token in self.tokens]
        self.group = TokenGroup(self.signers, spread=spread)
        self.again = 0

    @property
    def request(self):
        return message_request(self.tokens[0].name, MESSAGE)

    async def count(self):
        self.again += 1

    async def sign(self):
        signature = await self.group.sign(self.request, again=self.count)
        verify(self.tokens[0].public, signature, MESSAGE, hashes.SHA256())

    @property
    def signed(self):
        return [token.calls["sign"] for token in self.tokens]

    async def until_awake(self):
        await asyncio.gather(*[signer.awake() for signer in self.signers])


@contextmanager
def pair(**options):
    made = Pair(**options)
    with made.group:
        yield made
        for token in made.tokens:
            token.release()


async def test_first_token_signs_while_it_works():
    with pair() as made:
        for _ in range(5):
            await made.sign()
        assert made.signed == [5, 0]


async def test_second_token_goes_on_where_the_first_fails():
    with pair() as made:
        made.tokens[0].from_("sign", 3, p11.DeviceRemoved())
        again = []

        async def count(place):
            again.append(place)

        requests = [message_request(made.tokens[0].name, b"%d" % number) for number in range(5)]
        for number, signature in enumerate(await made.group.sign_all(requests, again=count)):
            verify(made.tokens[0].public, signature, b"%d" % number, hashes.SHA256())
        assert made.tokens[1].calls["sign"] == 3
        assert again == [2]


async def test_what_was_signed_is_kept_though_no_token_goes_on():
    with pair() as made:
        made.tokens[0].from_("sign", 3, p11.DeviceRemoved())
        made.tokens[1].from_("sign", 2, p11.MechanismInvalid())
        ends = await made.group.sign_all([made.request] * 5)
        assert [isinstance(end, bytes) for end in ends] == [True, True, True, False, False]


async def test_least_busy_counts_signatures_and_not_pieces_of_work():
    with pair(spread=Spread.LEAST_BUSY) as made:
        first, second = made.tokens
        for token in made.tokens:
            token.at("sign", 1, token.hang)
        many = asyncio.ensure_future(made.group.sign_all([made.request] * 5))
        await asyncio.to_thread(first.hangs)
        few = [asyncio.ensure_future(made.sign()) for _ in range(3)]
        await asyncio.to_thread(second.hangs)
        first.release()
        second.release()
        await asyncio.gather(many, *few)
        assert made.signed == [5, 3]


@pytest.mark.parametrize("answer", [p11.DeviceRemoved, p11.SessionHandleInvalid, p11.GeneralError])
async def test_second_token_signs_the_same_bytes_when_the_first_fails(answer):
    with pair() as made:
        made.tokens[0].from_("sign", 1, answer())
        await made.sign()
        assert made.tokens[1].calls["sign"] == 1
        assert made.again == 1


async def test_token_that_is_back_is_used_again():
    with pair() as made:
        made.tokens[0].from_("sign", 1, p11.DeviceRemoved())
        await made.sign()
        await made.sign()
        assert (made.tokens[1].calls["sign"], made.again) == (2, 1)  # nobody asked the first one for the second
        made.tokens[0].mend()
        waiting = asyncio.ensure_future(made.until_awake())
        await asyncio.sleep(0)
        made.clock.advance(30)
        await waiting
        before = made.tokens[1].calls["sign"]
        await made.sign()
        assert made.tokens[1].calls["sign"] == before


async def test_hung_token_is_passed_over():
    with pair() as made:
        made.tokens[0].at("sign", 1, made.tokens[0].hang)
        waiting = asyncio.ensure_future(made.sign())
        await asyncio.to_thread(made.tokens[0].hangs)
        made.clock.advance(16)
        await waiting
        await made.sign()
        assert made.tokens[1].calls["sign"] == 2
        assert [signer.state for signer in made.signers] == [State.HUNG, State.AWAKE]


async def test_token_with_a_refused_pin_is_passed_over():
    with pair() as made:
        made.tokens[0].at("sign", 1, p11.SessionHandleInvalid())
        made.tokens[0].from_("log_in", 2, p11.PinIncorrect())
        await made.sign()
        with pytest.raises(PinError):
            await made.signers[0].awake()
        await made.sign()
        assert made.group.state is State.AWAKE


async def test_both_tokens_away_is_told_and_either_one_ends_it():
    with pair() as made:
        for token in made.tokens:
            token.from_("sign", 1, p11.DeviceRemoved())
        with pytest.raises(TokenError) as caught:
            await made.sign()
        assert caught.value.code == "token.asleep"
        assert made.group.unavailable.code == "token.asleep"
        waiting = asyncio.ensure_future(made.group.awake())
        await asyncio.sleep(0)
        made.tokens[1].mend()
        made.clock.advance(30)
        await waiting
        await made.sign()


async def test_error_that_no_token_cures_is_raised_at_once():
    with pair() as made:
        made.tokens[0].at("sign", 1, p11.DataLenRange())
        with pytest.raises(TokenError):
            await made.sign()
        assert made.signed == [1, 0]


async def test_token_without_the_key_is_not_asked():
    other = ec.generate_private_key(ec.SECP256R1())
    with pair(keys=(ec.generate_private_key(ec.SECP256R1()), other)) as made:
        key = await find(made.group, other.public_key())
        await key.sign_message(MESSAGE)
        assert made.signed == [0, 1]


async def test_key_that_no_token_holds_is_told():
    with pair() as made, pytest.raises(KeyMissing):
        await find(made.group, ec.generate_private_key(ec.SECP256R1()).public_key())


def test_blocking_signature_fails_over_too():
    with pair() as made:
        made.tokens[0].from_("sign", 1, p11.DeviceRemoved())
        again = []
        signature = made.group.sign_blocking(made.request, again=lambda: again.append(1))
        verify(made.tokens[0].public, signature, MESSAGE, hashes.SHA256())
        assert again == [1]


async def test_closed_group_is_refused():
    with pair() as made:
        pass
    with pytest.raises(SignerError):
        await made.sign()


# -- sharing the work


async def test_least_busy_takes_turns():
    with pair(spread=Spread.LEAST_BUSY) as made:
        for _ in range(10):
            await made.sign()
        assert made.signed == [5, 5]


async def test_two_slow_tokens_are_twice_as_fast():
    """Each takes 20 ms a signature, as a USB token does."""
    took = {}
    for spread in Spread:
        with pair(spread=spread) as made:
            for token in made.tokens:
                token.from_("sign", 1, lambda: time.sleep(0.02))
            begin = time.monotonic()
            await asyncio.gather(*[made.sign() for _ in range(20)])
            took[spread] = time.monotonic() - begin
    assert took[Spread.LEAST_BUSY] < took[Spread.FIRST] * 0.7


# -- several CAs


def issuer_of(token, name):
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder(subject, subject, token.public, 7, dt.datetime.now(dt.UTC) - dt.timedelta(1), NO_END)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(token.public), critical=False)
        .sign(token.private, hashes.SHA256())
    )


@pytest.fixture
async def authorities():
    tokens = [FakeToken(label=f"fake-{number}", serial=str(number)) for number in range(3)]
    clock = ManualClock()
    signers = [Signer.on(token, FAKE_URI, timing=Timing(clock=clock)) for token in tokens]
    yield (
        [
            await Authority.open(signer, issuer=issuer_of(token, f"CA {number}"))
            for number, (signer, token) in enumerate(zip(signers, tokens, strict=True))
        ],
        tokens,
    )
    for signer in signers:
        signer.close()


async def test_issuer_is_chosen_by_profile_and_order(authorities):
    (one, two, three), _ = authorities
    issuers = Issuers(
        [
            Issuer(one, profiles=frozenset({"idevid"}), orders=frozenset({"PO-1"})),
            Issuer(two, profiles=frozenset({"tls-client"})),
            Issuer(three, orders=frozenset({"PO-2"})),
        ]
    )
    assert issuers.choose(profile="idevid", order="PO-1") is one
    assert issuers.choose(profile="tls-client", order="PO-9") is two
    assert issuers.choose(profile="idevid", order="PO-2") is three
    with pytest.raises(IssuanceError) as caught:
        issuers.choose(profile="idevid", order="PO-3")
    assert caught.value.code == "issuance.no_issuer"


async def test_issuers_that_fit_take_turns_and_one_that_sleeps_is_passed_over(authorities):
    (one, two, _), tokens = authorities
    issuers = Issuers([Issuer(one), Issuer(two)])
    assert [issuers.choose(profile="idevid") for _ in range(4)] == [one, two, one, two]
    tokens[0].from_("sign", tokens[0].calls["sign"] + 1, p11.DeviceRemoved())
    with pytest.raises(TokenError):
        await one.key.sign_message(b"x")
    assert [issuers.choose(profile="idevid") for _ in range(3)] == [two, two, two]
    assert issuers.asleep(profile="idevid") is None


async def test_certificate_that_was_begun_stays_with_its_issuer(authorities):
    (one, two, three), _ = authorities
    issuers = Issuers([Issuer(one), Issuer(two)])
    for authority in (one, two):
        draft = authority.draft(
            IDEVID,
            Csr.parse(make_csr()).public_key,
            fields=FIELDS,
            serial=new_serial(1),
            now=dt.datetime.now(dt.UTC),
        )
        assert issuers.of_tbs(draft.tbs) is authority
        assert issuers.of_tbs(await authority.issue(draft)) is authority
    with pytest.raises(IssuanceError) as caught:
        Issuers([Issuer(three)]).of_tbs(draft.tbs)
    assert caught.value.code == "issuance.foreign_issuer"


# -- the same, in real tokens


QUICK = Timing(keepalive=60, reload=0.3, answer=5, heal=10, tick=0.02)


@pytest.fixture
def cloned(tmp_path):
    """Two tokens that hold a copy of one key."""
    softhsm = make_tokens(tmp_path / "hsm", ["line", "spare"])
    key = ec.generate_private_key(ec.SECP256R1())
    point = bytes((4, 65)) + key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    common = {Attribute.KEY_TYPE: KeyType.EC, Attribute.EC_PARAMS: CURVES[KeyFamily.P256], Attribute.ID: b"1"}
    common |= {Attribute.TOKEN: True, Attribute.LABEL: "issuing"}
    private = {
        Attribute.CLASS: ObjectClass.PRIVATE_KEY,
        Attribute.VALUE: key.private_numbers().private_value.to_bytes(32),
    }
    private |= {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True, Attribute.SIGN: True}
    private |= {
        Attribute.DECRYPT: False,
        Attribute.UNWRAP: False,
        Attribute.DERIVE: False,
        Attribute.SIGN_RECOVER: False,
    }
    public = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.EC_POINT: point, Attribute.VERIFY: True}
    for label in ("line", "spare"):
        with Signer.open(TokenUri.parse(softhsm.uri(label)), environment=softhsm.environment, writable=True) as signer:
            signer.call_blocking(lambda session: [session.create_object(common | half) for half in (private, public)])
    return softhsm, key.public_key()


def open_group(softhsm, labels=("line", "spare"), **options):
    uris = [TokenUri.parse(softhsm.uri(label)) for label in labels]
    return TokenGroup.open(uris, environment=softhsm.environment, timing=QUICK, **options)


def folder_of(softhsm, group, number):
    """Return the folder of a token: SoftHSM writes the serial into its object."""
    serial = group.signers[number].token.serial.encode()
    (found,) = [
        path.parent for path in (softhsm.directory / "tokens").glob("*/token.object") if serial in path.read_bytes()
    ]
    return found


async def test_copied_key_is_used_only_if_that_is_said(cloned):
    softhsm, public = cloned
    with open_group(softhsm) as group:
        with pytest.raises(KeyUnfit, match="LOCAL is false"):
            await find(group, public)
        await find(group, public, rules=BACKED_UP)


async def test_spare_token_signs_when_the_folder_of_the_first_is_taken_away(cloned, tmp_path):
    softhsm, public = cloned
    with open_group(softhsm) as group:
        key = await find(group, public, rules=BACKED_UP)
        verify(public, await key.sign_message(MESSAGE), MESSAGE, hashes.SHA256())
        folder = folder_of(softhsm, group, 0)
        folder.rename(tmp_path / "gone")
        for _ in range(20):
            verify(public, await key.sign_message(MESSAGE), MESSAGE, hashes.SHA256())
        assert group.signers[0].state is State.ASLEEP
        assert group.name == "line or spare"
        (tmp_path / "gone").rename(folder)
        async with asyncio.timeout(20):
            while group.signers[0].state is not State.AWAKE:
                try:
                    await group.signers[0].awake()
                except TokenError:
                    continue
        verify(public, await key.sign_message(MESSAGE), MESSAGE, hashes.SHA256())


async def test_group_begins_with_a_token_that_is_absent(cloned, tmp_path):
    softhsm, public = cloned
    with open_group(softhsm) as group:
        folder = folder_of(softhsm, group, 0)
    folder.rename(tmp_path / "gone")
    with open_group(softhsm) as group:
        assert [signer.state for signer in group.signers] == [State.ASLEEP, State.AWAKE]
        key = await find(group, public, rules=BACKED_UP)
        verify(public, await key.sign_message(MESSAGE), MESSAGE, hashes.SHA256())


async def test_group_leaves_out_a_token_whose_pin_is_wrong(cloned):
    softhsm, public = cloned
    softhsm.pin_file("line").write_text("1234-not-it\n")
    with open_group(softhsm) as group:
        (fault,) = group.faults
        assert fault.code == "pin.incorrect"
        key = await find(group, public, rules=BACKED_UP)
        await key.sign_message(MESSAGE)


def test_group_without_any_token_tells_why(cloned):
    softhsm, _ = cloned
    for label in ("line", "spare"):
        softhsm.pin_file(label).write_text("1234-not-it-either\n")
    with pytest.raises(PinError):
        open_group(softhsm)
