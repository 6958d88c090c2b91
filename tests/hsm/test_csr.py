"""What a request must be before anybody looks at what it says."""

import math
import secrets
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from hsm import Csr, CsrError, KeyFamily, KeyPolicy, der
from hsm.testing import make_csr
from hsm.weak_keys import weakness

DER = serialization.Encoding.DER
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")])
NULL_IDENTIFIERS = {
    "sha256": bytes.fromhex("300c06082a8648ce3d0403020500"),
    "sha384": bytes.fromhex("300c06082a8648ce3d0403030500"),
}


def request(key, digest=None):
    return x509.CertificateSigningRequestBuilder(NAME).sign(key, digest).public_bytes(DER)


def spki(key):
    return key.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def refused(csr, **arguments):
    with pytest.raises(CsrError) as caught:
        Csr.parse(csr, **arguments)
    assert "\n" not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize(
    ("key", "digest"),
    [
        (ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()),
        (ec.generate_private_key(ec.SECP256R1()), hashes.SHA512()),
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
        (rsa.generate_private_key(65537, 2048), hashes.SHA256()),
        (ed25519.Ed25519PrivateKey.generate(), None),
    ],
)
def test_good_request_is_read(key, digest):
    csr = Csr.parse(request(key, digest))
    assert csr.public_key == key.public_key()
    assert csr.spki == spki(key)
    assert csr.subject == NAME
    assert not csr.normalised


def test_pem_is_the_same_as_der():
    der_form = make_csr()
    pem = x509.load_der_x509_csr(der_form).public_bytes(serialization.Encoding.PEM)
    assert Csr.parse(pem) == Csr.parse(der_form)
    assert (
        Csr.parse(pem.replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST").replace(b"\n", b"\r\n")).der
        == der_form
    )


@pytest.mark.parametrize("name", ["sha256", "sha384"])
def test_null_parameters_of_old_mbedtls_are_taken_out(name):
    curve, digest = (ec.SECP256R1(), hashes.SHA256()) if name == "sha256" else (ec.SECP384R1(), hashes.SHA384())
    key = ec.generate_private_key(curve)
    parts = der.split_signed(request(key, digest))
    sent = der.join_signed(parts.tbs, NULL_IDENTIFIERS[name], parts.signature)
    csr = Csr.parse(sent)
    assert csr.normalised
    assert csr.der == sent
    assert csr.public_key == key.public_key()


def test_signature_of_a_normalised_request_is_checked():
    parts = der.split_signed(make_csr())
    stranger = der.split_signed(make_csr())
    assert (
        refused(der.join_signed(parts.tbs, NULL_IDENTIFIERS["sha256"], stranger.signature)) == "csr.signature_invalid"
    )


def test_other_parameters_are_not_taken_out():
    parts = der.split_signed(make_csr())
    odd = bytes.fromhex("300d06082a8648ce3d040302040100")
    assert refused(der.join_signed(parts.tbs, odd, parts.signature)) == "csr.malformed"


def test_request_signed_by_another_key_is_refused():
    ours, theirs = der.split_signed(make_csr()), der.split_signed(make_csr())
    assert refused(der.join_signed(ours.tbs, ours.algorithm, theirs.signature)) == "csr.signature_invalid"


def test_of_several_each_is_checked_for_itself():
    good, other = make_csr(), make_csr()
    ours, theirs = der.split_signed(good), der.split_signed(other)
    forged = der.join_signed(ours.tbs, ours.algorithm, theirs.signature)
    found = Csr.parse_all([good, forged, CsrError("unreadable", code="csr.unreadable"), b"", other])
    assert [one.code if isinstance(one, CsrError) else one.der for one in found] == [
        *(good, "csr.signature_invalid", "csr.unreadable", "csr.malformed", other)
    ]


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_corrupted_byte_is_refused(flip):
    good = make_csr()
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= flip
        assert refused(bytes(bad)).startswith("csr."), position


def test_every_truncation_is_refused():
    good = make_csr()
    for size in range(len(good)):
        assert refused(good[:size]) == "csr.malformed"


@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage):
    assert refused(garbage) == "csr.malformed"


@given(st.integers(0, 400), st.binary(max_size=8))
def test_damaged_request_is_refused_or_the_same(position, replacement):
    good = GOOD
    bad = good[:position] + replacement + good[position + len(replacement) :]
    if bad != good:
        assert refused(bad).startswith("csr.")


GOOD = make_csr()


@pytest.mark.parametrize("subject", [b"\x0c\x00", b"\x0c\x64" + b"x" * 100, b"\x0c\x02\xff\xfe", b"\x0c\x04\x1b[2J"])
def test_odd_subject_does_no_harm(subject):
    """What a device asks for is never used; it must not break anything either, nor cause a warning."""
    key = ec.generate_private_key(ec.SECP256R1())
    parts = der.split_signed(request(key, hashes.SHA256()))
    common_name = bytes.fromhex("0603550403")
    old = der.encode(der.SEQUENCE, der.encode(0x31, der.encode(der.SEQUENCE, common_name + b"\x0c\x06device")))
    new = der.encode(der.SEQUENCE, der.encode(0x31, der.encode(der.SEQUENCE, common_name + subject)))
    assert old in parts.tbs
    outer = der.read(parts.tbs, 0, len(parts.tbs))
    tbs = der.encode(der.SEQUENCE, parts.tbs[outer.content :].replace(old, new))
    sent = der.join_signed(tbs, parts.algorithm, key.sign(tbs, ec.ECDSA(hashes.SHA256())))
    assert Csr.parse(sent).spki == spki(key)


@pytest.mark.parametrize("subject", [b"\x0c\x06\xff\xfeabcd", b"\x03\x06\0abcde"], ids=["not UTF-8", "BIT STRING"])
def test_subject_that_cannot_be_read_is_said(subject):
    key = ec.generate_private_key(ec.SECP256R1())
    parts = der.split_signed(request(key, hashes.SHA256()))
    tbs = parts.tbs.replace(b"\x0c\x06device", subject)
    csr = Csr.parse(der.join_signed(tbs, parts.algorithm, key.sign(tbs, ec.ECDSA(hashes.SHA256()))))
    with pytest.raises(CsrError, match="subject of the request"):
        _ = csr.subject


@pytest.mark.parametrize("name", [b"\xa3\x02\x30\0", b"\xa5\x05\xa1\x03\x0c\x01a"], ids=["x400Address", "ediPartyName"])
@pytest.mark.parametrize("kind", ["names", "access"])
def test_wish_that_cannot_be_read_is_said(name, kind):
    wish = x509.SubjectAlternativeName.oid
    if kind == "access":
        wish, name = (
            x509.AuthorityInformationAccess.oid,
            der.encode(der.SEQUENCE, der.object_identifier("1.3.6.1.5.5.7.48.1") + name),
        )
    value = x509.UnrecognizedExtension(wish, der.encode(der.SEQUENCE, name))
    builder = x509.CertificateSigningRequestBuilder(NAME).add_extension(value, critical=False)
    csr = Csr.parse(builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(DER))
    for look in (lambda: csr.asks_for_ca, lambda: csr.names):
        with pytest.raises(CsrError, match="extensions that the request asks for"):
            look()


@pytest.mark.parametrize("more", [b"\0", b"\n", b"x" * 100])
def test_trailing_bytes_are_refused(more):
    assert refused(make_csr() + more) == "csr.malformed"


def test_large_request_is_refused():
    long = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "d" * 60)] * 60)
    key = ec.generate_private_key(ec.SECP256R1())
    sent = x509.CertificateSigningRequestBuilder(long).sign(key, hashes.SHA256()).public_bytes(DER)
    assert refused(sent) == "csr.too_large"


@pytest.mark.parametrize(
    "sent",
    [
        b"-----BEGIN CERTIFICATE REQUEST-----\n????\n-----END CERTIFICATE REQUEST-----\n",
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAA\n-----END CERTIFICATE REQUEST-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE REQUEST-----\n" + b"A" * 9000 + b"\n-----END CERTIFICATE REQUEST-----\n",
        b"-",
    ],
)
def test_broken_pem_is_refused(sent):
    assert refused(sent) == "csr.malformed"


@pytest.mark.parametrize(
    ("key", "digest", "code"),
    [
        (ec.generate_private_key(ec.SECP224R1()), hashes.SHA256(), "csr.key_type"),
        (ec.generate_private_key(ec.SECP256K1()), hashes.SHA256(), "csr.key_type"),
        (ec.generate_private_key(ec.SECP521R1()), hashes.SHA512(), "csr.key_type"),
        (rsa.generate_private_key(65537, 1024), hashes.SHA256(), "csr.key_weak"),  # noqa: S505 - that is the point
        (rsa.generate_private_key(3, 2048), hashes.SHA256(), "csr.key_weak"),
        (ec.generate_private_key(ec.SECP256R1()), hashes.SHA224(), "csr.signature_algorithm"),
    ],
    ids=["P-224", "secp256k1", "P-521", "RSA-1024", "e=3", "SHA-224"],
)
def test_weak_or_foreign_key_is_refused(key, digest, code):
    assert refused(request(key, digest)) == code


def test_policy_narrows_the_keys():
    policy = KeyPolicy(families=frozenset({KeyFamily.P384}))
    assert refused(make_csr(), policy=policy) == "csr.key_type"


def test_rsa_key_above_the_policy_is_refused():
    policy = KeyPolicy(rsa_max_bits=2048)
    assert refused(request(rsa.generate_private_key(65537, 3072), hashes.SHA256()), policy=policy) == "csr.key_type"


def test_point_that_is_not_on_the_curve_is_refused():
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    point = b"\x04" + numbers.x.to_bytes(32) + numbers.y.to_bytes(32)
    off = b"\x04" + numbers.x.to_bytes(32) + (numbers.y ^ 1).to_bytes(32)
    assert refused(request(key, hashes.SHA256()).replace(point, off)) == "csr.key_invalid"


def test_compressed_point_gives_the_same_spki():
    """One key must not have two fingerprints."""
    key = ec.generate_private_key(ec.SECP256R1())
    whole = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    short = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    parts = der.split_signed(request(key, hashes.SHA256()))
    old = spki(key)
    new = der.encode(der.SEQUENCE, old[2:23] + der.encode(der.BIT_STRING, b"\0" + short))
    assert whole in old
    outer = der.read(parts.tbs, 0, len(parts.tbs))
    tbs = der.encode(der.SEQUENCE, parts.tbs[outer.content :].replace(old, new))
    signature = key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    csr = Csr.parse(der.join_signed(tbs, parts.algorithm, signature))
    assert csr.spki == old


def prime(make):
    while True:
        candidate = make()
        if candidate % 2 and pow(2, candidate - 1, candidate) == 1:
            return candidate


def rsa_key(p, q):
    phi = (p - 1) * (q - 1)
    d = pow(65537, -1, phi)
    public = rsa.RSAPublicNumbers(65537, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    return numbers.private_key()


def roca_prime(bits):
    """A prime as the faulty library makes it: k·M + (65537^a mod M), M the product of small primes."""
    product = math.prod(n for n in range(2, 702) if all(n % d for d in range(2, math.isqrt(n) + 1)))

    def candidate():
        k = secrets.randbits(bits - product.bit_length() - 1) | 1 << (bits - product.bit_length() - 1)
        return k * product + pow(65537, secrets.randbits(64), product)

    return prime(candidate)


def test_key_of_the_infineon_library_is_refused():
    key = rsa_key(roca_prime(1028), roca_prime(1028))
    with pytest.raises(CsrError, match="CVE-2017-15361") as caught:
        Csr.parse(request(key, hashes.SHA256()))
    assert caught.value.code == "csr.key_weak"


def test_primes_that_are_neighbours_are_refused():
    p = prime(lambda: secrets.randbits(1024) | 3 << 1022 | 1)
    step = iter(range(2, 10**6, 2))
    q = prime(lambda: p + next(step))
    with pytest.raises(CsrError, match="too close"):
        Csr.parse(request(rsa_key(p, q), hashes.SHA256()))


def test_small_factor_is_seen():
    assert weakness(rsa.generate_private_key(65537, 2048).public_key().public_numbers().n * 743) == (
        "the modulus has a small factor"
    )


def test_sound_keys_pass():
    for _ in range(3):
        assert weakness(rsa.generate_private_key(65537, 2048).public_key().public_numbers().n) is None


def test_prime_modulus_is_seen():
    """Its private exponent is the inverse of 65537 modulo n - 1: anybody's to compute."""
    made = subprocess.run(["openssl", "prime", "-generate", "-bits", "2048"], capture_output=True, check=True)
    assert "is a prime" in str(weakness(int(made.stdout)))
