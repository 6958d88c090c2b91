"""What ``station ca audit`` compares: the signer's counts, the manifest, and the CA's journals."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509

from hsm import HsmError, read_counts
from hsm.audit import ACCEPTED, CLOSED, Claim, KeyAudit, compare
from hsm.journal import JournalReader, certificate_sha256
from hsm.request import KeyName
from hsm.revocation import check_published, revoker_of, standing
from hsm.revocation.chain import faults
from station.checks.findings import Finding, fail, ok, warn
from station.config import Config
from station.config.certificates import load_certificate
from station.crl_places import crl_places
from station.exports.signature import KEY_FILE, read_export_key
from station.ledger.keying import read_ledger_key
from station.manifest import ManifestReader

_ANSWERS: Final = re.compile(r"ocsp(-[0-9a-f]+)?\.db")
"""Journals of OCSP answers that were signed on demand, beside that of the CA; those of an ``[[issuer]]`` have its key
identifier in their names."""

LEDGER: Final = "the ledger key"

_TAMPERED: Final = (
    "stop the line, call the security officer, and compare with the backups; --accept does not close this"
)

_CHECKPOINTS: Final = "SELECT coalesce(sum(signing_tries), 0), count(note) FROM checkpoint"
_MANIFEST: Final = "SELECT coalesce(sum(signing_tries), 0), count(certificate) FROM issuance WHERE instr(tbs, ?) > 0"
_ALL_TRIES: Final = "SELECT coalesce(sum(signing_tries), 0) FROM issuance"
_KINDS: Final = """
SELECT signature.kind, count(*), count(certificate.issuance_id) FROM signature
JOIN issuer ON issuer.id = signature.issuer_id
LEFT JOIN certificate ON certificate.issuance_id = signature.issuance_id
    AND signature.id = (SELECT max(id) FROM signature AS other WHERE other.issuance_id = certificate.issuance_id)
WHERE issuer.sha256 = ?1 GROUP BY signature.kind
UNION ALL
SELECT kind, sum(tries), 0 FROM signature_tally JOIN issuer ON issuer.id = signature_tally.issuer_id
WHERE issuer.sha256 = ?1 GROUP BY kind
"""
_SIGNED_CRLS: Final = """
SELECT count(*) FROM signed_crl JOIN crl ON crl.id = signed_crl.crl_id JOIN revoker ON revoker.id = crl.revoker_id
WHERE revoker.spki_sha256 = ?
"""
_ISSUED: Final = (
    "SELECT der FROM certificate JOIN issuance ON issuance.id = certificate.issuance_id WHERE spki_sha256 = ?"
)
_BY_DIGEST: Final = "SELECT der FROM certificate WHERE sha256 = ?"


class Audit:
    """One comparison."""

    def __init__(self, config: Config, certificates: Sequence[Path] = ()) -> None:
        """Read and compare.

        Args:
            config: names manifest, journal, counts and issuers.
            certificates: of keys that are named nowhere else.

        Raises:
            StationError, HsmError: a file can't be read.
        """
        folder = config.ca.signatures
        self._of_key: dict[bytes, list[x509.Certificate]] = defaultdict(list)
        for path in [config.ca.certificate, *(issuer.certificate for issuer in config.issuers), *certificates]:
            self._take(load_certificate(path))
        self._take_issued(config, read_counts(folder))
        self._ledger = _ledger_key(config)
        self.foreign: list[Finding] = []
        """Records of issuers whose certificates are not here."""
        self.faults: list[Finding] = [*_journal_faults(config), *_unknown_revocations(config)]
        """Rows that are missing or changed; nobody can answer for them."""
        # The counts are read on both sides of the records: a station may be at work.
        before = read_counts(folder)
        claims = {key: list(self._claims(config, key, certificates)) for key, certificates in self._of_key.items()}
        if self._ledger is not None:
            claims[self._ledger] = list(_checkpoints(config))
        accepted, closed = (_settled(config.ca.journal, sql) for sql in (ACCEPTED, CLOSED))
        after = read_counts(folder)
        self._note_foreign(config, claims)
        exporting = config.ca.certificate.with_name(KEY_FILE)
        exporter = KeyName.of(read_export_key(exporting)).spki_sha256 if exporting.exists() else None
        self.exporter = None if exporter is None else after.get(exporter)
        """How often the export key was asked. It certifies nothing, so what it signs is not compared."""
        self.keys: tuple[KeyAudit, ...] = tuple(
            compare(
                key,
                name=self._name(key),
                before=before.get(key),
                claims=claims.get(key, []),
                after=after.get(key),
                accepted=accepted.get(key, 0),
                closed=closed.get(key, 0),
            )
            for key in dict.fromkeys([*self._of_key, *([self._ledger] if self._ledger else []), *after])
            if key != exporter
        )

    def _take(self, certificate: x509.Certificate) -> None:
        key = KeyName.of(certificate.public_key()).spki_sha256  # type: ignore[arg-type]  # kinds that sign here
        if certificate not in self._of_key[key]:
            self._of_key[key].append(certificate)

    def _take_issued(self, config: Config, counted: Iterable[bytes]) -> None:
        """Take the certificates that the CA issued for keys that signed here: of OCSP responders, earlier ones too."""
        if not config.ca.journal.exists():
            return
        with JournalReader(config.ca.journal) as issued:
            for key in counted:
                for (der,) in issued.rows(_ISSUED, key):
                    self._take(x509.load_der_x509_certificate(der))
            for path in _journals(config):  # what signed and was not counted is a difference too
                with JournalReader(path) as journal:
                    for issuer in set(journal.issuers()) - self._known():
                        for (der,) in issued.rows(_BY_DIGEST, issuer):
                            self._take(x509.load_der_x509_certificate(der))

    def _known(self) -> set[bytes]:
        return {certificate_sha256(one) for certificates in self._of_key.values() for one in certificates}

    def _name(self, key: bytes) -> str:
        if key == self._ledger:
            return LEDGER
        certificates = self._of_key.get(key)
        return certificates[0].subject.rfc4514_string() if certificates else ""

    def _claims(self, config: Config, key: bytes, certificates: Sequence[x509.Certificate]) -> Iterator[Claim]:
        if config.station.manifest.exists():
            with ManifestReader(config.station.manifest) as manifest:
                for identifier in {_key_identifier(certificate) for certificate in certificates} - {None}:
                    ((tries, certain),) = manifest.rows(_MANIFEST, identifier)
                    yield Claim(config.station.manifest.name, tries, certain)
        for path in _journals(config):
            with JournalReader(path) as journal:
                for certificate in certificates:
                    for kind, tries, certain in journal.rows(_KINDS, certificate_sha256(certificate)):
                        if kind != "probe":
                            yield Claim(f"{path.name}: {kind}", tries, certain)
                ((certain,),) = journal.rows(_SIGNED_CRLS, key)
                if certain:  # whichever of its certificates the key had then
                    yield Claim(f"{path.name}: signed crl", 0, certain)

    def _note_foreign(self, config: Config, claims: dict[bytes, list[Claim]]) -> None:
        known = self._known()
        for path in _journals(config):
            with JournalReader(path) as journal:
                for issuer in set(journal.issuers()) - known:
                    count = sum(journal.signatures(issuer).values())
                    self.foreign.append(_foreign(f"{path.name} has {count} signatures of issuer {issuer.hex()}"))
        if config.station.manifest.exists():
            with ManifestReader(config.station.manifest) as manifest:
                ((tries,),) = manifest.rows(_ALL_TRIES)
            name = config.station.manifest.name
            seen = sum(claim.tries for made in claims.values() for claim in made if claim.source == name)
            if tries > seen:
                self.foreign.append(_foreign(f"{name} has {tries - seen} signatures of an issuer"))

    def findings(self) -> Iterator[Finding]:
        """Tell the result, a line a key and a line a difference."""
        for key in self.keys:
            yield from _findings(key)
        if self.exporter is not None:
            asked = self.exporter.signatures
            yield ok(
                "audit.export_key", f"the export key: asked for {asked} signatures over exports; it certifies nothing"
            )
        yield from self.foreign
        yield from self.faults


def _settled(journal: Path, sql: str) -> dict[bytes, int]:
    if not journal.exists():
        return {}
    with JournalReader(journal) as reader:
        return {row[0]: row[1] for row in reader.rows(sql)}


def _journal_faults(config: Config) -> Iterator[Finding]:
    """Tell of rows that are missing or changed in the CA's journals."""
    for path in _journals(config):
        with JournalReader(path) as journal:
            for sentence in faults(journal):
                yield fail("audit.tampered", f"{path.name}: {sentence}", _TAMPERED)


def _unknown_revocations(config: Config) -> Iterator[Finding]:
    """Compare what is published, which the token signed, with the journal: each entry has to be on record there."""
    if config.crl is None or not config.ca.journal.exists():
        return
    for place in crl_places(config, config.crl.directory):
        revoker = revoker_of(place.issuer)
        with JournalReader(config.ca.journal) as journal:
            try:
                check_published(journal, place.issuer, place.folder)
                for path in place.folder.files():
                    listed = place.folder.read(path)
                    gone = [one for one in listed if standing(journal, revoker, one.serial_number) is None]
                    if gone:
                        yield fail(
                            "audit.revocation_gone",
                            f"{path} tells of {len(gone)} certificates that the journal has no act on, the first of "
                            f"them {gone[0].serial_number:032x}",
                            _TAMPERED,
                        )
            except HsmError as error:
                yield fail(error.code, str(error), _TAMPERED)


def _ledger_key(config: Config) -> bytes | None:
    """Return the ledger key's name; None for a line without one."""
    if not config.ledger.key.exists():
        return None
    return KeyName.of(read_ledger_key(config.ledger.key)).spki_sha256


def _checkpoints(config: Config) -> Iterator[Claim]:
    """Tell of the checkpoints on record: tries are counted before the token is asked, as everywhere."""
    if config.station.manifest.exists():
        with ManifestReader(config.station.manifest) as manifest:
            ((tries, certain),) = manifest.rows(_CHECKPOINTS)
            yield Claim(f"{config.station.manifest.name}: checkpoint", tries, certain)


def _findings(key: KeyAudit) -> Iterator[Finding]:
    who = key.name or f"key {key.spki_sha256.hex()}"
    sources = ", ".join(f"{claim.source} {claim.tries}" for claim in key.claims if claim.tries) or "nothing"
    text = f"{who}: asked for {key.asked} signatures and {key.probes} probes; on record: {sources}"
    if key.accepted:
        text += f"; accepted before: {key.accepted:+d}"
    if key.closed:
        text += f"; tries closed before: {key.closed}"
    for difference in key.differences:
        yield fail(
            difference.code,
            f"{text}; {difference.sentence}",
            "stop the line and call the security officer; what was looked into is closed with --accept",
        )
    if key.differences:
        return
    if key.unasked:
        text += (
            f"; {key.unasked} tries on record did not reach the token (stopped, or the HSM was away), and would hide "
            "as many signatures: close them with --accept"
        )
    if key.lost_at_most:
        yield warn("audit.power_cut", f"{text}; a power cut may hide up to {key.lost_at_most}", "compare by hand")
    else:
        yield ok("audit", text)


def _foreign(what: str) -> Finding:
    return warn(
        "audit.issuer", f"{what} whose certificate is not here; they are not compared", "add --certificate FILE"
    )


def _journals(config: Config) -> Iterable[Path]:
    own = config.ca.journal
    return [path for path in (own, *answer_journals(config)) if path.exists()]


def answer_journals(config: Config) -> list[Path]:
    """Return the journals of OCSP answers that were signed on demand."""
    own = config.ca.journal
    return [path for path in sorted(own.parent.glob("ocsp*.db")) if _ANSWERS.fullmatch(path.name) and path != own]


def _key_identifier(certificate: x509.Certificate) -> bytes | None:
    """Return how certificates name this issuer: keyIdentifier [0] of RFC 5280 4.2.1.1, in DER."""
    try:
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return None
    return bytes((0x80, len(identifier))) + identifier
