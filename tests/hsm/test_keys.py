"""Keys in a token, as pyca key classes: every kind signs what the builders make, and openssl agrees."""

import copy
import datetime as dt
import pickle
import subprocess
from contextlib import contextmanager
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import KeyType

from hsm import (
    KeyFamily,
    KeyKind,
    KeyMissing,
    KeyUnfit,
    Signer,
    TokenError,
    TokenUri,
    find_key,
    generate_key,
    read_facts,
)
from hsm.algorithms import SCHEMES, verify
from hsm.key_store import destroy_key, label_taken
from hsm.testing import open_signer

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Key test")])
QUICK = [KeyKind.P256, KeyKind.P384, KeyKind.RSA2048, KeyKind.ED25519]


@contextmanager
def made(signer, kind, label="key-test"):
    key = generate_key(signer, kind, label)
    try:
        yield key
    finally:
        destroy_key(key)


def openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("kind", list(KeyKind))
def test_openssl_verifies_what_the_key_signs(signer, tmp_path, kind):
    with made(signer, kind) as key:
        digest = SCHEMES[key.family].hash
        certificate = (
            x509.CertificateBuilder(NAME, NAME, key.public_key(), 7, NOW, NOW + dt.timedelta(days=9999))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, digest)
        )
        request = x509.CertificateSigningRequestBuilder(NAME).sign(key, digest)
        crl = x509.CertificateRevocationListBuilder(NAME, NOW, NOW + dt.timedelta(days=9999)).sign(key, digest)
    ca, csr, revoked = tmp_path / "ca.pem", tmp_path / "csr.pem", tmp_path / "crl.pem"
    for path, thing in ((ca, certificate), (csr, request), (revoked, crl)):
        path.write_bytes(thing.public_bytes(PEM))
    assert "OK" in openssl("verify", "-check_ss_sig", "-CAfile", ca, ca)
    openssl("req", "-in", csr, "-verify", "-noout")
    openssl("crl", "-in", revoked, "-CAfile", ca, "-noout")
    assert crl.is_signature_valid(certificate.public_key())
    assert request.is_signature_valid
    certificate.verify_directly_issued_by(certificate)


@pytest.mark.parametrize("kind", QUICK)
async def test_coroutine_gets_the_same_kind_of_signature(signer, kind):
    with made(signer, kind) as key:
        verify(key.public_key(), await key.sign_message(b"message"), b"message", SCHEMES[key.family].hash)


@pytest.mark.parametrize("kind", QUICK)
def test_key_keeps_every_rule(signer, kind):
    with made(signer, kind) as key:
        facts = read_facts(key)
    assert facts.broken == ()
    assert facts.attributes["SENSITIVE"]
    assert facts.attributes["NEVER_EXTRACTABLE"]
    assert facts.attributes["ALWAYS_SENSITIVE"]
    assert facts.attributes["LOCAL"]
    assert not facts.attributes["EXTRACTABLE"]
    assert not facts.attributes["DERIVE"]


@pytest.mark.parametrize("kind", QUICK)
def test_private_key_is_found_by_its_public_key(signer, kind):
    with made(signer, kind) as key, made(signer, kind, "another"):
        found = find_key(signer, key.public_key())
        assert (found.key_id, found.label) == (key.key_id, "key-test")


@pytest.mark.parametrize("kind", QUICK)
def test_token_refuses_to_show_the_private_key(signer, kind):
    with made(signer, kind) as key:
        secret = Attribute.PRIVATE_EXPONENT if key.family is KeyFamily.RSA else Attribute.VALUE
        with pytest.raises(TokenError, match="AttributeSensitive"):
            signer.call_blocking(lambda _: signer.port.find(key.name).handle[secret])


@pytest.mark.parametrize("kind", QUICK)
def test_key_class_refuses_to_leave(signer, kind):
    with made(signer, kind) as key:
        with pytest.raises(TypeError, match="stays in the token"):
            key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        with pytest.raises(TypeError, match="stays in the token"):
            pickle.dumps(key)
        assert copy.copy(key) is key
        assert copy.deepcopy(key) is key


def test_ec_key_does_no_key_agreement(signer):
    with made(signer, KeyKind.P256) as key:
        with pytest.raises(UnsupportedAlgorithm):
            key.exchange(ec.ECDH(), key.public_key())
        assert (key.curve.name, key.key_size) == ("secp256r1", 256)


@pytest.mark.parametrize(
    ("scheme", "algorithm"),
    [
        (padding.PKCS1v15(), hashes.SHA384()),
        (padding.PKCS1v15(), utils.Prehashed(hashes.SHA256())),
        (padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
        (padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH), hashes.SHA256()),
        (padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH), hashes.SHA256()),
        (padding.PSS(padding.MGF1(hashes.SHA512()), padding.PSS.DIGEST_LENGTH), hashes.SHA512()),
    ],
)
def test_rsa_paddings(signer, scheme, algorithm):
    message = bytes(32)
    with made(signer, KeyKind.RSA2048) as key:
        signature = key.sign(message, scheme, algorithm)
        key.public_key().verify(signature, message, scheme, algorithm)


def test_prehashed_ecdsa(signer):
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"message")
    with made(signer, KeyKind.P256) as key:
        signature = key.sign(digest.finalize(), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        key.public_key().verify(signature, b"message", ec.ECDSA(hashes.SHA256()))


def test_hash_of_the_wrong_length_is_refused(signer):
    with made(signer, KeyKind.P256) as key, pytest.raises(ValueError, match="wrong length"):
        key.sign(b"short", ec.ECDSA(utils.Prehashed(hashes.SHA256())))


def test_sha1_is_refused(signer):
    with made(signer, KeyKind.P256) as key, pytest.raises(UnsupportedAlgorithm, match="sha1"):
        key.sign(b"message", ec.ECDSA(hashes.SHA1()))  # noqa: S303 - that is the point


def test_message_of_any_length_is_hashed_whole(signer):
    """CKM_ECDSA would cut it off without a word."""
    with made(signer, KeyKind.P256) as key:
        signature = key.sign(b"x" * 5000, ec.ECDSA(hashes.SHA256()))
        with pytest.raises(InvalidSignature):
            key.public_key().verify(signature, b"x" * 4999 + b"y", ec.ECDSA(hashes.SHA256()))


def test_label_is_used_once(signer):
    with made(signer, KeyKind.P256), pytest.raises(KeyUnfit, match="holds a key called 'key-test'") as caught:
        generate_key(signer, KeyKind.P384, "key-test")
    assert caught.value.code == "key.label_taken"


def test_missing_key_names_what_is_there(signer):
    stranger = ec.generate_private_key(ec.SECP256R1()).public_key()
    with made(signer, KeyKind.P256), pytest.raises(KeyMissing, match="it holds: 'key-test'") as caught:
        find_key(signer, stranger)
    assert caught.value.code == "key.missing"


def test_destroyed_key_is_gone(signer):
    with made(signer, KeyKind.P256) as key:
        pass
    with pytest.raises(KeyMissing):
        find_key(signer, key.public_key())


@pytest.mark.parametrize(
    ("loose", "told"),
    [
        ({Attribute.SENSITIVE: False}, "SENSITIVE is false"),
        ({Attribute.EXTRACTABLE: True}, "EXTRACTABLE is true"),
        ({Attribute.DECRYPT: True}, "DECRYPT is true"),
        ({Attribute.UNWRAP: True}, "UNWRAP is true"),
    ],
)
def test_key_that_breaks_a_rule_is_not_used(signer, loose, told):
    template = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.SIGN_RECOVER: False, **loose}

    def generate(session):
        public, _ = session.generate_keypair(
            KeyType.RSA, 2048, label="loose", id=b"loose", store=True, private_template=template
        )
        return int.from_bytes(public[Attribute.MODULUS])

    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - only here

    public = rsa.RSAPublicNumbers(65537, signer.call_blocking(generate)).public_key()
    try:
        with pytest.raises(KeyUnfit, match=told) as caught:
            find_key(signer, public)
        assert caught.value.code == "key.attributes"
    finally:
        signer.call_blocking(lambda s: [found.destroy() for found in s.get_objects({Attribute.LABEL: "loose"})])


def test_key_that_comes_out_wrong_is_destroyed(scratch, watched):
    """The token says that the new key can leave it: no trust, no key."""
    uri = replace(TokenUri.parse(scratch.uri("scratch")), module_path=watched["WATCHED_SO"])
    harmful = {**scratch.environment, **watched, "WATCHED_HARM": "extractable"}
    with Signer.open(uri, environment=harmful, writable=True) as signer:
        with pytest.raises(KeyUnfit, match="EXTRACTABLE is true"):
            generate_key(signer, KeyKind.P256, "wrong")
        assert not label_taken(signer, "wrong")


def test_key_without_its_public_half_is_found_by_subject_key_identifier(signer):
    with made(signer, KeyKind.P256) as key:
        ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest

        def drop_public_half(session):
            for found in list(session.get_objects({Attribute.LABEL: "key-test"})):
                if found[Attribute.CLASS] is ObjectClass.PUBLIC_KEY:
                    found.destroy()
                else:
                    found[Attribute.ID] = ski

        signer.call_blocking(drop_public_half)
        key.key_id = ski
        assert find_key(signer, key.public_key()).key_id == ski


def test_read_only_signer_makes_no_key(scratch):
    with open_signer(scratch, "scratch") as signer, pytest.raises(TokenError, match="SessionReadOnly"):
        generate_key(signer, KeyKind.P256, "never")
