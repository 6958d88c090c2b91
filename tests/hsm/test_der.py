"""The little DER of our own, against asn1crypto."""

import pytest
from asn1crypto.core import ObjectIdentifier, OctetString
from hypothesis import given
from hypothesis import strategies as st

from hsm import der
from hsm.der import DerError

ARCS = st.lists(st.integers(0, 2**64), max_size=8)


@given(st.tuples(st.integers(0, 1), st.integers(0, 39)) | st.tuples(st.just(2), st.integers(0, 2**40)), ARCS)
def test_object_identifiers_are_those_of_asn1crypto(first, rest):
    dotted = ".".join(map(str, (*first, *rest)))
    assert der.object_identifier(dotted) == ObjectIdentifier(dotted).dump()


@pytest.mark.parametrize("dotted", ["", "1", "3.1", "1.40", "1.2.-3", "1.2.x", "1..2"])
def test_text_that_is_no_object_identifier_is_refused(dotted):
    with pytest.raises(DerError, match="not an object identifier"):
        der.object_identifier(dotted)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_lengths_are_those_of_asn1crypto(size):
    assert der.encode(der.OCTET_STRING, bytes(size)) == OctetString(bytes(size)).dump()


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
def test_parts_come_back(tbs, algorithm, signature):
    tbs, algorithm = der.encode(der.SEQUENCE, tbs), der.encode(der.SEQUENCE, algorithm)
    assert der.split_signed(der.join_signed(tbs, algorithm, signature)) == (tbs, algorithm, signature)


@given(st.binary(max_size=60))
def test_garbage_is_refused_or_put_together_again(data):
    try:
        parts = der.split_signed(data)
    except DerError:
        return
    assert der.join_signed(*parts) == data


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("3080", "indefinite"),
        ("3085ffffffffff", "indefinite or too long"),
        ("308105", "shortest form"),
        ("30820005", "shortest form"),
        ("3005", "cut off"),
        ("30", "cut off"),
        ("1f0100", "more than one octet"),
        ("300000", "1 bytes follow"),
        ("3000", "this is not SEQUENCE"),
        ("3007300030000301", "cut off"),
        ("3006300030000300", "whole number"),
        ("30083000300003020100", "whole number"),
    ],
)
def test_other_forms_are_refused(data, told):
    with pytest.raises(DerError, match=told):
        der.split_signed(bytes.fromhex(data))
