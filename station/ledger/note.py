"""Signed notes (C2SP signed-note): a text, and below it who signed it.

::

    text, ending with a line feed
    (an empty line)
    — <key name> <base64 of key id and signature>

The key id is four bytes that tell keys of one name apart; they are no safety, the key is. Two kinds of signature of the
C2SP list are known here:

=====  =========================================  ==========================================  ========================
type   signature                                  key id (first 4 bytes)                      public key in a vkey
=====  =========================================  ==========================================  ========================
0x01   Ed25519 (RFC 8032) over the text           SHA-256(name || 0x0A || 0x01 || key)        32 bytes
0x02   ECDSA with SHA-256 over the text, DER      SHA-256(SubjectPublicKeyInfo)               SubjectPublicKeyInfo, DER
=====  =========================================  ==========================================  ========================

A *vkey* is how a public key is handed over: ``<name>+<key id, 8 hex digits>+<base64 of type and public key>``.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from station.ledger.errors import NoteInvalid

LedgerPublicKey: TypeAlias = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
"""What may sign a ledger: Ed25519, or ECDSA on P-256."""

ED25519: Final = 0x01
ECDSA: Final = 0x02

NOTE_LIMIT: Final = 64 * 1024
"""Bytes of a note that are read; one with many witnesses has a few thousand."""

SIGNATURES_LIMIT: Final = 100
"""Signatures of a note that are looked at."""

_DASH: Final = "\N{EM DASH} "
_KEY_ID: Final = 4
_ED25519_SIZE: Final = 32


def decode64(text: str) -> bytes:
    """Read base64 (RFC 4648 4) strictly: one text for each value.

    Raises:
        ValueError: it is not base64, or not as it is written.
    """
    value = b64decode(text, validate=True)
    if encode64(value) != text:
        raise ValueError("base64 with bits that say nothing")
    return value


def encode64(value: bytes) -> str:
    """Write base64."""
    return b64encode(value).decode("ascii")


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One line below a note."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """Return it as it stands in a note."""
        return f"{_DASH}{self.name} {encode64(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key, and the name it signs under."""

    name: str
    public: LedgerPublicKey

    @property
    def kind(self) -> int:
        """The type byte of its signatures."""
        return ED25519 if isinstance(self.public, ed25519.Ed25519PublicKey) else ECDSA

    @property
    def encoded(self) -> bytes:
        """The public key as it stands in a vkey."""
        if isinstance(self.public, ed25519.Ed25519PublicKey):
            return self.public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return self.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def key_id(self) -> bytes:
        """Four bytes."""
        if self.kind == ECDSA:
            return sha256(self.encoded).digest()[:_KEY_ID]
        return sha256(self.name.encode() + b"\n" + bytes((self.kind,)) + self.encoded).digest()[:_KEY_ID]

    def vkey(self) -> str:
        """Return the key as text."""
        return f"{self.name}+{self.key_id.hex()}+{encode64(bytes((self.kind,)) + self.encoded)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a vkey.

        Raises:
            NoteInvalid: it is none, or of a kind that is not known here.
        """
        try:
            name, key_id, encoded = text.strip().split("+", 2)  # base64 may hold a plus, a name may not
            check_name(name)
            kind, *_ = raw = decode64(encoded)
            key = cls(name, _public(kind, raw[1:]))
        except ValueError as error:
            raise NoteInvalid(
                "not a verifier key; it looks like NAME+0123abcd+BASE64", code="ledger.key_form"
            ) from error
        if key.key_id.hex() != key_id:
            raise NoteInvalid(
                f"the key id of {name} is {key_id}, and should be {key.key_id.hex()}: the key was mistyped",
                code="ledger.key_form",
            )
        return key

    def verify(self, text: str, signature: bytes) -> bool:
        """Whether a signature is this key's over a text."""
        try:
            if isinstance(self.public, ed25519.Ed25519PublicKey):
                self.public.verify(signature, text.encode())
            else:
                self.public.verify(signature, text.encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


def check_name(name: str) -> None:
    """Refuse what can't be the name of a key.

    Raises:
        ValueError: it is empty, or holds a space or a plus.
    """
    if not name or "+" in name or any(character.isspace() or not character.isprintable() for character in name):
        raise ValueError("the name of a key is not empty, and holds neither a space nor a plus")


def _public(kind: int, encoded: bytes) -> LedgerPublicKey:
    if kind == ED25519 and len(encoded) == _ED25519_SIZE:
        return ed25519.Ed25519PublicKey.from_public_bytes(encoded)
    if kind == ECDSA:
        return checked_public(load_der_public_key(encoded))
    raise ValueError("a kind of key that is not known here")


def checked_public(key: object) -> LedgerPublicKey:
    """Take a public key that may sign a ledger.

    Raises:
        ValueError: it is of another kind.
    """
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ValueError("a ledger is signed by Ed25519 or P-256")


def load_public_pem(content: bytes) -> LedgerPublicKey:
    """Read a public key (PEM, SubjectPublicKeyInfo).

    Raises:
        ValueError: it is none, or of another kind.
    """
    return checked_public(load_pem_public_key(content))


@dataclass(frozen=True, slots=True)
class Note:
    """A text with signatures; nobody has looked at them yet."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def serialize(self) -> str:
        """Return the note."""
        return f"{self.text}\n{''.join(signature.line() for signature in self.signatures)}"

    @classmethod
    def parse(cls, note: str) -> Self:
        """Read a note.

        Raises:
            NoteInvalid: it is none.
        """
        text, separator, lines = note[:NOTE_LIMIT].rpartition("\n\n")
        controls = any(character < " " and character != "\n" for character in note)
        if len(note) > NOTE_LIMIT or not separator or controls or not lines.endswith("\n"):
            raise NoteInvalid("not a signed note: a text, an empty line, signatures")
        signatures = tuple(_signature(line) for line in lines.removesuffix("\n").split("\n")[: SIGNATURES_LIMIT + 1])
        if len(signatures) > SIGNATURES_LIMIT:
            raise NoteInvalid(f"a note with more than {SIGNATURES_LIMIT} signatures")
        return cls(f"{text}\n", signatures)

    def signed_by(self, keys: Sequence[VerifierKey]) -> VerifierKey:
        """Return the first of some keys that signed the note.

        Raises:
            NoteInvalid: none did (``ledger.note_unknown_key``), or one that is named did not
                (``ledger.note_signature``).
        """
        by_id = {(key.name, key.key_id): key for key in keys}
        signers = []
        for line in self.signatures:
            key = by_id.get((line.name, line.key_id))
            if key is None:
                continue  # somebody's that we don't know, like a witness
            if not key.verify(self.text, line.signature):
                raise NoteInvalid(f"the signature of {key.name} is not right", code="ledger.note_signature")
            signers.append(key)
        if not signers:
            names = ", ".join(dict.fromkeys(f"key {line.key_id.hex()} of {line.name}" for line in self.signatures))
            given = ", ".join(dict.fromkeys(key.key_id.hex() for key in keys)) or "none"
            raise NoteInvalid(
                f"signed by {names}, which was not given ({given}); give the ledger key of the station that wrote it: "
                "its ca/ledger.pem, or what 'station manifest checkpoint --vkey' prints there",
                code="ledger.note_unknown_key",
            )
        return signers[0]


def _signature(line: str) -> NoteSignature:
    try:
        name, encoded = line.removeprefix(_DASH).split(" ")
        value = decode64(encoded)
        check_name(name)
    except (ValueError, binascii.Error) as error:
        raise NoteInvalid(f"not a signature line of a note: {line[:80]!r}") from error
    if not line.startswith(_DASH) or len(value) <= _KEY_ID:
        raise NoteInvalid(f"not a signature line of a note: {line[:80]!r}")
    return NoteSignature(name, value[:_KEY_ID], value[_KEY_ID:])
