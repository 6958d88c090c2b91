"""What ``station ca audit`` compares: the signer's counts, the manifest, and the CA's journals."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509

from hsm import read_counts
from hsm.audit import ACCEPTED, Claim, KeyAudit, compare
from hsm.journal import JournalReader, certificate_sha256
from hsm.request import KeyName
from station.checks.findings import Finding, fail, ok, warn
from station.config import Config
from station.config.certificates import load_certificate
from station.manifest import ManifestReader

_ANSWERS: Final = re.compile(r"ocsp(-[0-9a-f]+)?\.db")
"""Journals of OCSP answers that were signed on demand, beside that of the CA; those of an ``[[issuer]]`` have its key
identifier in their names."""

_MANIFEST: Final = "SELECT coalesce(sum(signing_tries), 0), count(certificate) FROM issuance WHERE instr(tbs, ?) > 0"
_ALL_TRIES: Final = "SELECT coalesce(sum(signing_tries), 0) FROM issuance"
_KINDS: Final = """
SELECT signature.kind, count(*), count(certificate.issuance_id) FROM signature
JOIN issuer ON issuer.id = signature.issuer_id
LEFT JOIN certificate ON certificate.issuance_id = signature.issuance_id
    AND signature.id = (SELECT max(id) FROM signature AS other WHERE other.issuance_id = certificate.issuance_id)
WHERE issuer.sha256 = ? GROUP BY signature.kind ORDER BY signature.kind
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
        self.foreign: list[Finding] = []
        """Records of issuers whose certificates are not here."""
        # The counts are read on both sides of the records: a station may be at work.
        before = read_counts(folder)
        claims = {key: list(self._claims(config, certificates)) for key, certificates in self._of_key.items()}
        accepted = self._accepted(config.ca.journal)
        after = read_counts(folder)
        self._note_foreign(config, claims)
        self.keys: tuple[KeyAudit, ...] = tuple(
            compare(
                key,
                name=self._name(key),
                before=before.get(key),
                claims=claims.get(key, []),
                after=after.get(key),
                accepted=accepted.get(key, 0),
            )
            for key in dict.fromkeys([*self._of_key, *after])
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
        certificates = self._of_key.get(key)
        return certificates[0].subject.rfc4514_string() if certificates else ""

    def _claims(self, config: Config, certificates: Sequence[x509.Certificate]) -> Iterator[Claim]:
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

    def _accepted(self, journal: Path) -> dict[bytes, int]:
        if not journal.exists():
            return {}
        with JournalReader(journal) as reader:
            return {row[0]: row[1] for row in reader.rows(ACCEPTED)}

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
        yield from self.foreign


def _findings(key: KeyAudit) -> Iterator[Finding]:
    who = key.name or f"key {key.spki_sha256.hex()}"
    sources = ", ".join(f"{claim.source} {claim.tries}" for claim in key.claims if claim.tries) or "nothing"
    text = f"{who}: asked for {key.asked} signatures and {key.probes} probes; on record: {sources}"
    if key.accepted:
        text += f"; accepted before: {key.accepted:+d}"
    for difference in key.differences:
        yield fail(
            difference.code,
            f"{text}; {difference.sentence}",
            "stop the line and call the security officer; what was looked into is closed with --accept",
        )
    if key.differences:
        return
    if key.unasked:
        text += f"; {key.unasked} tries on record did not reach the token (stopped, or the HSM was away)"
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
    answers = (path for path in sorted(own.parent.glob("ocsp*.db")) if _ANSWERS.fullmatch(path.name) and path != own)
    return [path for path in (own, *answers) if path.exists()]


def _key_identifier(certificate: x509.Certificate) -> bytes | None:
    """Return how certificates name this issuer: keyIdentifier [0] of RFC 5280 4.2.1.1, in DER."""
    try:
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return None
    return bytes((0x80, len(identifier))) + identifier
