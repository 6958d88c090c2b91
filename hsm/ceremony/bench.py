"""What a step works with: tokens that are open, files, the transcript, and how each act is undone.

Each act is noted in the transcript before it is done, with what is needed to undo it after a power cut, and again after
it with what was seen.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hsm.algorithms import PublicKey
from hsm.ceremony.certificates import Wish, climbed, draft, known_key, marked, pem, sign
from hsm.ceremony.copying import OPEN, discard
from hsm.ceremony.plan import NewKey
from hsm.ceremony.transcript import Transcript
from hsm.errors import CeremonyError, HsmError
from hsm.files import write_new
from hsm.key_store import BACKED_UP, RULES, destroy_key, find_key, generate_key, read_facts
from hsm.keys import AnyTokenKey
from hsm.root_mark import copy_key_id, new_key_id
from hsm.signer import Signer
from hsm.timing import Timing

MAX_INPUT: Final = 1024 * 1024

PATIENCE: Final = Timing(answer=3600.0)
"""Small tokens take minutes for RSA-4096, and a call that was given up would leave a key that nobody knows of."""


class Bench:
    """One ceremony at work. Blocks; used by one thread."""

    def __init__(  # noqa: PLR0913 - what the ceremony was given
        self,
        *,
        folder: Path,
        stand_ins: Mapping[str, Path],
        signers: Mapping[str, Signer],
        transcript: Transcript,
        now: dt.datetime,
        rehearsal: bool,
        report: Callable[[str], None],
        pause: Callable[[], None],
    ) -> None:
        """Make the bench.

        Args:
            folder: what names of files are relative to.
            stand_ins: files that a rehearsal reads in place of others.
            signers: open tokens, by the names of the ceremony's file.
            transcript: begun.
            now: start of validity of all that is made.
            rehearsal: mark all names.
            report: gets a line for people, one an act.
            pause: is called between two acts; what it raises ends the ceremony.
        """
        self.signers = signers
        self.transcript = transcript
        self.now = now
        self.first_key: tuple[AnyTokenKey, str] | None = None
        """The first key that was made or used, and the file that it is verified with; it seals the transcript."""
        self._folder = folder
        self._stand_ins = stand_ins
        self._rehearsal = rehearsal
        self._report = report
        self._pause = pause
        self._keys: dict[str, AnyTokenKey] = {}
        self._certificates: dict[str, x509.Certificate] = {}
        self._undo: list[tuple[str, Callable[[], object]]] = []

    def path(self, file: str) -> Path:
        """Return where a file of the plan lies."""
        return self._stand_ins.get(file, self._folder / file)

    def say(self, line: str) -> None:
        """Report a line."""
        self._report(line)

    def marked(self, subject: x509.Name) -> x509.Name:
        """Return a subject; in a rehearsal, one that can't be taken for a real one."""
        return marked(subject) if self._rehearsal else subject

    # -- keys

    def make_key(self, wanted: NewKey, file: str, *, root: bool = False) -> AnyTokenKey:
        """Make a key.

        Args:
            wanted: which one.
            file: the certificate or request that will hold its public half.
            root: it is a root's, and bears the mark of one.
        """
        self._pause()
        signer, key_id = self.signers[wanted.token], new_key_id(root=root)
        self._note_new(signer, wanted.label, key_id, wanted.kind.value)
        key = generate_key(signer, wanted.kind, wanted.label, rules=OPEN if wanted.backup else RULES, key_id=key_id)
        self.to_undo(f"key {wanted.label!r} in token {signer.token.label!r}", lambda: destroy_key(key))
        self.note_key("key", key)
        self._report(f"made the {wanted.kind.value} key '{wanted.label}' in token '{signer.token.label}'")
        return self._used(key, file)

    def key_of(self, file: str, token: str) -> AnyTokenKey:
        """Return the private key of a certificate, or of a request that was made here."""
        if file in self._keys and self._keys[file].signer is self.signers[token]:
            return self._used(self._keys[file], file)
        return self._used(self.find(self.public_of(file), token), file)

    def find(self, public: PublicKey, token: str) -> AnyTokenKey:
        """Find a key in a token by its public half, and note what the token says about it."""
        key = find_key(self.signers[token], public, rules=BACKED_UP)
        self.note_key("key-found", key)
        return key

    def public_of(self, file: str) -> PublicKey:
        """Return the public key that a file holds."""
        if file in self._keys:
            return self._keys[file].public_key()
        return known_key(self.certificate(file))

    def note_key(self, event: str, key: AnyTokenKey) -> None:
        """Write a key's attributes, as read from the token just now."""
        facts = read_facts(key)
        self.transcript.add(
            event,
            token=key.signer.token.serial,
            label=facts.label,
            id=facts.key_id.hex(),
            spki_sha256=spki_sha256(key.public_key()),
            attributes=dict(facts.attributes),
        )

    def note_copy(self, signer: Signer, label: str, key: AnyTokenKey) -> None:
        """Write that a copy will come to be, and how it is undone."""
        self._pause()
        key_id = copy_key_id(key)
        self._note_new(signer, label, key_id, "copy")
        self.to_undo(f"copy {label!r} in token {signer.token.label!r}", lambda: discard(signer, label, key_id))

    def _note_new(self, signer: Signer, label: str, key_id: bytes, kind: str) -> None:
        self.transcript.add("make-key", token=signer.token.serial, label=label, id=key_id.hex(), kind=kind)

    def found_again(self, file: str, key: AnyTokenKey) -> AnyTokenKey:
        """Take a key in the place of the same one as it was before its attributes changed."""
        self._keys[file] = key
        if self.first_key is not None and self.first_key[1] == file:
            self.first_key = key, file
        return key

    def _used(self, key: AnyTokenKey, file: str) -> AnyTokenKey:
        self._keys.setdefault(file, key)
        self.first_key = self.first_key or (key, file)
        return key

    # -- certificates and files

    def certificate(self, file: str) -> x509.Certificate:
        """Return a certificate; one that was there before is noted as an input."""
        if file not in self._certificates:
            content = self.read(file)
            try:
                self._certificates[file] = x509.load_pem_x509_certificate(content)
            except ValueError as error:
                raise CeremonyError(f"{self.path(file)} is not the PEM of a certificate") from error
        return self._certificates[file]

    def _known(self) -> list[x509.Certificate]:
        """Return the certificates of this ceremony, and those that lie beside them: one of them may be further up."""
        known = dict.fromkeys(self._certificates.values())
        folders = dict.fromkeys([self._folder, *(self.path(file).parent for file in self._certificates)])
        for place in sorted(path for folder in folders for path in folder.glob("*.pem")):
            try:
                if place.stat().st_size <= MAX_INPUT:
                    known |= dict.fromkeys(x509.load_pem_x509_certificates(place.read_bytes()))
            except (OSError, ValueError):  # keys, requests, files of others
                continue
        return list(known)

    def read(self, file: str) -> bytes:
        """Read a file and note its digest."""
        with self.path(file).open("rb") as opened:
            content = opened.read(MAX_INPUT + 1)
        if len(content) > MAX_INPUT:
            raise CeremonyError(f"{self.path(file)} is larger than {MAX_INPUT} bytes")
        self.transcript.add("input", file=file, sha256=hashlib.sha256(content).hexdigest())
        return content

    def sign(self, wish: Wish, issuer: x509.Certificate | None, key: AnyTokenKey, file: str) -> x509.Certificate:
        """Lint, sign, verify and write a certificate.

        Raises:
            LintError: it breaks a rule; nothing was signed.
        """
        self._pause()
        above = [] if issuer is None else climbed(issuer, self._known())
        drafted = draft(wish, issuer, key.public_key(), above=above)
        self.transcript.add(
            "sign",
            what="certificate",
            token=key.signer.token.serial,
            label=key.label,
            subject=drafted.subject.rfc4514_string(),
            issuer=drafted.issuer.rfc4514_string(),
            serial=f"{drafted.serial_number:x}",
            tbs_sha256=hashlib.sha256(drafted.tbs_certificate_bytes).hexdigest(),
        )
        made = sign(drafted, key)
        self._certificates[file] = made
        self.write(file, pem(made))
        self._report(f"signed {made.subject.rfc4514_string()} with '{key.label}': {file}")
        return made

    def write(self, file: str, content: bytes) -> None:
        """Write a new file."""
        self._pause()
        path = self._folder / file
        digest = hashlib.sha256(content).hexdigest()
        self.transcript.add("output", file=file, size=len(content), sha256=digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, content)
        self.to_undo(f"file {path}", lambda: path.unlink(missing_ok=True))

    # -- undoing

    def to_undo(self, what: str, how: Callable[[], object]) -> None:
        """Remember how something is taken back."""
        self._undo.append((what, how))

    def undo(self) -> tuple[list[str], list[str]]:
        """Take everything back, the last act first.

        Returns:
            What was taken back, and what could not be.
        """
        done: list[str] = []
        left: list[str] = []
        while self._undo:
            what, how = self._undo.pop()
            try:
                how()
                done.append(what)
            except (HsmError, OSError) as error:
                left.append(f"{what} ({error})")
        return done, left


def spki_sha256(key: PublicKey) -> str:
    """Return the SHA-256 of a SubjectPublicKeyInfo, in hex."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
