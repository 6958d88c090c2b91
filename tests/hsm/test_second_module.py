"""A second implementation of PKCS#11, unrelated to SoftHSM: the software token of NSS, by the same code path.

It differs in what ``hsm.quirks`` holds: ``C_Initialize`` wants a text, all serials are one, ``CKA_LOCAL`` is wrong.
"""

import asyncio
import datetime as dt
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from pkcs11.constants import Attribute

from hsm import (
    Authority,
    Csr,
    KeyKind,
    ModuleError,
    PinError,
    PinSource,
    Profile,
    Signer,
    State,
    Timing,
    TokenError,
    TokenUri,
    generate_key,
    init_ca,
    new_serial,
    read_facts,
)
from hsm.algorithms import SCHEMES, KeyFamily, verify
from hsm.key_store import destroy_key
from hsm.quirks import KNOWN, NONE, families, quirks_of
from hsm.testing import make_csr, unordered
from softhsm import make_tokens

QUICK = Timing(reload=0.3, tick=0.02)
FIELDS = {"model": "m", "product_serial": "SN1", "hardware_id": "00", "order": "PO-1"}
NSS = next(row for row in KNOWN if row.name == "NSS softokn")


@pytest.fixture(scope="session")
def softokn() -> Path:
    """The library; Debian has it in libnss3."""
    found = sorted(Path("/usr/lib").rglob("libsoftokn3.so"))
    if not found or shutil.which("certutil") is None:
        pytest.skip("no NSS: apt-get install libnss3 libnss3-tools")
    return found[0]


@pytest.fixture
def nss(softokn, tmp_path):
    """URI of a fresh NSS database's token."""
    folder = tmp_path / "nss"
    folder.mkdir()
    pin = tmp_path / "nss.pin"
    pin.write_text("a-pin-of-nss\n")
    pin.chmod(0o600)
    subprocess.run(["certutil", "-N", "-d", f"sql:{folder}", "-f", pin], check=True, capture_output=True)
    reserved = NSS.init_reserved.replace("/path", str(folder))
    token = quote("NSS Certificate DB")
    return f"pkcs11:token={token};x-init-reserved={quote(reserved)}?module-path={softokn}&pin-source=file:{pin}"


@pytest.fixture
def signer(nss):
    with Signer.open(TokenUri.parse(nss), writable=True, timing=QUICK) as opened:
        yield opened


async def test_it_issues_certificates_and_signs_crls_that_openssl_accepts(nss, tmp_path):
    """The root rests in SoftHSM, the issuing key in NSS: both modules in one process."""
    softhsm = make_tokens(tmp_path / "hsm", ["root"])
    made = init_ca(
        root=TokenUri.parse(softhsm.uri("root")),
        intermediate=TokenUri.parse(nss),
        name="Two Modules",
        folder=tmp_path / "ca",
        environment=softhsm.environment,
    )
    with Signer.open(TokenUri.parse(nss)) as signer:
        authority = await Authority.open(signer, issuer=made.intermediate, chain=[made.root])
        leaves = [await authority.issue(draft(authority)) for _ in range(5)]
        crl = (
            x509.CertificateRevocationListBuilder(
                made.intermediate.subject, dt.datetime.now(dt.UTC), dt.datetime.now(dt.UTC) + dt.timedelta(days=7)
            )
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_revoked_certificate(
                x509.RevokedCertificateBuilder(
                    x509.load_der_x509_certificate(leaves[0]).serial_number, dt.datetime.now(dt.UTC)
                ).build()
            )
            .sign(authority.key, hashes.SHA256())
        )
    files = [tmp_path / name for name in ("good.pem", "bad.pem", "crl.pem")]
    for path, leaf in zip(files[:2], (leaves[1], leaves[0]), strict=True):
        path.write_bytes(x509.load_der_x509_certificate(leaf).public_bytes(serialization.Encoding.PEM))
    files[2].write_bytes(crl.public_bytes(serialization.Encoding.PEM))
    assert "OK" in openssl_says(made, *files[::2])
    assert "certificate revoked" in openssl_says(made, *files[1:])


def openssl_says(made, leaf, crl):
    command = ["openssl", "verify", "-x509_strict", "-crl_check", "-CRLfile", crl, "-CAfile", made.root_file]
    said = subprocess.run(
        [*command, "-untrusted", made.intermediate_file, leaf], check=False, capture_output=True, text=True
    )
    return said.stdout + said.stderr


def draft(authority):
    return authority.draft(
        unordered(Profile.load("idevid")),
        Csr.parse(make_csr()).public_key,
        fields=FIELDS,
        serial=new_serial(1),
        now=dt.datetime.now(dt.UTC),
    )


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.P384, KeyKind.RSA2048])
def test_keys_are_made_found_again_and_sign(signer, kind):
    key = generate_key(signer, kind, f"nss-{kind.value}")
    message = b"nss"
    verify(key.public_key(), key.sign_message_blocking(message), message, SCHEMES[key.family].hash)
    facts = read_facts(key)
    assert (facts.label, facts.broken) == (f"nss-{kind.value}", ())
    destroy_key(key)


def test_what_it_reports_wrongly_is_neither_believed_nor_held_against_a_key(signer):
    facts = read_facts(generate_key(signer, KeyKind.P256, "nss-local"))
    assert facts.attributes["LOCAL"] is False
    assert facts.unreliable == {Attribute.LOCAL}
    assert facts.attributes["NEVER_EXTRACTABLE"] is True


def test_what_it_can_do_is_asked_from_it(signer):
    assert {KeyFamily.P256, KeyFamily.P384, KeyFamily.RSA} <= set(families(signer.port.mechanisms))
    assert signer.port.quirks is NSS


def test_key_that_it_can_not_make_is_told(signer):
    assert KeyFamily.ED25519 not in families(signer.port.mechanisms)
    with pytest.raises(TokenError):
        generate_key(signer, KeyKind.ED25519, "nss-ed25519")


def test_missing_text_for_its_start_is_told_with_what_to_write(softokn):
    with pytest.raises(ModuleError, match="add x-init-reserved=") as caught:
        Signer.open(TokenUri.parse(f"pkcs11:token=x?module-path={softokn}"))
    assert caught.value.code == "module.initialise"


def test_wrong_pin_is_told(nss, monkeypatch):
    monkeypatch.setenv("WRONG_PIN", "not-this")
    with pytest.raises(PinError) as caught:
        Signer.open(TokenUri.parse(nss), pin=PinSource.parse("env:WRONG_PIN"))
    assert caught.value.code == "pin.incorrect"


async def test_it_is_healed_by_a_reload(signer):
    key = await asyncio.to_thread(generate_key, signer, KeyKind.P256, "nss-heal")
    await key.sign_message(b"before")
    signer.port.module.library.finalize()
    verify(key.public_key(), await key.sign_message(b"after"), b"after", hashes.SHA256())
    assert (signer.reloads, signer.state) == (1, State.AWAKE)


async def test_eight_tasks_sign_at_once(signer):
    key = await asyncio.to_thread(generate_key, signer, KeyKind.P256, "nss-many")

    async def sign_many(number):
        for turn in range(20):
            message = f"{number} {turn}".encode()
            verify(key.public_key(), await key.sign_message(message), message, hashes.SHA256())

    await asyncio.gather(*[sign_many(number) for number in range(8)])


def test_unknown_library_has_no_quirks():
    assert quirks_of("Somebody Else's HSM", "X1000") is NONE
