"""Images and bundles that a token signs: tools that others wrote accept them, with the public key and nothing else."""

import json
import subprocess
import sys
import zipfile

import pytest
from cryptography.hazmat.primitives import serialization
from jwcrypto import jwk, jws

from firmware_tools.bundles.archive import unzipped
from firmware_tools.bundles.bundle import pack
from firmware_tools.mcuboot_image import read_mcuboot
from firmware_tools.signing import SigningError
from firmware_tools.signing import tool as tool_runs
from firmware_tools.signing.mcuboot import McubootSettings
from firmware_tools.testing import unsigned_image
from firmware_tools.version import Version
from hsm import KeyKind, TokenUri
from softhsm import make_tokens
from station.firmware_keys import (
    IMAGE_LABEL,
    RELEASE_LABEL,
    FirmwareError,
    make_key,
    sign_bundle,
    sign_esp_image,
    sign_mcuboot_image,
)

BODY = bytes(range(256)) * 80
ESP_IMAGE = bytes((0xE9, 1, 2, 0)) + bytes(8) + bytes((5, 0)) + bytes(10) + BODY
SETTINGS = McubootSettings(Version.parse("3.1.4+159"), 0x40000)
MCUBOOT_KINDS = (KeyKind.P256, KeyKind.P384, KeyKind.RSA2048, KeyKind.RSA3072, KeyKind.ED25519)
ESP_KINDS = (KeyKind.RSA3072, KeyKind.P256, KeyKind.P384)


class Token:
    """A token with one key of each kind."""

    def __init__(self, folder):
        self.folder = folder
        self.tokens = make_tokens(folder / "tokens", ["oem"])
        self.environment = self.tokens.environment
        for kind in MCUBOOT_KINDS:
            make_key(self.uri(kind), self.pem(kind), kind=kind, label=IMAGE_LABEL, environment=self.environment)
        make_key(
            self.uri("second"),
            self.pem("second"),
            kind=KeyKind.RSA3072,
            label=IMAGE_LABEL,
            environment=self.environment,
        )

    def uri(self, name):
        label = name.value if isinstance(name, KeyKind) else name
        return TokenUri.parse(self.tokens.uri("oem").replace("?", f";object={label}?", 1))

    def pem(self, name):
        return self.folder / f"{name.value if isinstance(name, KeyKind) else name}.pem"


@pytest.fixture(scope="module")
def token(tmp_path_factory):
    return Token(tmp_path_factory.mktemp("oem"))


@pytest.fixture
def mcuboot(token, tmp_path):
    def sign(kind, image=BODY, settings=SETTINGS):
        signed = sign_mcuboot_image(image, settings, token.uri(kind), environment=token.environment)
        path = tmp_path / f"{kind.value}.bin"
        path.write_bytes(signed)
        return path

    return sign


@pytest.fixture
def esp(token, tmp_path):
    def sign(kind, image=ESP_IMAGE, **options):
        signed = sign_esp_image(image, token.uri(kind), environment=token.environment, **options)
        path = tmp_path / "esp.bin"
        path.write_bytes(signed)
        return path

    return sign


def accepts(*command):
    return subprocess.run(list(map(str, command)), check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("kind", MCUBOOT_KINDS)
def test_imgtool_accepts_an_image_that_a_token_signed(tool, token, mcuboot, kind):
    assert accepts(tool("imgtool"), "verify", "--key", token.pem(kind), mcuboot(kind))


def test_imgtool_does_not_accept_it_with_another_key(tool, token, mcuboot):
    assert not accepts(tool("imgtool"), "verify", "--key", token.pem(KeyKind.RSA2048), mcuboot(KeyKind.P256))


def test_it_is_the_image_that_imgtool_makes_with_a_key_file_but_for_the_signature(tool, mcuboot, tmp_path):
    key, body, theirs = tmp_path / "key.pem", tmp_path / "body.bin", tmp_path / "theirs.bin"
    body.write_bytes(BODY)
    subprocess.run([tool("imgtool"), "keygen", "-k", key, "-t", "ecdsa-p256"], check=True, capture_output=True)
    layout = ["--version", "3.1.4+159", "--header-size", "0x200", "--pad-header", "--slot-size", "0x40000"]
    more = ["--align", "8", "--security-counter", "7"]
    sign = [tool("imgtool"), "sign", "--key", key, *layout, *more, body, theirs]
    subprocess.run(sign, check=True, capture_output=True)
    settings = McubootSettings(SETTINGS.version, SETTINGS.slot_size, more=("--security-counter", "7"))
    ours, other = (read_mcuboot(one.read_bytes()) for one in (mcuboot(KeyKind.P256, settings=settings), theirs))
    assert (ours.sha256, ours.version) == (other.sha256, other.version)
    assert [kind for kind, _ in ours.tlvs] == [kind for kind, _ in other.tlvs]


@pytest.mark.parametrize("kind", ESP_KINDS)
def test_espsecure_accepts_an_image_that_a_token_signed(tool, token, esp, kind):
    verify = ("verify-signature", "--version", "2", "--keyfile", token.pem(kind))
    assert accepts(tool("espsecure"), *verify, esp(kind))


def test_espsecure_does_not_accept_it_with_another_key(tool, token, esp):
    verify = ("verify-signature", "--version", "2", "--keyfile", token.pem("second"))
    assert not accepts(tool("espsecure"), *verify, esp(KeyKind.RSA3072))


def test_espsecure_accepts_both_signatures_of_an_image_that_two_keys_signed(tool, token, esp, tmp_path):
    once = esp(KeyKind.RSA3072).read_bytes()
    twice = tmp_path / "twice.bin"
    twice.write_bytes(sign_esp_image(once, token.uri("second"), append=True, environment=token.environment))
    for name in (KeyKind.RSA3072, "second"):
        verify = ("verify-signature", "--version", "2", "--keyfile", token.pem(name))
        assert accepts(tool("espsecure"), *verify, twice)


@pytest.mark.parametrize("more", [("--pad",), ("--pad", "--confirm"), ("--security-counter", "7", "--pad", "--test")])
def test_imgtool_accepts_an_image_that_fills_its_slot(tool, token, mcuboot, more):
    signed = mcuboot(KeyKind.P256, settings=McubootSettings(SETTINGS.version, SETTINGS.slot_size, more=more))
    assert accepts(tool("imgtool"), "verify", "--key", token.pem(KeyKind.P256), signed)
    assert signed.stat().st_size == SETTINGS.slot_size


REFUSALS = {
    "an empty image": (KeyKind.P256, b"", SETTINGS, "signing.image"),
    "a key file behind its letter": (
        KeyKind.P256,
        BODY,
        McubootSettings(SETTINGS.version, 0x40000, more=("-kk.pem",)),
        "signing.options",
    ),
    "an option that signs nothing": (
        KeyKind.P256,
        BODY,
        McubootSettings(SETTINGS.version, 0x40000, more=("--help",)),
        "signing.options",
    ),
    "a header as large as the memory": (
        KeyKind.P256,
        BODY,
        McubootSettings(SETTINGS.version, 0x40000, 1 << 40),
        "signing.options",
    ),
    "an image with a header": (KeyKind.P256, unsigned_image(), SETTINGS, "signing.image"),
    "Intel HEX": (KeyKind.P256, b":020000040000FA\n" + BODY, SETTINGS, "signing.image"),
    "an image that does not fit": (KeyKind.P256, BODY, McubootSettings(SETTINGS.version, 0x2000), "signing.options"),
    "a key file after all": (
        KeyKind.P256,
        BODY,
        McubootSettings(SETTINGS.version, 0x40000, more=("--key=k.pem",)),
        "signing.options",
    ),
    "a pre-release": (KeyKind.P256, BODY, McubootSettings(Version.parse("1.0.0-rc.1"), 0x40000), "signing.options"),
    "an option that imgtool does not know": (
        KeyKind.P256,
        BODY,
        McubootSettings(SETTINGS.version, 0x40000, more=("--konfirm",)),
        "signing.options",
    ),
}


@pytest.mark.parametrize(("kind", "image", "settings", "code"), REFUSALS.values(), ids=REFUSALS)
def test_what_imgtool_would_not_take_is_refused_in_one_line(mcuboot, kind, image, settings, code):
    with pytest.raises(SigningError) as caught:
        mcuboot(kind, image, settings)
    assert (caught.value.code, "\n" in str(caught.value)) == (code, False)


@pytest.mark.parametrize(("version", "told"), [("256.0.0", "major number up to 255"), ("1.0.65536", "up to 65535")])
def test_a_version_that_no_header_has_room_for_is_told(mcuboot, version, told):
    with pytest.raises(SigningError, match=told):
        mcuboot(KeyKind.P256, settings=McubootSettings(Version.parse(version), 0x40000))


def test_a_tool_that_falls_over_is_one_clear_line(monkeypatch):
    traceback = "import sys; print('noise', file=sys.stderr); {}['the cause']"
    with pytest.raises(SigningError, match=r"^imgtool refuses: KeyError: 'the cause'$"):
        tool_runs._run("imgtool", [sys.executable, "-c", traceback])


def test_what_is_no_esp_image_is_not_signed(esp):
    with pytest.raises(SigningError, match="no image of an ESP"):
        esp(KeyKind.RSA3072, BODY)


@pytest.mark.parametrize("kind", [KeyKind.RSA2048, KeyKind.ED25519])
def test_a_key_that_no_esp_chip_takes_is_refused(esp, kind):
    with pytest.raises(SigningError) as caught:
        esp(kind)
    assert caught.value.code == "signing.key"


def test_an_image_is_not_signed_over_a_signature(esp):
    once = esp(KeyKind.RSA3072).read_bytes()
    with pytest.raises(SigningError, match="--append"):
        esp(KeyKind.RSA3072, once)


def test_a_chip_takes_keys_of_one_kind(esp):
    once = esp(KeyKind.RSA3072).read_bytes()
    with pytest.raises(SigningError, match="one kind"):
        esp(KeyKind.P256, once, append=True)


def test_a_key_that_the_token_does_not_hold_is_told(token):
    with pytest.raises(FirmwareError, match="'nobody'"):
        sign_mcuboot_image(BODY, SETTINGS, token.uri("nobody"), environment=token.environment)


def test_another_jose_library_verifies_the_signature_of_a_bundle(token, tmp_path):
    public = make_key(
        token.uri("release"),
        tmp_path / "release.pem",
        kind=KeyKind.P256,
        label=RELEASE_LABEL,
        environment=token.environment,
    )
    plan = (
        b'product = "p"\nversion = "1.0.0"\n[flash]\nkind = "stm32"\n[[image]]\nname = "a"\nfile = "a"\naddress = 0\n'
    )
    contents = sign_bundle(pack(plan, lambda _: b"x"), token.uri("release"), environment=token.environment)
    (tmp_path / "p.bundle").write_bytes(contents.packed())
    with zipfile.ZipFile(tmp_path / "p.bundle") as archive:
        payload, signature = archive.read("bundle.toml"), json.loads(archive.read("signature.json"))
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    envelope = jws.JWS()
    envelope.deserialize(json.dumps(signature))
    envelope.verify(jwk.JWK.from_pem(pem), detached_payload=payload)
    assert envelope.is_valid


def test_any_zip_tool_opens_a_bundle(tmp_path):
    plan = (
        b'product = "p"\nversion = "1.0.0"\n[flash]\nkind = "stm32"\n[[image]]\nname = "a"\nfile = "a"\naddress = 0\n'
    )
    content = pack(plan, lambda _: b"x").packed()
    (tmp_path / "p.zip").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == unzipped(content, "p.zip")
