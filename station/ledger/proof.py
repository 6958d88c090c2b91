"""The proof that the event of a pass stands in a ledger (C2SP tlog-proof), in a file that needs nothing else but a key.

::

    c2sp.org/tlog-proof@v1
    extra <base64 of the event's leaf, see leaf.py>
    index 1039
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
    …                                                   audit path, from the leaf's sibling upwards
    (an empty line)
    the checkpoint, as it was signed
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from station.errors import DeviceError, printable
from station.ledger.checkpoint import SignedCheckpoint, open_checkpoint
from station.ledger.errors import NoteInvalid, ProofInvalid
from station.ledger.leaf import Event, parse_leaf
from station.ledger.note import LedgerPublicKey, VerifierKey, decode64, encode64
from station.ledger.tree import HASH_SIZE, leaf_hash, root_of_path
from station.line.proof import verify_proof

HEADER: Final = "c2sp.org/tlog-proof@v1"
SUFFIX: Final = ".tlog-proof"

PROOF_LIMIT: Final = 256 * 1024
"""Characters of a file that are read; a proof has some three thousand."""

_PATH_LIMIT: Final = 63

_PASS: Final = ("journal", "pass")
"""Kind and step of the event that the manifest's own rules write, once for each pass."""


@dataclass(frozen=True, slots=True)
class LedgerProof:
    """An event, its way up the tree, and the checkpoint above; nothing is verified yet."""

    leaf: bytes
    index: int
    path: tuple[bytes, ...]
    note: str

    def serialize(self) -> str:
        """Return the file."""
        path = "".join(f"{encode64(one)}\n" for one in self.path)
        return f"{HEADER}\nextra {encode64(self.leaf)}\nindex {self.index}\n{path}\n{self.note}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a file.

        Raises:
            ProofInvalid: it is no proof with an event in it.
        """
        head, separator, note = text[:PROOF_LIMIT].partition("\n\n")
        try:
            header, extra, index, *path = head.split("\n")
            if header != HEADER:
                raise ProofInvalid(f"not a proof: the file does not begin with {HEADER}", code="ledger.proof_form")
            proof = cls(
                decode64(_after(extra, "extra ")),
                int(_after(index, "index ")),
                tuple(decode64(line) for line in path),
                note,
            )
        except ValueError as error:
            raise ProofInvalid(
                "not a proof of an event: extra, index and path are missing", code="ledger.proof_form"
            ) from error
        sound = all(len(one) == HASH_SIZE for one in proof.path) and len(proof.path) <= _PATH_LIMIT
        if not separator or not sound or proof.serialize() != text:
            raise ProofInvalid("the proof is not written as it should be", code="ledger.proof_form")
        return proof


def _after(line: str, prefix: str) -> str:
    if not line.startswith(prefix):
        raise ValueError(line)
    return line.removeprefix(prefix)


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof was found to prove."""

    event: Event
    checkpoint: SignedCheckpoint
    board_signed: bool
    """The board's own signature in the event was checked, with the certificate."""


def check(
    proof: LedgerProof,
    keys: Sequence[VerifierKey | LedgerPublicKey],
    certificate: x509.Certificate | None = None,
) -> Proven:
    """Check that a pass is in the tree that a key signed, and (with a certificate) that it is the one of this board.

    Args:
        proof: from ``LedgerProof.parse``.
        keys: who may have signed the checkpoint.
        certificate: of the board.

    Raises:
        NoteInvalid: no such key signed the checkpoint.
        ProofInvalid: the event is not in the tree, is no pass, is about another certificate, or the board's signature
            is missing or wrong.
    """
    signed = open_checkpoint(proof.note, keys)
    root = root_of_path(leaf_hash(proof.leaf), proof.index, signed.checkpoint.size, proof.path)
    if root != signed.checkpoint.root:
        raise ProofInvalid(
            f"the event is not in the ledger: its path does not lead to the root of {signed.checkpoint.size} leaves "
            f"that {signed.key.name} signed"
        )
    event = parse_leaf(proof.leaf)
    if event.id != proof.index + 1:
        raise ProofInvalid(f"event {event.id} is not the one with index {proof.index}")
    if (event.kind, event.step) != _PASS:  # others name a serial and a certificate too: those of a board that failed
        raise ProofInvalid(
            f"event {event.id} is no pass: its kind is {printable(event.kind)}, its step {printable(event.step)}. Ask "
            "the factory for the proof of the pass",
            code="ledger.proof_no_pass",
        )
    if certificate is not None:
        _check_certificate(event, certificate)
    return Proven(event, signed, board_signed=certificate is not None)


def _check_certificate(event: Event, certificate: x509.Certificate) -> None:
    """Hold a certificate, and the board's signature, against the event of a pass."""
    facts = event.facts
    der = certificate.public_bytes(Encoding.DER)
    if facts.get("certificate_sha256") != hashlib.sha256(der).hexdigest():
        raise ProofInvalid("the event is about another certificate: SHA-256 differs", code="ledger.proof_certificate")
    try:
        parts = [bytes.fromhex(facts[name]) for name in ("challenge", "message", "signature")]
    except (KeyError, TypeError, ValueError) as error:
        raise ProofInvalid(
            "the board's own signature is not in the event (an older station did not write it there); without "
            "--certificate the rest is checked",
            code="ledger.proof_certificate",
        ) from error
    try:
        verify_proof(der, *parts)
    except DeviceError as error:
        raise ProofInvalid(
            f"the board's own signature is not right: {error}", code="ledger.proof_certificate"
        ) from error


__all__ = ["HEADER", "SUFFIX", "LedgerProof", "NoteInvalid", "Proven", "check"]
