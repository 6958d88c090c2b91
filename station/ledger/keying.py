"""The ledger key: made in the token of the line, named by its public half in a file beside the CA's certificates.

Ed25519 where the token can, since every reader of signed notes knows it; else ECDSA on P-256. It is held to the same
rules as the CA's keys: born in the token, never to leave it, and found by its public key.
"""

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hsm import KeyKind, KeyMissing, Signer, TokenGroup
from hsm.algorithms import KeyFamily
from hsm.files import write_new
from hsm.key_store import find_key, find_or_generate
from hsm.keys import Signing
from hsm.pkcs11_token import Pkcs11Token
from hsm.quirks import families
from station.ledger.anchor import Anchors
from station.ledger.errors import LedgerError
from station.ledger.ledger import Ledger
from station.ledger.note import LedgerPublicKey, checked_public, load_public_pem
from station.ledger.store import LedgerReader
from station.manifest import Manifest

LEDGER_FILE: Final = "ledger.pem"
LEDGER_LABEL: Final = "ledger"


def make_ledger_key(signer: Signer, path: Path) -> LedgerPublicKey:
    """Make the ledger key in a token, or find it there, and write its public half. Blocks.

    Args:
        signer: opened ``writable``.
        path: of the new file; what is there is never overwritten.

    Raises:
        HsmError: the token can't make it, or holds a key of this label that breaks a rule.
        LedgerError: the file is there, or can't be written.
    """
    if path.exists():
        raise LedgerError(f"{path} is there already, and is never overwritten: move it away first")
    key = find_or_generate(signer, _kind(signer), LEDGER_LABEL, (KeyFamily.ED25519, KeyFamily.P256))
    public = checked_public(key.public_key())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    except OSError as error:
        raise LedgerError(
            f"{path}: can't be written ({error.strerror}); try again: the key stays in the token"
        ) from error
    return public


def _kind(signer: Signer) -> KeyKind:
    port = signer.port
    can = isinstance(port, Pkcs11Token) and KeyFamily.ED25519 in families(port.mechanisms)
    return KeyKind.ED25519 if can else KeyKind.P256


def read_ledger_key(path: Path) -> LedgerPublicKey:
    """Read the public half of a ledger key.

    Raises:
        LedgerError: the file can't be read, or holds something else.
    """
    try:
        return load_public_pem(path.read_bytes())
    except OSError as error:
        raise LedgerError(
            f"{path}: can't be read ({error.strerror}); check the path", code="ledger.key_form"
        ) from error
    except ValueError as error:
        raise LedgerError(
            f"{path}: not a public key of Ed25519 or P-256 (PEM); 'station manifest ledger-key' writes one",
            code="ledger.key_form",
        ) from error


def check_never_sealed(path: Path, manifest: Manifest, signer: Signing) -> None:
    """Refuse a manifest that was sealed before, where the key's file is gone: nothing would find an older copy. Blocks.

    Raises:
        LedgerError: the manifest, the file beside it, or a token holds a checkpoint (``ledger.key_gone``).
    """
    with LedgerReader(manifest.path) as reader:
        where = None if reader.newest_checkpoint() is None else str(manifest.path)
    if where is None and isinstance(signer, Signer | TokenGroup):
        found = next(Anchors(manifest.path, manifest.identity, signer).read(), None)
        where = None if found is None else found.where
    if where is not None:
        raise LedgerError(
            f"{path}: the ledger key's file is gone, and {where} holds a checkpoint: put the file back from a copy, "
            "or write it again of the key in the token with 'station manifest ledger-key'",
            code="ledger.key_gone",
            operator="The ledger key is missing. Stop the line and call the security officer.",
        )


def open_ledger(path: Path, manifest: Manifest, signer: Signing) -> Ledger:
    """Open the ledger of a manifest; ``Ledger.check`` tells whether it is the newest one. Blocks.

    Args:
        path: public half of the ledger key.
        manifest: open for writing.
        signer: the token that holds the key, or the tokens.

    Raises:
        LedgerError: the file can't be read, or no token that is here holds the key (``ledger.key_missing``).
        HsmError: a token refuses.
    """
    if not isinstance(signer, Signer | TokenGroup):
        raise TypeError("the ledger is signed by a token, or by several")
    try:
        key = find_key(signer, read_ledger_key(path))
    except KeyMissing as error:
        signers = signer.signers if isinstance(signer, TokenGroup) else ()
        away = [f"{one.name} is away, and may hold it: plug it in" for one in signers if one.unavailable is not None]
        raise LedgerError(
            f"no token that is here holds the ledger key of {path}; {'; '.join(away) or 'name the one that does'}",
            code="ledger.key_missing",
            operator="The token with the ledger key is not here. Call the line engineer.",
        ) from error
    return Ledger(manifest, key, Anchors(manifest.path, manifest.identity, signer))
