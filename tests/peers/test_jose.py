"""Orders and a JOSE library of others: each reads what the other signed (RFC 7515, general JSON serialization)."""

import json

import pytest

from station.orders import OrderError
from station.orders.payload import write_order
from station.testing.orders import Approver, order_of, trust_of

jws = pytest.importorskip("joserfc.jws", reason="pip install joserfc")
jwk = pytest.importorskip("joserfc.jwk", reason="pip install joserfc")
errors = pytest.importorskip("joserfc.errors", reason="pip install joserfc")

OEM = Approver()


@pytest.fixture
def key():
    return jwk.ECKey.import_key(OEM.key)


def general(payload, *members):
    """Sign with the other library."""
    said = [{"protected": {"alg": algorithm}} for algorithm, _ in members]
    keys = iter([key for _, key in members])
    return json.dumps(jws.serialize_json(said, payload, lambda _: next(keys), algorithms=["ES256", "ES384", "HS256"]))


def test_an_order_that_another_tool_signed_is_accepted(key):
    order = order_of()
    signed = trust_of(OEM).verified(general(write_order(order), ("ES256", key)))
    assert signed.order == order


def test_an_order_that_another_tool_approved_too_is_accepted(key):
    two = Approver("two.pem")
    text = general(write_order(order_of()), ("ES256", key), ("ES256", jwk.ECKey.import_key(two.key)))
    assert trust_of(OEM, two, approvals=2).verified(text).approvers == ("oem.pem", "two.pem")


def test_the_compact_and_the_flattened_form_of_another_tool_are_accepted(key):
    payload = write_order(order_of())
    flattened = jws.serialize_json({"protected": {"alg": "ES256"}}, payload, key)
    for text in (jws.serialize_compact({"alg": "ES256"}, payload, key), json.dumps(flattened)):
        assert trust_of(OEM).verified(text).approvers == ("oem.pem",)


def test_another_tool_verifies_what_we_signed(key):
    text = json.loads(OEM.sign(order_of(name="WO-7")).text())
    read = jws.deserialize_json(text, jwk.ECKey.import_key(key.as_dict(private=False)))
    assert json.loads(read.payload)["name"] == "WO-7"


def test_another_tool_refuses_what_we_signed_for_another_key():
    text = json.loads(OEM.sign(order_of()).text())
    with pytest.raises(errors.BadSignatureError):
        jws.deserialize_json(text, jwk.ECKey.import_key(Approver().key))


def test_an_algorithm_of_another_tool_that_is_not_es256_is_refused():
    octets = jwk.OctKey.import_key("0123456789abcdef0123456789abcdef")
    with pytest.raises(OrderError, match="not 'ES256'"):
        trust_of(OEM).verified(general(write_order(order_of()), ("HS256", octets)))
