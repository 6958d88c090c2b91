"""One certificate from a request, and what is refused on the way."""

import datetime as dt
import ipaddress
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hsm import Authority, Csr, CsrError, FieldError, HsmError, IssuanceError, KeyKind, LintError, Profile
from hsm.certificate_files import Form, written
from hsm.issuing import Asked, Desk
from hsm.journal import CaJournal, JournalReader, KeyCertified
from hsm.profile_file import FOLDER
from hsm.testing import temporary_ca

SERVER = Profile.load("tls-server")
SERVER_FILE = FOLDER / "tls-server.toml"
NAME = x509.DNSName("host.example.com")
CDP = """
[urls]
crl = ["http://crl.example.com/{issuer}/{shard}.crl"]
ocsp = ["http://ocsp.example.com"]
issuer = ["http://crl.example.com/{issuer}.cer"]
"""


def request(*extensions, key=None):
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return Csr.parse(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))


@pytest.fixture
async def desk(ca, tmp_path):
    authority = await Authority.open(ca.signer, issuer=ca.issuer, chain=[ca.root])
    with CaJournal.open(tmp_path / "ca.db") as journal:
        yield Desk(authority, journal, SERVER, 1)


def names_of(der):
    certificate = x509.load_der_x509_certificate(der)
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


async def test_names_of_operator_and_request_are_joined(desk):
    issued = await desk.issue(request(x509.SubjectAlternativeName([x509.DNSName("b.example"), NAME])), names=[NAME])
    assert names_of(issued.der) == [NAME, x509.DNSName("b.example")]


async def test_what_left_is_on_record(desk):
    csr = request()
    issued = await desk.issue(csr, names=[NAME])
    with JournalReader(desk.journal.path) as reader:
        (found,) = reader.by_key(csr.spki_sha256)
    assert (found.certificate, found.profile, found.serial) == (issued.der, "tls-server", issued.serial)


async def test_name_of_the_request_outside_the_policy_is_refused_and_nothing_signed(desk):
    csr = request(x509.SubjectAlternativeName([NAME, x509.UniformResourceIdentifier("https://evil.example/")]))
    with pytest.raises(FieldError) as caught:
        await desk.issue(csr)
    assert caught.value.code == "san.outside_policy"
    with JournalReader(desk.journal.path) as reader:
        assert reader.signatures() == {}


async def test_of_several_each_is_prepared_for_itself(desk):
    ca_wish, sound = request(x509.BasicConstraints(ca=True, path_length=None)), request()
    asked = [Asked(ca_wish, "a", names=[NAME]), Asked(sound, "b", names=[NAME]), Asked(request(), "c")]
    no_ca, (draft, wanted), no_name = desk.prepare_all(asked)
    assert [no_ca.code, no_name.code] == ["csr.asks_for_ca", "san.required"]
    assert (wanted.request, wanted.draft, wanted.spki_sha256) == ("b", draft, sound.spki_sha256)


async def test_wish_to_be_a_ca_is_refused(desk):
    with pytest.raises(CsrError) as caught:
        await desk.issue(request(x509.BasicConstraints(ca=True, path_length=None)), names=[NAME])
    assert caught.value.code == "csr.asks_for_ca"


async def test_sub_ca_below_an_issuer_that_may_sign_none_is_refused(desk):
    below = replace(desk, profile=Profile.load("sub-ca"), fields={"name": "Tenant CA"})
    with pytest.raises(LintError) as caught:
        await below.issue(request(x509.BasicConstraints(ca=True, path_length=0)))
    assert caught.value.code == "issuer.path_exhausted"


async def test_second_certificate_for_a_key_needs_renew(desk):
    csr = request()
    first = await desk.issue(csr, names=[NAME])
    with pytest.raises(KeyCertified):
        await desk.issue(csr, names=[NAME])
    assert (await replace(desk, renew=True).issue(csr, names=[NAME])).serial != first.serial


async def test_intent_of_a_run_that_died_is_signed_as_it_was(desk):
    csr = request()
    draft, wanted = desk.prepare(csr, names=[NAME])
    intent = desk.journal.reserve_blocking(wanted)
    issued = await desk.issue(csr, names=[NAME])
    assert issued.serial == intent.serial
    assert x509.load_der_x509_certificate(issued.der).tbs_certificate_bytes == draft.tbs
    with JournalReader(desk.journal.path) as reader:
        assert reader.by_serial(intent.serial).tries == 2


async def test_intent_for_something_else_is_not_finished_by_accident(desk):
    csr = request()
    desk.journal.reserve_blocking(desk.prepare(csr, names=[NAME])[1])
    with pytest.raises(HsmError) as caught:
        await desk.issue(csr, names=[x509.DNSName("other.example")])
    assert caught.value.code == "issuance.other_intent"


@pytest.mark.parametrize("more", [["evil.example"], []], ids=["one name less", "another order"])
async def test_intent_with_other_names_of_the_same_subject_is_not_finished(desk, more):
    csr = request()
    names = [NAME, x509.DNSName("b.example")]
    desk.journal.reserve_blocking(desk.prepare(csr, names=[*names, *map(x509.DNSName, more)])[1])
    with pytest.raises(HsmError, match="or give it up") as caught:
        await desk.issue(csr, names=names if more else [NAME, x509.DNSName("c.example")])
    assert caught.value.code == "issuance.other_intent"


async def test_intent_is_finished_days_later(desk):
    csr = request()
    intent = desk.journal.reserve_blocking(desk.prepare(csr, names=[NAME])[1])
    later = replace(desk, clock=lambda: dt.datetime.now(dt.UTC) + dt.timedelta(days=3))
    assert (await later.issue(csr, names=[NAME])).serial == intent.serial


async def test_issuer_that_is_not_valid_yet_or_any_more_signs_nothing(desk, ca):
    day = dt.timedelta(days=1)
    for moment in (ca.issuer.not_valid_before_utc - day, dt.datetime.min.replace(tzinfo=dt.UTC, year=1951)):
        with pytest.raises(IssuanceError) as caught:
            await replace(desk, clock=lambda moment=moment: moment).issue(request(), names=[NAME])
        assert caught.value.code == "issuance.issuer_not_valid"


async def test_urls_name_issuer_and_shard(desk, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SERVER_FILE.read_text() + CDP)
    issued = await replace(desk, profile=Profile.load(path), batch="2026-07").issue(request(), names=[NAME])
    certificate = x509.load_der_x509_certificate(issued.der)
    issuer = desk.authority.issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    (point,) = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert point.full_name == [x509.UniformResourceIdentifier(f"http://crl.example.com/{issuer}/2026-07.crl")]
    access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert [one.access_location.value for one in access] == [
        "http://ocsp.example.com",
        f"http://crl.example.com/{issuer}.cer",
    ]


async def test_rsa_issuer_signs_pss_where_the_profile_says_so(tmp_path):
    path = tmp_path / "pss.toml"
    path.write_text('rsa_signature = "pss"\n' + SERVER_FILE.read_text())
    with (
        temporary_ca(tmp_path / "rsa", intermediate_kind=KeyKind.RSA2048) as ca,
        CaJournal.open(tmp_path / "ca.db") as journal,
    ):
        authority = await Authority.open(ca.signer, issuer=ca.issuer, chain=[ca.root])
        issued = await Desk(authority, journal, Profile.load(path), 1).issue(request(), names=[NAME])
        plain = await Desk(authority, journal, SERVER, 1).issue(request(), names=[NAME])
        intent = Desk(authority, journal, Profile.load(path), 1)
        again = authority.redraft(intent.profile, x509.load_der_x509_certificate(issued.der).tbs_certificate_bytes)
    certificate = x509.load_der_x509_certificate(issued.der)
    assert isinstance(certificate.signature_algorithm_parameters, padding.PSS)
    certificate.verify_directly_issued_by(ca.issuer)
    assert isinstance(x509.load_der_x509_certificate(plain.der).signature_algorithm_parameters, padding.PKCS1v15)
    assert again.scheme.pss


async def test_every_form_holds_the_same_certificate(desk):
    issued = await desk.issue(request(), names=[NAME])
    chain = desk.authority.chain
    leaf = x509.load_der_x509_certificate(issued.der)
    assert written(issued.der, chain, Form.DER) == issued.der
    assert x509.load_pem_x509_certificates(written(issued.der, chain, Form.PEM)) == [leaf]
    assert x509.load_pem_x509_certificates(written(issued.der, chain, Form.CHAIN)) == [leaf, desk.authority.issuer]
    bundle = serialization.pkcs7.load_der_pkcs7_certificates(written(issued.der, chain, Form.P7B))
    assert sorted(bundle, key=str) == sorted([leaf, desk.authority.issuer], key=str)


# -- keys and signatures that are none


def signed_by(key, **_):
    return x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())


def weak_rsa(modulus, exponent):
    """A request with a key nobody holds: what is wrong with the key is seen before its signature."""
    good = signed_by(rsa.generate_private_key(65537, 2048)).public_bytes(Encoding.DER)
    old = x509.load_der_x509_csr(good).public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    from hsm import der  # noqa: PLC0415 - only here

    def integer(value):
        return der.encode(2, value.to_bytes(value.bit_length() // 8 + 1))

    spki = bytes.fromhex("300d06092a864886f70d0101010500") + der.encode(
        3, b"\0" + der.encode(der.SEQUENCE, integer(modulus) + integer(exponent))
    )
    parts = der.split_signed(good)
    children = der.children(parts.tbs, der.read(parts.tbs, 0, len(parts.tbs)))
    fields = [parts.tbs[one.start : one.end] for one in children]
    assert old in fields[2]
    fields[2] = der.encode(der.SEQUENCE, spki)
    return der.join_signed(der.encode(der.SEQUENCE, b"".join(fields)), parts.algorithm, parts.signature)


BIG = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
SMALL = BIG >> 1025 | 1


@pytest.mark.parametrize(("modulus", "exponent"), [(BIG, 1), (BIG, 3), (SMALL, 65537)], ids=["e=1", "e=3", "1023 bits"])
def test_weak_rsa_key_is_refused(modulus, exponent):
    with pytest.raises(CsrError) as caught:
        Csr.parse(weak_rsa(modulus, exponent))
    assert caught.value.code in {"csr.key_weak", "csr.key_invalid"}


@pytest.mark.parametrize("name", ["shard", "issuer", "first_name"])
async def test_field_that_is_filled_in_is_given_by_nobody(desk, name):
    """A certificate on another shard than the journal says is on no list that its readers fetch when it is revoked."""
    with pytest.raises(FieldError) as of_one:
        await desk.issue(request(), fields={name: "b9"}, names=[NAME])
    with pytest.raises(FieldError) as of_all:
        replace(desk, fields={name: "b9"})
    assert {of_one.value.code, of_all.value.code} == {"field.filled_in"}


LONG = x509.DNSName(".".join(["a" * 30, "b" * 30, "example.com"]))


def common_name_of(der):
    (found,) = x509.load_der_x509_certificate(der).subject
    return found.value


async def test_common_name_is_a_whole_name(desk):
    """A name that was cut is another name: that of a host whose owner did not ask."""
    issued = await desk.issue(request(), names=[LONG, NAME])
    assert common_name_of(issued.der) == "host.example.com"
    with pytest.raises(FieldError) as caught:
        await desk.issue(request(), names=[LONG])
    assert caught.value.code == "field.first_name"


async def test_zone_of_an_address_is_not_in_the_common_name(desk):
    issued = await desk.issue(request(), names=[x509.IPAddress(ipaddress.ip_address("fe80::1%eth0"))])
    assert common_name_of(issued.der) == "fe80::1"
