"""Making a CA: two tokens, two keys, two certificates, nothing overwritten, nothing half made."""

import datetime as dt
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from hsm import CeremonyError, FieldError, KeyKind, TokenError, TokenUri, find_key, init_ca, read_facts
from hsm.key_store import label_taken
from hsm.testing import open_signer
from softhsm import make_tokens


@pytest.fixture
def tokens(tmp_path):
    return make_tokens(tmp_path / "hsm", ["root", "intermediate"])


def run(tokens, folder, **changes):
    arguments = {
        "root": TokenUri.parse(tokens.uri("root")),
        "intermediate": TokenUri.parse(tokens.uri("intermediate")),
        "name": "Acme Devices",
        "folder": folder,
        "root_kind": KeyKind.P256,
        "environment": tokens.environment,
        **changes,
    }
    return init_ca(**arguments)


def labels(tokens):
    held = []
    for token, label in (("root", "root-ca"), ("intermediate", "intermediate-ca")):
        with open_signer(tokens, token) as signer:
            held.extend([label] if label_taken(signer, label) else [])
    return held


@pytest.mark.parametrize(
    ("root_kind", "intermediate_kind"),
    [
        (KeyKind.P384, KeyKind.P256),
        (KeyKind.P256, KeyKind.RSA2048),
        (KeyKind.RSA2048, KeyKind.P384),
        (KeyKind.ED25519, KeyKind.ED25519),
    ],
)
def test_openssl_and_gnutls_accept_the_chain(tokens, tmp_path, root_kind, intermediate_kind):
    made = run(tokens, tmp_path / "ca", root_kind=root_kind, intermediate_kind=intermediate_kind)
    openssl = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-CAfile", made.root_file, made.intermediate_file]
    subprocess.run(openssl, check=True, capture_output=True)
    certtool = ["certtool", "--verify", "--load-ca-certificate", made.root_file, "--infile", made.intermediate_file]
    subprocess.run(certtool, check=True, capture_output=True)


def test_certificates_are_a_cas(tokens, tmp_path):
    made = run(tokens, tmp_path)
    for certificate, pathlen, name in (
        (made.root, 1, "Acme Devices Root CA"),
        (made.intermediate, 0, "Acme Devices Intermediate CA 1"),
    ):
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert (constraints.critical, constraints.value) == (True, x509.BasicConstraints(ca=True, path_length=pathlen))
        assert usage.critical
        assert usage.value.key_cert_sign
        assert usage.value.crl_sign
        assert not usage.value.digital_signature
        assert certificate.not_valid_after_utc == dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
        assert certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == name
    assert made.intermediate.issuer == made.root.subject == made.root.issuer


def test_end_of_validity_can_be_chosen(tokens, tmp_path):
    end = dt.datetime(2046, 1, 1, tzinfo=dt.UTC)
    made = run(tokens, tmp_path, not_after=end)
    assert made.root.not_valid_after_utc == made.intermediate.not_valid_after_utc == end


def test_each_key_is_in_its_own_token_and_keeps_the_rules(tokens, tmp_path):
    made = run(tokens, tmp_path)
    for token, certificate in (("root", made.root), ("intermediate", made.intermediate)):
        with open_signer(tokens, token) as signer:
            assert read_facts(find_key(signer, certificate.public_key())).broken == ()


def test_files_are_readable_by_all_and_hold_the_certificates(tokens, tmp_path):
    made = run(tokens, tmp_path / "deep" / "ca")
    for path, certificate in ((made.root_file, made.root), (made.intermediate_file, made.intermediate)):
        assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444
        assert x509.load_pem_x509_certificate(path.read_bytes()) == certificate
    assert sorted(path.name for path in (tmp_path / "deep" / "ca").iterdir()) == ["intermediate.pem", "root.pem"]


def test_label_can_be_chosen_in_the_uri(tokens, tmp_path):
    uri = replace(TokenUri.parse(tokens.uri("root")), object="acme-2026")
    made = run(tokens, tmp_path, root=uri)
    assert made.root_key == "acme-2026"
    with open_signer(tokens, "root") as signer:
        assert label_taken(signer, "acme-2026")


def test_open_signers_can_be_used(tokens, tmp_path):
    with (
        open_signer(tokens, "root", writable=True) as root,
        open_signer(tokens, "intermediate", writable=True) as intermediate,
    ):
        made = run(tokens, tmp_path, root=root, intermediate=intermediate)
        assert not root.closed
    made.intermediate.verify_directly_issued_by(made.root)


def test_second_run_overwrites_nothing(tokens, tmp_path):
    made = run(tokens, tmp_path)
    before = made.root_file.read_bytes()
    with pytest.raises(CeremonyError, match=r"root.pem is there already.*choose another folder") as caught:
        run(tokens, tmp_path)
    assert caught.value.code == "ceremony.file_exists"
    with pytest.raises(CeremonyError, match=r"holds a key called 'root-ca' already") as caught:
        run(tokens, tmp_path / "other")
    assert caught.value.code == "ceremony.label_taken"
    assert made.root_file.read_bytes() == before
    assert not list((tmp_path / "other").iterdir())


def test_one_token_for_both_is_refused(tokens, tmp_path):
    uri = TokenUri.parse(tokens.uri("root"))
    with pytest.raises(CeremonyError, match="both URIs name the same one") as caught:
        run(tokens, tmp_path, intermediate=uri)
    assert caught.value.code == "ceremony.one_token"
    with open_signer(tokens, "root", writable=True) as signer, pytest.raises(CeremonyError) as caught:
        run(tokens, tmp_path, root=signer, intermediate=signer)
    assert caught.value.code == "ceremony.one_token"


@pytest.mark.parametrize(
    ("name", "said"), [("", "a CA needs a name"), ("  ", "a CA needs a name"), ("x" * 47, "at most 46 fit")]
)
def test_name_that_fits_into_no_certificate_makes_nothing(tokens, tmp_path, name, said):
    with pytest.raises(FieldError, match=said) as caught:
        run(tokens, tmp_path / "ca", name=name)
    assert caught.value.code == "field.length"
    assert not (tmp_path / "ca").exists()


def test_longest_name_fits(tokens, tmp_path):
    made = run(tokens, tmp_path / "ca", name="x" * 46)
    assert made.intermediate.subject.rfc4514_string().startswith(f"CN={'x' * 46} Intermediate CA 1,")


def test_missing_token_makes_nothing(tokens, tmp_path):
    uri = replace(TokenUri.parse(tokens.uri("intermediate")), token="gone")  # noqa: S106 - a label
    with pytest.raises(TokenError, match="token 'gone' is not there"):
        run(tokens, tmp_path / "ca", intermediate=uri)
    assert labels(tokens) == []
    assert not list((tmp_path / "ca").iterdir())


def test_token_that_may_not_be_written_makes_nothing(tokens, tmp_path):
    """The second key can't be made: the first one is taken back, and the next run succeeds."""
    with (
        open_signer(tokens, "root", writable=True) as root,
        open_signer(tokens, "intermediate") as read_only,
        pytest.raises(CeremonyError, match=r"SessionReadOnly\) \(undone") as caught,
    ):
        run(tokens, tmp_path / "ca", root=root, intermediate=read_only)
    assert caught.value.code == "token.session_read_only"
    assert labels(tokens) == []
    assert run(tokens, tmp_path / "ca").root


def test_disk_that_fails_takes_keys_and_files_back(tokens, tmp_path, monkeypatch):
    """The second file can't be written, as on a full disk."""
    written = []

    def fail(descriptor):
        written.append(descriptor)
        if len(written) == 3:  # file, folder, file
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("hsm.files.os.fsync", fail)
    with pytest.raises(CeremonyError, match=r"No space left on device.*undone") as caught:
        run(tokens, tmp_path / "ca")
    assert caught.value.code == "ceremony.folder"
    monkeypatch.undo()
    assert labels(tokens) == []
    assert not list((tmp_path / "ca").iterdir())
    assert run(tokens, tmp_path / "ca").root


def test_folder_that_cannot_be_written_makes_nothing(tokens):
    with pytest.raises(CeremonyError, match="/proc/none can't be written") as caught:
        run(tokens, Path("/proc/none"))
    assert caught.value.code == "ceremony.folder"
    assert labels(tokens) == []


@pytest.mark.parametrize("name", ["", "x" * 50, "Acme\n", "Acme\x1b[2J"])
def test_name_that_cannot_stand_in_a_certificate_is_refused(tokens, tmp_path, name):
    with pytest.raises(FieldError) as caught:
        run(tokens, tmp_path, name=name)
    assert "\x1b" not in str(caught.value)
