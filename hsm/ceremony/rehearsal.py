"""Everything that a rehearsal puts in the place of real things.

A rehearsal does the same file on other tokens. What the file refers to and earlier ceremonies made has its key in a
real token, so it gets a stand-in: a certificate that says the same, with the mark of a rehearsal in its names, for a
key that the rehearsal's token holds. Nothing of this is signed by anybody who is trusted, and nothing is written
outside of the rehearsal's folder.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from hsm.algorithms import SCHEMES, KeyFamily, KeyKind, PublicKey, family_of
from hsm.ceremony.certificates import known_key, marked, pem
from hsm.ceremony.copying import OPEN, copy_key
from hsm.ceremony.plan import (
    Backup,
    Crl,
    CrossSign,
    Import,
    Plan,
    Request,
    RestoreDrill,
    Step,
    TokenChoice,
    inputs_of,
    issuer_of,
    output_of,
)
from hsm.errors import CeremonyError
from hsm.files import write_new
from hsm.key_store import RULES, generate_key
from hsm.keys import AnyTokenKey
from hsm.signer import Signer

FOLDER: Final = "stand-ins"
NOTE: Final = "REHEARSAL.txt"
_NOTE_TEXT: Final = b"A rehearsal on SoftHSM made what is in this folder. None of it is to be trusted, or used.\n"

_SoftKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
_Key: TypeAlias = _SoftKey | AnyTokenKey


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What stands in for real tokens and files."""

    folder: Path
    tokens: Mapping[str, TokenChoice]
    stand_ins: Mapping[str, Path]
    """Files that are read in place of others."""


def prepare_rehearsal(plan: Plan, folder: Path, tokens: Mapping[str, TokenChoice]) -> Rehearsal:
    """Make the stand-ins of a plan. Blocks.

    Args:
        plan: what will be rehearsed.
        folder: empty or missing; gets everything.
        tokens: empty SoftHSM tokens, one for each of the plan's.

    Raises:
        CeremonyError: the folder holds something, or a file of the plan can't be read.
        HsmError: a token can't be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_new(folder / NOTE, _NOTE_TEXT)
    except FileExistsError:
        raise CeremonyError(
            f"{folder} holds another rehearsal: choose an empty folder", code="ceremony.file_exists"
        ) from None
    real = _real_files(plan)
    if not real:
        return Rehearsal(folder, tokens, {})
    (folder / FOLDER).mkdir()
    with ExitStack() as opened:
        signers = {
            name: opened.enter_context(
                Signer.open(tokens[name].uri, environment=tokens[name].environment, writable=True)
            )
            for name in dict.fromkeys(token for _, places in real.items() for token in places)
        }
        makers = _Makers(plan, folder / FOLDER, signers, real)
        return Rehearsal(folder, tokens, makers.make())


def _real_files(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return the certificates that earlier ceremonies made, each with the tokens that have to hold its key."""
    made: set[str] = set()
    found: dict[str, tuple[str, ...]] = {}
    for step in plan.steps:
        for file in inputs_of(step):
            foreign = isinstance(step, CrossSign) and file == step.of
            other = (isinstance(step, Import) and file == step.request) or (
                isinstance(step, Crl) and file == step.previous
            )
            if file not in made and not other and (file in found or not foreign):
                found[file] = tuple(dict.fromkeys((*found.get(file, ()), *_places(step, file))))
        if output := output_of(step):
            made.add(output)
    return found


def _places(step: Step, file: str) -> tuple[str, ...]:
    issuer = issuer_of(step)
    places = [issuer.token] if issuer is not None and issuer.certificate == file else []
    match step:
        case Request() | Backup() | RestoreDrill() if step.of == file:
            places.append(step.token)
        case Import() if step.answer == file:
            places.append(step.token)
    return tuple(places)


class _Makers:
    """Makes the stand-ins of one plan."""

    def __init__(
        self, plan: Plan, folder: Path, signers: Mapping[str, Signer], real: Mapping[str, Sequence[str]]
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._signers = signers
        self._real = real
        self._originals = {file: x509.load_pem_x509_certificate((plan.folder / file).read_bytes()) for file in real}

    def make(self) -> dict[str, Path]:
        copied = {step.of for step in self._plan.steps if isinstance(step, Backup)}
        keys = {
            file: self._key(number, known_key(self._originals[file]), places, copied=file in copied)
            for number, (file, places) in enumerate(self._real.items(), start=1)
        }
        by_name = {self._originals[file].subject: key for file, key in keys.items()}
        stand_ins: dict[str, Path] = {}
        for file, key in keys.items():
            original = self._originals[file]
            signing = key if original.subject == original.issuer else by_name.get(original.issuer)
            made = _imitation(original, key, signing or _soft_key(KeyFamily.P256, 0))
            stand_ins[file] = self._write(file, pem(made))
        for step in self._plan.steps:
            if isinstance(step, Import) and step.request is not None:
                asked = x509.load_pem_x509_csr((self._plan.folder / step.request).read_bytes())
                key = keys[step.answer]
                builder = x509.CertificateSigningRequestBuilder().subject_name(marked(asked.subject))
                stand_ins[step.request] = self._write(step.request, pem(builder.sign(key, _hash(key))))
            if isinstance(step, Crl) and step.previous is not None and step.previous not in self._plan.outputs:
                key = keys[step.issuer.certificate]
                before = (self._plan.folder / step.previous).read_bytes()
                stand_ins[step.previous] = self._write(step.previous, _imitated_crl(before, key))
        return stand_ins

    def _key(self, number: int, like: PublicKey, places: Sequence[str], *, copied: bool) -> _Key:
        family = family_of(like)
        assert family is not None  # noqa: S101 - for mypy: PublicKey is one of ours
        bits = like.key_size if isinstance(like, rsa.RSAPublicKey) else 0
        if not places:
            return _soft_key(family, bits)
        label = f"stand-in {number}"
        kind = KeyKind(f"rsa{bits}" if bits else family.value)
        several = copied or len(places) > 1
        key = generate_key(self._signers[places[0]], kind, label, rules=OPEN if several else RULES)
        for place in places[1:]:
            copy_key(key, self._signers[place], label)
        return key

    def _write(self, file: str, content: bytes) -> Path:
        path = self._folder / f"{len(list(self._folder.iterdir())) + 1}-{Path(file).name}"
        write_new(path, content)
        return path


def _imitation(original: x509.Certificate, key: _Key, signing: _Key) -> x509.Certificate:
    """Return a certificate that says what another says, for another key."""
    public, above = key.public_key(), signing.public_key()
    own = x509.SubjectKeyIdentifier.from_public_key(public)
    builder = (
        x509.CertificateBuilder()
        .subject_name(marked(original.subject))
        .issuer_name(marked(original.issuer))
        .public_key(public)
        .serial_number(original.serial_number)
        .not_valid_before(original.not_valid_before_utc)
        .not_valid_after(original.not_valid_after_utc)
    )
    for extension in original.extensions:
        value = extension.value
        if extension.oid == ExtensionOID.SUBJECT_KEY_IDENTIFIER:
            value = own
        elif extension.oid == ExtensionOID.AUTHORITY_KEY_IDENTIFIER:
            value = x509.AuthorityKeyIdentifier.from_issuer_public_key(above)
        builder = builder.add_extension(value, critical=extension.critical)
    return builder.sign(signing, _hash(signing))


def _imitated_crl(content: bytes, key: _Key) -> bytes:
    """Return a CRL that says what another says, signed by another key."""
    load = x509.load_pem_x509_crl if content.startswith(b"-----") else x509.load_der_x509_crl
    before = load(content)
    builder = x509.CertificateRevocationListBuilder(
        marked(before.issuer), before.last_update_utc, before.next_update_utc, list(before.extensions), list(before)
    )
    return builder.sign(key, _hash(key)).public_bytes(Encoding.DER)


def _hash(key: _Key) -> hashes.SHA256 | hashes.SHA384 | None:
    family = family_of(key.public_key())
    assert family is not None  # noqa: S101 - made here
    return SCHEMES[family].hash


def _soft_key(family: KeyFamily, bits: int) -> _SoftKey:
    """Return a key outside of any token: it stands for one that nobody here holds."""
    match family:
        case KeyFamily.RSA:
            return rsa.generate_private_key(65537, bits)
        case KeyFamily.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return ec.generate_private_key(ec.SECP256R1() if family is KeyFamily.P256 else ec.SECP384R1())
