"""Issuing certificates.

One certificate is made in these steps, and nothing can skip one:

1. ``draft`` builds it with a blank in place of the signature and lints it. The result is a ``LintedTbs``: proof that
   these bytes were linted, good for one signature.
2. The caller writes the TBS into its journal. After a crash, ``redraft`` makes a ``LintedTbs`` of journalled bytes.
3. ``issue`` lets the token sign exactly these bytes, puts the certificate together, reads it again, and verifies the
   signature with the issuer's public key before anybody sees it: tokens have been seen to return signatures that don't
   verify.

The private key is found by the public key in the issuer's certificate, so the two can't be mismatched.
"""

import datetime as dt
import hashlib
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from hsm import der
from hsm.algorithms import SCHEMES, PublicKey, family_of, verify
from hsm.blank import blank_key, signature_size
from hsm.errors import IssuanceError, LintError
from hsm.key_store import find_in_session
from hsm.keys import AnyTokenKey
from hsm.lint import Expected, IssuerFacts, Linter
from hsm.profiles import Profile
from hsm.signer import Signer

MAX_STATION_ID: Final = 127
"""The station's number is the first octet of a serial number, which must not be negative."""

MAX_SERIAL_BITS: Final = 159
"""20 octets less the sign (RFC 5280 4.1.2.2)."""

MAX_BLUEPRINTS: Final = 64
"""Profiles that are kept prepared."""

_PROBE: Final = b"hsm: is this the issuer's key? "
"""Starts what is signed to see whether key and certificate belong together; it is no DER, so no certificate either."""


def new_serial(station_id: int) -> int:
    """Return a fresh serial number of 16 octets: the station's number, then 120 random bits.

    Args:
        station_id: 1 to 127; two stations can't collide, and a serial tells where it was made.

    Raises:
        ValueError: the number is out of range.
    """
    if not 1 <= station_id <= MAX_STATION_ID:
        raise ValueError(f"a station's number is 1 to {MAX_STATION_ID}, not {station_id}")
    return int.from_bytes(bytes((station_id,)) + secrets.token_bytes(15))


class LintedTbs:
    """A TBSCertificate that passed the lint; made by ``Authority`` only, and good for one signature."""

    __slots__ = ("_certificate", "_issuer", "_unspent", "serial", "spki_sha256", "tbs", "tbs_sha256")

    def __init__(self, issuer: "Authority", certificate: x509.Certificate, spki: bytes) -> None:
        self._issuer = issuer
        self._certificate = certificate
        self._unspent = [True]
        self.tbs = certificate.tbs_certificate_bytes
        """The bytes that will be signed."""
        self.tbs_sha256 = hashlib.sha256(self.tbs).digest()
        self.serial = certificate.serial_number
        self.spki_sha256 = hashlib.sha256(spki).digest()

    @property
    def subject(self) -> x509.Name:
        """The subject of the certificate to be."""
        return self._certificate.subject

    @property
    def not_before(self) -> dt.datetime:
        """Its start of validity."""
        return self._certificate.not_valid_before_utc

    @property
    def not_after(self) -> dt.datetime:
        """Its end of validity."""
        return self._certificate.not_valid_after_utc

    def spend(self, issuer: "Authority") -> bytes:
        """Return the bytes to be signed, once.

        Raises:
            IssuanceError: it was used before, or another authority made it.
        """
        if issuer is not self._issuer:
            raise IssuanceError("this draft belongs to another authority", code="issuance.foreign_draft")
        try:
            self._unspent.pop()  # atomic: two threads can't both succeed
        except IndexError:
            raise IssuanceError(
                "this draft was used; make a new one of the journalled TBS with redraft", code="issuance.draft_spent"
            ) from None
        return self.tbs

    def __repr__(self) -> str:
        """Name the certificate to be."""
        return f"<LintedTbs {self.serial:032x} {self.subject.rfc4514_string()}>"


@dataclass(frozen=True, slots=True)
class _Blueprint:
    """What all certificates of one profile have in common."""

    profile: Profile
    builder: x509.CertificateBuilder
    linter: Linter


class Authority:
    """An issuing CA: a certificate, and its private key in a token."""

    issuer: x509.Certificate
    chain: tuple[bytes, ...]
    """DER of the issuer's certificate and of those above it, the root left out: what a device gets after its own."""

    def __init__(self, key: AnyTokenKey, issuer: x509.Certificate, above: Sequence[x509.Certificate]) -> None:
        """Use ``Authority.open``."""
        self.issuer = issuer
        self.chain = tuple(
            certificate.public_bytes(serialization.Encoding.DER)
            for certificate in (issuer, *above)
            if certificate is issuer or certificate.subject != certificate.issuer
        )
        self._key = key
        self._public: PublicKey = key.public_key()
        self._scheme = SCHEMES[key.family]
        self._blank = blank_key(self._public, signature_size(self._public))
        self._facts = _issuer_facts(issuer, key)
        self._key_identifier = x509.AuthorityKeyIdentifier(self._facts.key_identifier, None, None)
        self._blueprints: dict[int, _Blueprint] = {}
        self._blueprints_lock = threading.Lock()

    @classmethod
    async def open(cls, signer: Signer, *, issuer: x509.Certificate, chain: Sequence[x509.Certificate] = ()) -> Self:
        """Find the issuer's key in the token and see that the two belong together.

        Args:
            signer: logged in to the token.
            issuer: the certificate of the issuing CA.
            chain: the certificates above it, its own issuer first; the root may be among them.

        Raises:
            IssuanceError: the certificate is no CA's, the chain does not fit, or the key signs wrongly.
            KeyMissing: the token does not hold the private key.
            KeyUnfit: the private key could leave the token.
        """
        public = _check_issuer(issuer)
        _check_chain(issuer, chain)
        key = await signer.call(lambda session: find_in_session(signer, session, public))
        authority = cls(key, issuer, chain)
        await authority._probe()
        return authority

    @property
    def key(self) -> AnyTokenKey:
        """The private key, for what else an issuer signs: CRLs, checkpoints."""
        return self._key

    def draft(
        self,
        profile: Profile,
        public_key: PublicKey,
        *,
        fields: Mapping[str, str],
        serial: int,
        now: dt.datetime,
    ) -> LintedTbs:
        """Build and lint a certificate; nothing is signed. Pure computing, safe from any thread.

        Args:
            profile: which kind of certificate.
            public_key: the device's, from a checked ``Csr``.
            fields: values for the profile's templates.
            serial: from ``new_serial``.
            now: start of validity, with a time zone; microseconds are cut off.

        Raises:
            IssuanceError: the issuer is not valid now, or not long enough.
            FieldError: a field is missing or can't stand in its place.
            LintError: the certificate would break the profile.
            ValueError: ``now`` has no time zone.
        """
        if now.tzinfo is None:
            raise ValueError("now needs a time zone: a factory's clock is read in UTC")
        if not 0 < serial < 1 << MAX_SERIAL_BITS:
            raise LintError(f"the serial number {serial:x} is not positive and of 1 to 20 octets", code="serial.range")
        start = now.astimezone(dt.UTC).replace(microsecond=0)
        if not self._facts.not_before <= start <= self._facts.not_after:
            raise IssuanceError(
                f"the issuer's certificate is not valid at {start:%Y-%m-%d %H:%M:%S}Z, only from "
                f"{self._facts.not_before:%Y-%m-%d %H:%M:%S}Z to {self._facts.not_after:%Y-%m-%d}; check the clock",
                code="issuance.issuer_not_valid",
            )
        end = profile.validity.not_after(start, self._facts.not_after)
        subject = profile.subject(fields)
        names = profile.alternative_names.fill(fields)
        blueprint = self._blueprint(profile)
        builder = (
            blueprint.builder.subject_name(subject)
            .public_key(public_key)
            .serial_number(serial)
            .not_valid_before(start)
            .not_valid_after(end)
        )
        if profile.subject_key_identifier:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._blank, self._scheme.hash)
        spki = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        expected = Expected(serial, subject.public_bytes(), public_key, spki, names, start, end)
        return self._linted(blueprint, certificate, expected)

    def redraft(self, profile: Profile, tbs: bytes, *, fields: Mapping[str, str] | None = None) -> LintedTbs:
        """Lint a TBS that was journalled before a crash, so that it can be issued.

        The serial number and the key are taken as they stand; that they are the journal's own is for the caller to
        know (``LintedTbs.tbs_sha256``).

        Args:
            profile: which kind of certificate.
            tbs: from the journal.
            fields: values for the profile's templates: subject, names and end of validity then have to be those that
                ``draft`` would write, so that no altered row gets a name signed. None: only their form is checked.

        Raises:
            FieldError: a field is missing or can't stand in its place.
            LintError: it is not one that this authority would draft.
        """
        try:
            certificate = x509.load_der_x509_certificate(self._assembled(tbs, bytes(self._facts.signature_size)))
        except (ValueError, x509.InvalidVersion) as error:
            raise LintError("the journalled TBS can't be read", code="der.malformed", cause=error) from error
        if certificate.tbs_certificate_bytes != tbs:
            raise LintError("the journalled TBS is read in two ways", code="der.malformed")
        expected = Expected() if fields is None else self._expected_again(profile, certificate, fields)
        return self._linted(self._blueprint(profile), certificate, expected)

    def issued(self, certificate: bytes) -> bool:
        """Tell whether this authority's key signed a certificate (DER)."""
        try:
            x509.load_der_x509_certificate(certificate).verify_directly_issued_by(self.issuer)
        except (InvalidSignature, ValueError, TypeError):
            return False
        return True

    async def issue(self, draft: LintedTbs) -> bytes:
        """Let the token sign a draft.

        Returns:
            The certificate in DER, its signature verified.

        Raises:
            IssuanceError: the draft was used before, or what the token returned does not verify.
            TokenError: the token refused; ``recovery`` says what may be tried, with a ``redraft`` of the same TBS.
        """
        tbs = draft.spend(self)
        return self._verified(tbs, await self._key.sign_message(tbs))

    def issue_blocking(self, draft: LintedTbs) -> bytes:
        """Do as ``issue``, and block this thread meanwhile."""
        tbs = draft.spend(self)
        return self._verified(tbs, self._key.sign_message_blocking(tbs))

    def _expected_again(self, profile: Profile, certificate: x509.Certificate, fields: Mapping[str, str]) -> Expected:
        """Return what ``draft`` would write at the certificate's start of validity."""
        start = certificate.not_valid_before_utc
        return Expected(
            subject=profile.subject(fields).public_bytes(),
            names=profile.alternative_names.fill(fields),
            not_before=start,
            not_after=profile.validity.not_after(start, self._facts.not_after),
        )

    def _linted(self, blueprint: _Blueprint, certificate: x509.Certificate, expected: Expected) -> LintedTbs:
        findings = blueprint.linter.check(certificate, expected)
        if findings:
            raise LintError(
                f"the certificate breaks profile {blueprint.profile.name!r}: "
                + "; ".join(f"{finding.code}: {finding.message}" for finding in findings),
                code=findings[0].code,
                codes=", ".join(finding.code for finding in findings),
            )
        return LintedTbs(self, certificate, expected.spki or _spki_of(certificate))

    def _blueprint(self, profile: Profile) -> _Blueprint:
        """Return what does not change from certificate to certificate."""
        known = self._blueprints.get(id(profile))
        if known is None:
            builder = x509.CertificateBuilder().issuer_name(self.issuer.subject)
            builder = builder.add_extension(self._key_identifier, critical=False)
            for extension, critical in profile.fixed_extensions():
                builder = builder.add_extension(extension, critical=critical)
            known = _Blueprint(
                profile, builder, Linter(profile, self._facts)
            )  # holds the profile, so that its id stays its own
            with self._blueprints_lock:
                if len(self._blueprints) >= MAX_BLUEPRINTS:  # somebody loads the profile anew for each certificate
                    self._blueprints.clear()
                self._blueprints[id(profile)] = known
        return known

    def _assembled(self, tbs: bytes, signature: bytes) -> bytes:
        return der.join_signed(tbs, self._scheme.identifier, signature)

    def _verified(self, tbs: bytes, signature: bytes) -> bytes:
        certificate = self._assembled(tbs, signature)
        read = x509.load_der_x509_certificate(certificate)
        if read.tbs_certificate_bytes != tbs:
            raise IssuanceError("the certificate does not hold the bytes that were signed", code="issuance.tbs_changed")
        try:
            verify(self._public, read.signature, tbs, self._scheme.hash)
        except InvalidSignature:
            raise IssuanceError(
                "the token returned a signature that does not verify; nothing left the station. "
                "Compare the token's firmware with the vendor's list of faults",
                code="issuance.signature_invalid",
                operator="The HSM signs wrongly. Stop the line and call the security officer.",
            ) from None
        return certificate

    async def _probe(self) -> None:
        """Sign and verify something that is no certificate: better now than at the first board."""
        message = _PROBE + secrets.token_bytes(32)
        signature = await self._key.sign_message(message)
        try:
            verify(self._public, signature, message, self._scheme.hash)
        except InvalidSignature:
            raise IssuanceError(
                f"the key {self._key.label!r} in the token does not sign for the issuer's certificate",
                code="issuer.key_mismatch",
            ) from None


def _check_issuer(issuer: x509.Certificate) -> PublicKey:
    public = issuer.public_key()
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound as error:
        raise IssuanceError(
            "the issuer's certificate lacks BasicConstraints, KeyUsage or SubjectKeyIdentifier: it is not a CA's",
            code="issuer.not_ca",
        ) from error
    if not constraints.ca or not usage.key_cert_sign:
        raise IssuanceError("the issuer's certificate may not sign certificates", code="issuer.not_ca")
    if family_of(public) is None:
        raise IssuanceError("the issuer's key is not P-256, P-384, RSA or Ed25519", code="issuer.key_type")
    return public  # type: ignore[return-value]  # family_of knows no others


def _check_chain(issuer: x509.Certificate, above: Sequence[x509.Certificate]) -> None:
    for child, parent in zip((issuer, *above), above, strict=False):
        try:
            child.verify_directly_issued_by(parent)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise IssuanceError(
                f"{child.subject.rfc4514_string()} was not issued by {parent.subject.rfc4514_string()}; "
                "give the chain upwards, the issuer's own issuer first",
                code="issuer.chain",
            ) from error


def _issuer_facts(issuer: x509.Certificate, key: AnyTokenKey) -> IssuerFacts:
    return IssuerFacts(
        subject=issuer.subject.public_bytes(),
        key_identifier=issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest,
        scheme=SCHEMES[key.family],
        signature_size=signature_size(key.public_key()),
        not_before=issuer.not_valid_before_utc,
        not_after=issuer.not_valid_after_utc,
    )


def _spki_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
