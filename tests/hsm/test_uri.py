"""RFC 7512 URIs."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm import PinSource, TokenUri, UriError

TEXT = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)
PIN_SOURCES = st.one_of(
    st.just("prompt:"),
    TEXT.map(lambda text: f"file:/{text.lstrip('/')}"),
    st.from_regex(r"(env|credential):[A-Za-z][A-Za-z0-9_]{0,9}", fullmatch=True),
).map(PinSource.parse)
URIS = st.builds(
    TokenUri,
    token=st.none() | TEXT,
    manufacturer=st.none() | TEXT,
    serial=st.none() | TEXT,
    model=st.none() | TEXT,
    object=st.none() | TEXT,
    type=st.none() | st.sampled_from(["public", "private", "cert", "secret-key", "data"]),
    id=st.none() | st.binary(max_size=20),
    slot_id=st.none() | st.integers(0, 2**64 - 1),
    slot_manufacturer=st.none() | TEXT,
    slot_description=st.none() | TEXT,
    library_manufacturer=st.none() | TEXT,
    library_description=st.none() | TEXT,
    library_version=st.none() | st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3})?", fullmatch=True),
    module_path=st.none() | TEXT,
    pin_source=st.none() | PIN_SOURCES,
    vendor=st.just(()) | st.tuples(st.tuples(st.just("x-vendor"), TEXT)),
)


@given(URIS)
def test_what_is_written_is_read_again(uri):
    assert TokenUri.parse(str(uri)) == uri


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text):
    try:
        uri = TokenUri.parse("pkcs11:" + text)
    except UriError:
        return
    assert TokenUri.parse(str(uri)) == uri


def test_example_of_the_rfc():
    """RFC 7512 2.6, with a PIN source that we know in place of theirs."""
    uri = TokenUri.parse(
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;"
        "object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=?pin-source=file:/etc/token_pin"
    )
    assert uri.token == "The Software PKCS#11 Softtoken"  # noqa: S105 - a label
    assert uri.manufacturer == "Snake Oil, Inc."
    assert uri.id == bytes.fromhex("69953e5cf4bdec91")
    assert uri.type == "cert"
    assert uri.serial == ""
    assert str(uri.pin_source) == "file:/etc/token_pin"


def test_module_and_slot_attributes():
    uri = TokenUri.parse(
        "pkcs11:slot-id=327;slot-description=a;library-version=2.40;library-manufacturer=b?module-path=/usr/lib/x.so"
    )
    assert (uri.slot_id, uri.slot_description, uri.library_version) == (327, "a", "2.40")
    assert (uri.library_manufacturer, uri.module_path) == ("b", "/usr/lib/x.so")


def test_empty_uri_matches_everything():
    assert TokenUri.parse("pkcs11:") == TokenUri()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("token=a", "starts with 'pkcs11:'"),
        ("pkcs11:tokn=a", "did you mean 'token'"),
        ("pkcs11:token=a;token=b", "twice"),
        ("pkcs11:token=a;serial", "name=value"),
        ("pkcs11:token=a b", "percent-encoding"),
        ("pkcs11:token=a%2", "percent-encoding"),
        ("pkcs11:token=%FF", "not UTF-8"),
        ("pkcs11:token=%1B[2J", "control character"),
        ("pkcs11:type=key", "one of public, private"),
        ("pkcs11:slot-id=one", "decimal number"),
        ("pkcs11:library-version=a", "like 2 or 2.40"),
        ("pkcs11:module-path=/a", "after the '?'"),
        ("pkcs11:?token=a", "before the '?'"),
        ("pkcs11:?module-path=/a&module-name=b", "not both"),
        ("pkcs11:?pin-source=%7C/bin/pin", "file:/path, env:NAME"),
        ("pkcs11:?pin-source=1234", "file:/path, env:NAME"),
        ("pkcs11:?pin-source=file:relative", "absolute path"),
        ("pkcs11:?pin-source=env:A%20B", "file:/path, env:NAME"),
        ("pkcs11:?pin-source=credential:../x", "file:/path, env:NAME"),
        ("pkcs11:" + "token=" + "a" * 5000, "percent-encoding"),
    ],
)
def test_fault_is_one_line_that_says_what_to_write(text, told):
    with pytest.raises(UriError, match=told) as caught:
        TokenUri.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["pkcs11:token=a?pin-value=s3cret", "pkcs11:?module-path=/a&pin-value=s3cret", "pkcs11:pin-value=s3cret"]
)
def test_pin_in_the_uri_is_refused_and_not_repeated(text):
    with pytest.raises(UriError, match="ends up in files, logs and process lists") as caught:
        TokenUri.parse(text)
    assert caught.value.code == "uri.pin_value"
    assert "s3cret" not in f"{caught.value} {caught.value.facts} {caught.value.__cause__}"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("file:/etc/pin", "file:/etc/pin"),
        ("file:///etc/pin", "file:/etc/pin"),
        ("/etc/pin", "file:/etc/pin"),
        ("env:STATION_PIN", "env:STATION_PIN"),
        ("credential:pin", "credential:pin"),
        ("prompt:", "prompt:"),
    ],
)
def test_forms_of_pin_source(text, same):
    assert str(TokenUri.parse(f"pkcs11:?pin-source={text}").pin_source) == same


def test_uri_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TokenUri().token = "other"  # noqa: S105 - a label
