"""What a signed order is, and what is refused as one."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from station.numbering import CheckScheme
from station.orders import MacRange, OrderError, Share, Trust, jws
from station.orders.payload import read_order, write_order
from station.testing.orders import Approver, order_of, trust_of

ONE, TWO, STRANGER = Approver("one.pem"), Approver("two.pem"), Approver("stranger.pem")


def code(text, trust=None):
    """Return the code that a text is refused with."""
    with pytest.raises(OrderError) as refused:
        (trust or trust_of(ONE)).verified(text)
    assert refused.value.operator.endswith(".")
    return refused.value.code


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_an_order_survives_the_way_through_its_file():
    order = order_of(
        stations={1: Share(300, 10, 5), 2: Share(200, 315, 0)},
        quantity=500,
        first_number=10,
        serial_format="A{number:05d}{check}",
        check=CheckScheme.LUHN,
        mac=MacRange(0x02005E000000, 0x02005E0001F8),
        firmware_version="1.2.0",
        firmware_sha256=bytes(32),
        bundle_sha256=bytes(range(32)),
    )
    signed = trust_of(ONE).verified(ONE.sign(order).text())
    assert signed.order == order
    assert signed.approvers == ("one.pem",)


def test_a_station_gets_the_share_that_is_its_own():
    order = order_of(
        stations={1: Share(300, 1, 5), 2: Share(200, 306)}, quantity=500, mac=MacRange(0x02005E000000, 0x02005E0001F8)
    )
    terms = trust_of(ONE).verified(ONE.sign(order).text()).terms(2)
    assert (terms.quantity, terms.first_number, terms.product_serial(0)) == (200, 306, "SN000306")
    assert terms.mac(0) == "02:00:5e:00:01:31"
    assert terms.seal.station_id == 2


def test_a_station_that_is_not_named_gets_none():
    signed = trust_of(ONE).verified(ONE.sign(order_of(station_id=1)).text())
    with pytest.raises(OrderError, match="is for station 1, and this is station 3") as refused:
        signed.terms(3)
    assert refused.value.code == "order.wrong_station"


# -- signatures


def test_an_order_of_somebody_else_is_refused():
    assert code(STRANGER.sign(order_of()).text()) == "order.signature_invalid"


def test_an_order_that_nobody_signed_is_refused():
    assert code(jws.Jws.of(write_order(order_of())).text()) == "order.signature_invalid"


def test_an_order_that_was_changed_after_it_was_signed_is_refused():
    text = json.loads(ONE.sign(order_of(quantity=5)).text())
    text["payload"] = b64(base64.urlsafe_b64decode(text["payload"] + "==").replace(b'"quantity": 5', b'"quantity": 9'))
    assert code(json.dumps(text)) == "order.signature_invalid"


def test_two_approvals_are_two_different_keys():
    both = trust_of(ONE, TWO, approvals=2)
    once = ONE.sign(order_of())
    assert code(once.text(), both) == "order.approvals"
    assert code(ONE.sign(once).text(), both) == "order.approvals"
    assert code(STRANGER.sign(once).text(), both) == "order.approvals"
    assert both.verified(TWO.sign(once).text()).approvers == ("one.pem", "two.pem")


def test_one_key_under_two_names_is_one_approver():
    with pytest.raises(OrderError, match="names 1 different key, and approvals = 2"):
        Trust.of([("a.pem", ONE.public), ("b.pem", ONE.public)], 2)


def test_a_signature_that_claims_a_trusted_key_and_is_not_of_it_is_refused_beside_a_good_one():
    order = ONE.sign(order_of())
    forged = order.signed(jws.protected_header(jws_kid(TWO)), _foreign_signature())
    assert code(forged.text(), trust_of(ONE, TWO)) == "order.signature_invalid"


def test_two_keys_whose_files_share_a_name_are_two_approvers():
    one, two = Approver("key.pem"), Approver("key.pem")
    trust = trust_of(one, two, approvals=2)
    assert trust.verified(two.sign(one.sign(order_of())).text()).approvers == ("key.pem", "key.pem")
    assert trust_of(one, two).verified(one.sign(order_of()).text()).approvers == ("key.pem",)


def jws_kid(approver):
    return json.loads(base64.urlsafe_b64decode(approver.sign(order_of()).signatures[0].protected + "=="))["kid"]


def _foreign_signature():
    return STRANGER.key.sign(b"something else", ec.ECDSA(hashes.SHA256()))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_changed_byte_passes(data):
    text = ONE.sign(order_of(name="WO-7")).text()
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters(min_codepoint=32, max_codepoint=126)) + text[place + 1 :]
    try:
        passed = trust_of(ONE).verified(changed)
    except OrderError:
        return
    assert passed.payload_sha256 == trust_of(ONE).verified(text).payload_sha256  # a blank between names, at most


# -- serializations (RFC 7515 7)


def parts():
    signed = json.loads(ONE.sign(order_of()).text())
    return signed["payload"], signed["signatures"][0]


def test_the_flattened_form_is_read():
    payload, signature = parts()
    assert trust_of(ONE).verified(json.dumps({"payload": payload, **signature, "header": {"x": 1}})).approvers


def test_the_compact_form_is_read():
    payload, signature = parts()
    assert trust_of(ONE).verified(f"{signature['protected']}.{payload}.{signature['signature']}\n").approvers


def header(**names):
    return b64(json.dumps(names).encode())


MALFORMED = {
    "nothing": "",
    "not JSON": "hello",
    "a list": "[]",
    "no payload": '{"signatures": []}',
    "deep": "[" * 50000,
    "large": " " * 70000,
    "both forms": '{"payload": "", "signature": "", "signatures": []}',
    "a name twice": '{"payload": "", "payload": "", "signatures": []}',
    "signatures of another kind": '{"payload": "", "signatures": {}}',
    "too many signatures": json.dumps({"payload": "", "signatures": [{}] * 17}),
    "a signature that is a number": '{"payload": "", "signatures": [7]}',
    "payload with padding": '{"payload": "YQ==", "signatures": []}',
    "payload with spare bits": '{"payload": "YR", "signatures": []}',
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_jws_is_refused(text):
    assert code(text) == "order.malformed"


@pytest.mark.parametrize(
    "said",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "ES384"},
        {"alg": "es256"},
        {},
        {"alg": "ES256", "crit": ["exp"], "exp": 1},
        {"alg": "ES256", "b64": False, "crit": ["b64"]},
    ],
)
def test_another_algorithm_or_an_extension_is_refused(said):
    payload, signature = parts()
    assert code(json.dumps({"payload": payload, **signature, "protected": header(**said)})) == "order.malformed"


def test_the_algorithm_has_to_be_protected():
    payload, signature = parts()
    outside = {"payload": payload, **signature, "protected": header(kid="x"), "header": {"alg": "ES256"}}
    assert code(json.dumps(outside)) == "order.malformed"


def test_a_signature_in_der_is_refused():
    payload, signature = parts()
    assert code(json.dumps({"payload": payload, **signature, "signature": b64(b"0" * 70)})) == "order.malformed"


# -- terms


def said(**changes):
    content = json.loads(write_order(order_of()))
    for name, value in changes.items():
        if value is ...:
            del content[name]
        else:
            content[name] = value
    return json.dumps(content).encode()


def share(station, quantity, first_number):
    return {"stations": {station: {"quantity": quantity, "first_number": first_number, "scrap_allowance": 0}}}


BAD_TERMS = {
    "another format": ({"format": "invoice-1"}, "order.malformed"),
    "a term is missing": ({"quantity": ...}, "order.malformed"),
    "an unknown term": ({"discount": 3}, "order.malformed"),
    "a number that is a text": ({"quantity": "5"}, "order.malformed"),
    "a number that is a truth": ({"quantity": True}, "order.malformed"),
    "a fraction": ({"quantity": 5.0}, "order.malformed"),
    "no budget": ({"quantity": 0}, "order.invalid"),
    "less than no budget": ({"quantity": -1}, "order.invalid"),
    "too many": ({"quantity": 10**9}, "order.invalid"),
    "an id that can be guessed": ({"id": "1"}, "order.invalid"),
    "a name with an escape": ({"name": "\x1b[2J"}, "order.invalid"),
    "no name": ({"name": ""}, "order.invalid"),
    "a serial that counts nothing": ({"serial_format": "SN"}, "order.invalid"),
    "a serial that reaches into an object": ({"serial_format": "{number.real}"}, "order.invalid"),
    "an unknown check": ({"check": "md5"}, "order.malformed"),
    "no station": ({"stations": {}}, "order.invalid"),
    "station 0": (share("0", 1000, 1), "order.malformed"),
    "station 128": (
        share("128", 1000, 1),
        "order.invalid",
    ),
    "a share that is more": (
        share("1", 1001, 1),
        "order.invalid",
    ),
    "a share before the first": (
        share("1", 1000, 0),
        "order.invalid",
    ),
    "a share of numbers beyond any": (share("1", 1000, 10**24), "order.invalid"),
    "a share whose end is beyond": (share("1", 1000, 10**12), "order.invalid"),
    "a window that ends first": ({"not_after": "2001-01-01T00:00:00Z"}, "order.invalid"),
    "a time in another form": ({"not_after": "01.10.2026"}, "order.malformed"),
    "a day that is none": ({"not_after": "2026-02-30T00:00:00Z"}, "order.malformed"),
    "too few addresses": ({"mac": {"first": "02:00:00:00:00:01", "last": "02:00:00:00:00:09"}}, "order.invalid"),
    "group addresses": ({"mac": {"first": "01:00:00:00:00:00", "last": "01:00:00:01:00:00"}}, "order.invalid"),
    "an address in capitals": ({"mac": {"first": "02:00:00:00:00:0A", "last": "02:00:00:01:00:00"}}, "order.malformed"),
    "a digest that is none": ({"firmware_sha256": "00"}, "order.malformed"),
    "a bundle's digest that is none": ({"bundle_sha256": "AB" * 32}, "order.malformed"),
}


@pytest.mark.parametrize(("changes", "expected"), BAD_TERMS.values(), ids=BAD_TERMS.keys())
def test_terms_that_make_no_sense_are_refused_even_signed(changes, expected):
    assert code(ONE.sign(jws.Jws.of(said(**changes))).text()) == expected


def test_shares_that_overlap_are_refused():
    order = replace(order_of(quantity=500), stations={1: Share(300, 1, 5), 2: Share(200, 305)})
    with pytest.raises(OrderError, match="stations 1 and 2 would both give number 305"):
        write_order(order)


@pytest.mark.parametrize("payload", [b"", b"[]", b"\xff", b"{", b'{"a": 1, "a": 2}', b'{"a": NaN}', b"[" * 100000])
def test_a_payload_that_is_no_order_is_refused(payload):
    with pytest.raises(OrderError) as refused:
        read_order(payload)
    assert refused.value.code == "order.malformed"


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(ANY_JSON)
@settings(max_examples=100, deadline=None)
def test_any_json_is_an_order_or_refused(content):
    with pytest.raises(OrderError):
        read_order(json.dumps(content).encode())


def test_the_window_has_a_begin_and_an_end():
    now = datetime(2026, 7, 1, tzinfo=UTC)
    order = order_of(not_before=now, not_after=now + timedelta(1))
    order.check_window(now)
    for moment, expected in ((now - timedelta(seconds=1), "order.not_begun"), (now + timedelta(1), "order.over")):
        with pytest.raises(OrderError) as refused:
            order.check_window(moment)
        assert refused.value.code == expected


# -- keys


def test_a_key_on_another_curve_is_refused(tmp_path):
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    (tmp_path / "k.pem").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(OrderError, match="not on P-256"):
        Trust.load([tmp_path / "k.pem"])


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n", b"\0" * 99])
def test_a_file_that_is_no_key_is_refused(tmp_path, content):
    (tmp_path / "k.pem").write_bytes(content)
    with pytest.raises(OrderError) as refused:
        Trust.load([tmp_path / "k.pem"])
    assert refused.value.code == "order.trust"


def test_a_key_that_is_not_there_is_told(tmp_path):
    with pytest.raises(OrderError, match="No such file"):
        Trust.load([tmp_path / "k.pem"])
