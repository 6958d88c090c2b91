"""No certificate is signed that one above it does not allow, however far above."""

import datetime as dt
import ipaddress
import secrets
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from hsm import Authority, Csr, KeyKind, LintError, Profile, generate_key, new_serial
from hsm.ceremony.certificates import Wish, draft, extensions_of, sign
from hsm.ceremony.plan import Limits
from hsm.path_limits import PathLimits
from hsm.testing import make_csr

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
SERVER = Profile.load("tls-server")
GLOBEX = x509.DNSName("globex.example")
DOMAIN = Limits(1, names=x509.NameConstraints([GLOBEX], [x509.DNSName("secret.globex.example")]))
PLAIN = Limits(1)
NO_SERVERS = Limits(1, usages=(ExtendedKeyUsageOID.CLIENT_AUTH,))
FIELDS = {"first_name": "x", "name": "Deep", "organization": "Globex"}


def name(text):
    return x509.Name.from_rfc4514_string(text)


async def authority(signer, top, middle=PLAIN):
    """Return one whose issuer stands below another, each with its limits."""
    keys = [generate_key(signer, KeyKind.P256, f"{label}-{secrets.token_hex(4)}") for label in ("top", "middle")]
    made = []
    for key, limits, subject in zip(keys, (top, middle), ("CN=Top,O=Globex", "CN=Middle,O=Globex"), strict=True):
        wish = Wish(name(subject), key.public_key(), NOW, NOW + dt.timedelta(days=900), extensions_of(limits))
        made.append(sign(draft(wish, made[0] if made else None, keys[0].public_key()), keys[0]))
    return await Authority.open(signer, issuer=made[1], chain=[made[0]])


def codes_of(issuing, profile, *names):
    with pytest.raises(LintError) as caught:
        drafted(issuing, profile, *names)
    return caught.value.facts["codes"].split(", ")


def drafted(issuing, profile, *names):
    public = Csr.parse(make_csr()).public_key
    now = dt.datetime.now(dt.UTC)
    return issuing.draft(profile, public, fields=FIELDS, serial=new_serial(1), now=now, names=names)


@pytest.mark.parametrize("host", ["www.bank.test", "secret.globex.example", "a.SECRET.globex.example".lower()])
async def test_name_outside_the_constraints_of_the_root_is_not_signed(signer, host):
    issuing = await authority(signer, replace(DOMAIN, pathlen=2))
    assert drafted(issuing, SERVER, x509.DNSName("www.globex.example"))
    assert codes_of(issuing, SERVER, x509.DNSName(host)) == ["san.outside_issuer"]


async def test_wildcard_that_stands_for_an_excluded_host_is_not_signed(signer):
    issuing = await authority(signer, replace(DOMAIN, pathlen=2))
    assert codes_of(issuing, SERVER, x509.DNSName("*.globex.example")) == ["san.outside_issuer"]
    assert drafted(issuing, SERVER, x509.DNSName("*.www.globex.example"))


async def test_usage_that_the_root_lacks_is_not_signed(signer):
    issuing = await authority(signer, replace(NO_SERVERS, pathlen=2))
    assert codes_of(issuing, SERVER, GLOBEX) == ["eku.outside_issuer"]


@pytest.mark.parametrize("wanted", [1, 5, None])
async def test_ca_is_not_signed_deeper_than_those_above_allow(signer, wanted):
    issuing = await authority(signer, Limits(2), Limits(1))
    sub_ca = Profile.load("sub-ca")
    assert drafted(issuing, sub_ca)
    assert codes_of(issuing, replace(sub_ca, path_length=wanted)) == ["bc.outside_issuer"]


async def test_wildcard_needs_two_labels(signer):
    issuing = await authority(signer, Limits(2))
    assert drafted(issuing, SERVER, x509.DNSName("*.example.com"))
    assert codes_of(issuing, SERVER, x509.DNSName("*.com")) == ["san.wildcard_too_wide"]


@pytest.mark.parametrize(
    ("tree", "inside", "outside"),
    [
        (x509.DNSName("a.example"), x509.DNSName("B.A.EXAMPLE"), x509.DNSName("ba.example")),
        (x509.RFC822Name("a.example"), x509.RFC822Name("x@A.example"), x509.RFC822Name("x@b.a.example")),
        (x509.RFC822Name(".a.example"), x509.RFC822Name("x@b.a.example"), x509.RFC822Name("x@a.example")),
        (x509.RFC822Name("x@a.example"), x509.RFC822Name("x@a.example"), x509.RFC822Name("y@a.example")),
        (
            x509.UniformResourceIdentifier("a.example"),
            x509.UniformResourceIdentifier("https://a.example:8443/x"),
            x509.UniformResourceIdentifier("https://a.example@evil.test/"),
        ),
        (
            x509.UniformResourceIdentifier(".a.example"),
            x509.UniformResourceIdentifier("https://b.a.example"),
            x509.UniformResourceIdentifier("urn:a.example"),
        ),
        (
            x509.IPAddress(ipaddress.ip_network("10.0.0.0/8")),
            x509.IPAddress(ipaddress.ip_address("10.1.2.3")),
            x509.IPAddress(ipaddress.ip_address("fd00::1")),
        ),
        (x509.DirectoryName(name("O=ACME")), x509.DirectoryName(name("CN=x,O=Acme")), x509.DirectoryName(name("CN=x"))),
    ],
)
def test_names_compare_as_rfc_5280_says(tree, inside, outside):
    permitted = PathLimits((x509.NameConstraints([tree], None),))
    excluded = PathLimits((x509.NameConstraints(None, [tree]),))
    both = x509.SubjectAlternativeName([inside, outside])
    assert list(permitted.foreign_names(x509.Name([]), both)) == [outside]
    assert list(excluded.foreign_names(x509.Name([]), both)) == [inside]


def test_mail_address_in_the_subject_is_held_to_the_constraints():
    limits = PathLimits((x509.NameConstraints([x509.RFC822Name("a.example")], None),))
    subject = x509.Name([x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, "ceo@bank.test")])
    assert list(limits.foreign_names(subject, None)) == [x509.RFC822Name("ceo@bank.test")]
