"""Making a CA: a root in one token, an intermediate in another.

The root signs the intermediate and then rests in a safe; the intermediate (pathlen 0) goes to the line. Both keys are
generated in their tokens and can't leave them. Nothing is ever overwritten: labels and files must be free. If anything
fails on the way, keys and files that this run made are removed, and it can be run again.
"""

import datetime as dt
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography import x509

from hsm.algorithms import KeyKind
from hsm.ceremony.bench import PATIENCE
from hsm.ceremony.certificates import Wish, draft, extensions_of, pem, sign
from hsm.ceremony.plan import Limits
from hsm.errors import CeremonyError, FieldError, HsmError, TokenError
from hsm.files import write_new
from hsm.key_store import destroy_key, generate_key, label_taken
from hsm.keys import AnyTokenKey
from hsm.profiles import NO_EXPIRY
from hsm.root_mark import new_key_id
from hsm.signer import Signer
from hsm.templates import ATTRIBUTES, name_attribute
from hsm.uri import TokenUri

ROOT_LABEL: Final = "root-ca"
INTERMEDIATE_LABEL: Final = "intermediate-ca"
"""Labels of the keys, where the token's URI names no ``object``."""

ROOT_FILE: Final = "root.pem"
INTERMEDIATE_FILE: Final = "intermediate.pem"

_SUFFIXES: Final = ("Root CA", "Intermediate CA 1")
_NAME_MOST: Final = ATTRIBUTES["CN"].most - max(len(f" {end}") for end in _SUFFIXES)


@dataclass(frozen=True, slots=True)
class NewCa:
    """What a ceremony made."""

    root: x509.Certificate
    intermediate: x509.Certificate
    root_file: Path
    intermediate_file: Path
    root_key: str
    """Label of the root's key in its token."""
    intermediate_key: str


def init_ca(  # noqa: PLR0913 - a ceremony is its list of decisions
    *,
    root: Signer | TokenUri,
    intermediate: Signer | TokenUri,
    name: str,
    folder: Path,
    root_kind: KeyKind = KeyKind.P384,
    intermediate_kind: KeyKind = KeyKind.P256,
    now: dt.datetime | None = None,
    not_after: dt.datetime = NO_EXPIRY,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> NewCa:
    """Make a root and an intermediate CA. Blocks.

    Args:
        root: the token for the root's key: a signer that was opened ``writable``, or a URI, which is opened and closed
            here. ``object=`` in the URI is the key's label.
        intermediate: the same for the intermediate; must be another token.
        name: whose CA it is. The common names are ``<name> Root CA`` and ``<name> Intermediate CA 1``.
        folder: gets ``root.pem`` and ``intermediate.pem`` (0644); made if it is missing.
        root_kind: the root's key.
        intermediate_kind: the intermediate's key; devices verify its signatures.
        now: start of validity; the clock's time when left out.
        not_after: end of validity of both. Devices outlive plans, so there is none by default.
        environment: variables that the modules read.

    Raises:
        CeremonyError: a file is there, both tokens are one, the folder can't be written, or a step failed and was
            undone; the message says what is left.
        FieldError: there is no name, or it can't stand in a certificate.
        HsmError: a token can't be used; nothing was made.
    """
    _check_name(name)
    subjects = [x509.Name([name_attribute("O", name), name_attribute("CN", f"{name} {end}")]) for end in _SUFFIXES]
    files = (folder / ROOT_FILE, folder / INTERMEDIATE_FILE)
    _check_files(folder, files)
    start = (now or dt.datetime.now(dt.UTC)).astimezone(dt.UTC).replace(microsecond=0)
    with ExitStack() as opened, ExitStack() as undo:
        signers = [_opened(root, environment, opened)]
        try:
            signers.append(_opened(intermediate, environment, opened))
        except TokenError as error:
            if error.code == "token.in_use" and isinstance(root, TokenUri):
                raise _one_token() from error
            raise
        labels = _check_tokens(*signers)
        try:
            root_key = _new_key(signers[0], root_kind, labels[0], undo, root=True)
            key = _new_key(signers[1], intermediate_kind, labels[1], undo)
            wishes = [
                Wish(subject, made.public_key(), start, not_after, extensions_of(Limits(pathlen)))
                for subject, made, pathlen in zip(subjects, (root_key, key), (1, 0), strict=True)
            ]
            top = sign(draft(wishes[0], None, root_key.public_key()), root_key)
            below = sign(draft(wishes[1], top, root_key.public_key()), root_key)
            for path, certificate in zip(files, (top, below), strict=True):
                write_new(path, pem(certificate))
                undo.callback(path.unlink, missing_ok=True)
        except HsmError as error:
            raise CeremonyError(f"{error} (undone: keys and files of this run are removed)", code=error.code) from error
        except OSError as error:
            raise CeremonyError(
                f"{folder} can't be written: {error.strerror} (undone: keys and files of this run are removed)",
                code="ceremony.folder",
            ) from error
        undo.pop_all()
    return NewCa(top, below, *files, root_key=labels[0], intermediate_key=labels[1])


def _check_name(name: str) -> None:
    if not name.strip():
        raise FieldError(
            "a CA needs a name, which stands in both certificates: say whose it is, like 'Acme Devices'",
            code="field.length",
        )
    if len(name) > _NAME_MOST:
        raise FieldError(
            f"the name has {len(name)} characters, and at most {_NAME_MOST} fit into a certificate before "
            f"' {_SUFFIXES[1]}': choose a shorter one",
            code="field.length",
        )


def _one_token() -> CeremonyError:
    return CeremonyError(
        "root and intermediate need two tokens, and both URIs name the same one: the root's token goes into a safe, "
        "the other to the line; take an empty token for one of them",
        code="ceremony.one_token",
    )


def _check_files(folder: Path, files: tuple[Path, ...]) -> None:
    for path in files:
        if path.exists():
            raise CeremonyError(
                f"{path} is there already, and a CA is never overwritten: choose another folder",
                code="ceremony.file_exists",
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{secrets.token_hex(4)}"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise CeremonyError(
            f"{folder} can't be written: {error.strerror}; nothing was made", code="ceremony.folder"
        ) from error


def _opened(signer: Signer | TokenUri, environment: Mapping[str, str], opened: ExitStack) -> Signer:
    if isinstance(signer, Signer):
        return signer
    return opened.enter_context(Signer.open(signer, environment=environment, writable=True, timing=PATIENCE))


def _check_tokens(root: Signer, intermediate: Signer) -> tuple[str, str]:
    if root is intermediate:
        raise _one_token()
    labels = (root.uri.object or ROOT_LABEL, intermediate.uri.object or INTERMEDIATE_LABEL)
    for signer, label in zip((root, intermediate), labels, strict=True):
        if label_taken(signer, label):
            raise CeremonyError(
                f"token {signer.token.label!r} holds a key called {label!r} already, and a CA is never overwritten: "
                "put another label into its URI (object=...), or take an empty token. If an earlier run was killed "
                "before it wrote its files, nothing was signed with this key: the vendor's tool may delete it",
                code="ceremony.label_taken",
            )
    return labels


def _new_key(signer: Signer, kind: KeyKind, label: str, undo: ExitStack, *, root: bool = False) -> AnyTokenKey:
    key = generate_key(signer, kind, label, key_id=new_key_id(root=root))
    undo.callback(destroy_key, key)
    return key
