"""Certificates of every profile pass pkilint's PKIX checks; what it finds stops an issuance."""

import datetime as dt

import pytest
from cryptography import x509

from hsm import Authority, Csr, KeyKind, LintError, Profile, generate_key, lint_pkilint, new_serial
from hsm.authority import issue_root
from hsm.lint_case import Finding
from hsm.profile_file import names
from hsm.profiles import NO_EXPIRY
from hsm.testing import make_csr, open_signer, temporary_ca, unordered
from softhsm import make_tokens

pytest.importorskip("pkilint", reason="pkilint is not installed: pip install 'provisioning-station[lint]'")

FIELDS = {
    "model": "sensor",
    "product_serial": "SN000001",
    "hardware_id": "00:11:22",
    "name": "Acme",
    "organization": "Acme",
    "first_name": "host.example.com",
    "vendor_id": "FFF1",
    "product_id": "8000",
    "code": "0123456789abcdef",
}
KNOWN = {
    "pkix.subject_key_identifier_method_1_identified",
    "pkix.certificate_skid_end_entity_missing",  # 802.1AR advises against one
}
"""Notes that are none of a fault."""


@pytest.fixture(scope="module")
def issued(tmp_path_factory):
    import asyncio  # noqa: PLC0415 - only here

    return asyncio.run(_issued(make_tokens(tmp_path_factory.mktemp("hsm"), ["ca"])))


async def _issued(tokens):
    """Issue a certificate of each profile below a root that pkilint is asked about too."""
    now = dt.datetime.now(dt.UTC)
    found = {}
    with open_signer(tokens, "ca", writable=True) as signer:
        top, middle = (generate_key(signer, KeyKind.P256, label) for label in ("root", "middle"))
        root = await issue_root(
            top, Profile.load("matter-paa"), fields=FIELDS, serial=new_serial(1), now=now, end=NO_EXPIRY
        )
        found["matter-paa"] = x509.load_der_x509_certificate(root)

        async def below(profile, issuer, public):
            authority = await Authority.open(signer, issuer=issuer, extra_lint=lint_pkilint.findings)
            given = [x509.DNSName("host.example.com")] if profile == "tls-server" else []
            draft = authority.draft(
                unordered(Profile.load(profile)),
                public,
                fields=FIELDS,
                serial=new_serial(1),
                now=dt.datetime.now(dt.UTC),
                names=given,
            )
            return x509.load_der_x509_certificate(await authority.issue(draft))

        found["matter-pai"] = await below("matter-pai", found["matter-paa"], middle.public_key())
        found["sub-ca"] = await below("sub-ca", found["matter-paa"], Csr.parse(make_csr()).public_key)
        for profile in set(names()) - found.keys():
            found[profile] = await below(profile, found["matter-pai"], Csr.parse(make_csr()).public_key)
    return found


@pytest.mark.parametrize("profile", names())
def test_certificate_of_every_profile_passes(issued, profile):
    bad = [
        one
        for one in lint_pkilint.all_findings(issued[profile])
        if one[0] in {"FATAL", "ERROR", "WARNING"} and one[1] not in KNOWN
    ]
    assert bad == []


async def test_error_of_pkilint_stops_and_has_a_dotted_code(tmp_path, monkeypatch):
    """A name that our own policy lets through and RFC 5280 does not."""
    monkeypatch.setattr("hsm.names.dns_fault", lambda *_, **__: None)
    with temporary_ca(tmp_path) as ca:
        authority = await Authority.open(ca.signer, issuer=ca.issuer, extra_lint=lint_pkilint.findings)
        with pytest.raises(LintError) as caught:
            authority.draft(
                Profile.load("tls-server"),
                Csr.parse(make_csr()).public_key,
                fields={"first_name": "x"},
                serial=new_serial(1),
                now=dt.datetime.now(dt.UTC),
                names=[x509.DNSName("not a name")],
            )
    assert "." in caught.value.code
    assert caught.value.code.startswith(("pkix.", "base."))


async def test_wildcard_is_no_error_and_a_bad_one_is(tmp_path):
    with temporary_ca(tmp_path) as ca:
        authority = await Authority.open(ca.signer, issuer=ca.issuer, extra_lint=lint_pkilint.findings)

        def drafted(name):
            return authority.draft(
                Profile.load("tls-server"),
                Csr.parse(make_csr()).public_key,
                fields={"first_name": "x"},
                serial=new_serial(1),
                now=dt.datetime.now(dt.UTC),
                names=[x509.DNSName(name)],
            )

        assert drafted("*.example.com")
        with pytest.raises(LintError):
            drafted("*.com")


def test_warnings_do_not_stop(issued):
    assert all(isinstance(one, Finding) for one in lint_pkilint.findings(issued["idevid"]))
    assert lint_pkilint.findings(issued["idevid"]) == ()
