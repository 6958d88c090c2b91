"""Drafting: from a profile, a key and fields to a TBSCertificate that passed the lint. Nothing is signed here.

A TBSCertificate is put together by ``hsm.assembly`` and read again by pyca/cryptography with a blank in place of its
signature; then the lint looks at it. pyca's own builder gives a second opinion on the first of each kind and on one in
``SECOND_OPINION`` after it, byte for byte: on each, it would cost as much as all the rest. What all certificates of one
profile have in common is prepared once (``_Blueprint``).
"""

import datetime as dt
import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from hsm import assembly, der
from hsm.algorithms import RSA_PSS, PublicKey, SignatureScheme, pss_padding
from hsm.blank import blank_key
from hsm.columns import each
from hsm.errors import HsmError, IssuanceError, LintError
from hsm.lint import Expected, Extra, IssuerFacts, Linter
from hsm.profiles import ISSUER_FIELD, SHARD_FIELD, Profile
from hsm.serials import MAX_SERIAL_BITS

MAX_BLUEPRINTS: Final = 64
"""Profiles that are kept prepared."""

MAX_FILLED: Final = 64
"""Sets of filled extensions that are kept for each of them: one a batch, mostly."""

SECOND_OPINION: Final = 64
"""One in so many certificates is built a second time and compared."""

_SKI: Final = der.object_identifier("2.5.29.14")
_SAN: Final = der.object_identifier("2.5.29.17")


class Wish(NamedTuple):
    """What a certificate is made of; ``Authority.draft`` says what each has to be."""

    profile: Profile
    public_key: PublicKey
    fields: Mapping[str, str]
    serial: int
    now: dt.datetime
    names: Sequence[x509.GeneralName] = ()
    spki: bytes | None = None


class LintedTbs:
    """A TBSCertificate that passed the lint; made by ``Drafter`` only, and good for one signature."""

    __slots__ = (
        *("_certificate", "_drafter", "_name", "_unspent", "not_after", "not_before", "profile", "scheme", "serial"),
        *("spki_sha256", "tbs", "tbs_sha256"),
    )

    def __init__(
        self,
        drafter: "Drafter",
        certificate: x509.Certificate,
        tbs: bytes,
        known: Expected,
        blueprint: "_Blueprint",
    ) -> None:
        # Where it is known what the certificate says, and the lint saw that it does, it need not be asked again.
        spki = known.spki or _spki_of(certificate)
        self._drafter = drafter
        self._certificate = certificate
        self._name = known.name
        self._unspent = [True]
        self.tbs = tbs
        """The bytes that will be signed."""
        self.tbs_sha256 = hashlib.sha256(tbs).digest()
        self.serial = known.serial or certificate.serial_number
        self.not_before = known.not_before or certificate.not_valid_before_utc
        """Its start of validity."""
        self.not_after = known.not_after or certificate.not_valid_after_utc
        """Its end of validity."""
        self.spki_sha256 = hashlib.sha256(spki).digest()
        self.scheme = blueprint.scheme
        """How they will be signed."""
        self.profile = blueprint.profile
        """What the lint held them to."""

    @property
    def subject(self) -> x509.Name:
        """The subject of the certificate to be."""
        return self._name or self._certificate.subject

    def spend(self, drafter: "Drafter") -> bytes:
        """Return the bytes to be signed, once.

        Raises:
            IssuanceError: it was used before, or another authority made it.
        """
        if drafter is not self._drafter:
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
class _Filled:
    """The extensions that are the same for all certificates with the same fields in them."""

    builder: x509.CertificateBuilder
    extensions: bytes
    values: tuple[x509.ExtensionType, ...]
    drafted: "count[int]" = field(default_factory=count)

    def is_due_for_comparison(self) -> bool:
        """Count a draft; tell whether it is one that is built twice."""
        return next(self.drafted) % SECOND_OPINION == 0


@dataclass(frozen=True, slots=True)
class _Blueprint:
    """What all certificates of one profile have in common."""

    profile: Profile
    """Held, so that its id stays its own."""
    linter: Linter
    scheme: SignatureScheme
    fixed: _Filled
    fields: tuple[str, ...]
    """That the filled extensions depend on."""
    filled: dict[tuple[str | None, ...], _Filled] = field(default_factory=dict)


class _Assembled(NamedTuple):
    """A TBSCertificate that was put together, and what it should say."""

    blueprint: _Blueprint
    filled: _Filled
    expected: Expected
    tbs: bytes


class _Parsed(NamedTuple):
    """A TBSCertificate as pyca/cryptography reads it, or as its builder made it, on its way to the lint."""

    blueprint: _Blueprint
    expected: Expected
    tbs: bytes
    certificate: x509.Certificate


class Drafter:
    """Drafts certificates below one issuer."""

    def __init__(self, facts: IssuerFacts, public: PublicKey, *, extra: Extra | None = None) -> None:
        """Prepare to draft.

        Args:
            facts: what the issuer's certificate demands.
            public: the issuer's key.
            extra: another linter, asked after ours.
        """
        self.facts = facts
        self.extra = extra
        self._name = x509.Name(()) if facts.name is None else facts.name
        self._blank = blank_key(public, facts.signature_size)
        self._no_signature = bytes(facts.signature_size)
        self._is_rsa = isinstance(public, rsa.RSAPublicKey)
        self._key_identifier = x509.AuthorityKeyIdentifier(facts.key_identifier, None, None)
        self._blueprints: dict[int, _Blueprint] = {}
        self._lock = threading.Lock()

    def draft_all(self, wishes: Iterable[Wish | HsmError]) -> list[LintedTbs | HsmError]:
        """Build and lint certificates (``hsm.columns``); see ``Authority.draft``."""
        return each(self._linted, each(self._parsed, each(self._assembled, wishes)))

    def _assembled(self, wish: Wish) -> _Assembled:
        """Put a TBSCertificate together."""
        profile, fields = wish.profile, wish.fields
        start = self._start(wish.serial, wish.now)
        end = profile.validity.not_after(start, self.facts.not_after)
        blueprint = self._blueprint(profile)
        filled = self._filled(blueprint, fields)
        alternative = profile.alternative_names.fill(fields, wish.names)
        subject = profile.subject(fields)
        subject_der = subject.public_bytes()
        # If what was handed over is not the key's, the lint sees that the builder wrote another one.
        spki = wish.spki or wish.public_key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        extensions = filled.extensions
        if profile.subject_key_identifier:
            identifier = assembly.key_identifier(spki)
            extensions += assembly.raw_extension(_SKI, der.encode(der.OCTET_STRING, identifier))
        if alternative is not None:
            extensions += assembly.raw_extension(_SAN, alternative.public_bytes())
        field = assembly.extensions_field(extensions)
        tbs = assembly.tbs_certificate(
            serial=wish.serial,
            algorithm=blueprint.scheme.identifier,
            issuer=self.facts.subject,
            not_before=start,
            not_after=end,
            subject=subject_der,
            spki=spki,
            extensions=field,
        )
        expected = Expected(
            wish.serial,
            subject_der,
            wish.public_key,
            spki,
            alternative,
            start,
            end,
            filled=filled.values,
            name=subject,
            extensions=field,
        )
        return _Assembled(blueprint, filled, expected, tbs)

    def _parsed(self, made: _Assembled) -> _Parsed:
        """Read what was put together, or let pyca's builder make it too, where that is due."""
        blueprint, filled, expected, tbs = made
        if not filled.is_due_for_comparison():
            return _Parsed(blueprint, expected, tbs, self._read(blueprint, tbs))
        certificate = self._built(blueprint, filled, expected)
        return _Parsed(blueprint, expected._replace(tbs=tbs), certificate.tbs_certificate_bytes, certificate)

    def _built(self, blueprint: _Blueprint, filled: _Filled, wanted: Expected) -> x509.Certificate:
        """Let pyca's builder make the certificate."""
        assert wanted.name and wanted.key and wanted.serial and wanted.not_before and wanted.not_after  # noqa: S101, PT018 - for mypy
        builder = (
            filled.builder.subject_name(wanted.name)
            .public_key(wanted.key)
            .serial_number(wanted.serial)
            .not_valid_before(wanted.not_before)
            .not_valid_after(wanted.not_after)
        )
        if blueprint.profile.subject_key_identifier:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(wanted.key), critical=False)
        if wanted.names is not None:
            builder = builder.add_extension(wanted.names, critical=False)
        scheme = blueprint.scheme
        pad = pss_padding(scheme.hash) if scheme.pss and scheme.hash else None
        return builder.sign(self._blank, scheme.hash, rsa_padding=pad)

    def _read(self, blueprint: _Blueprint, tbs: bytes) -> x509.Certificate:
        """Read a TBSCertificate as a certificate with a blank in place of its signature.

        Raises:
            LintError: it can't be read, or is read as something else.
        """
        whole = der.join_signed(tbs, blueprint.scheme.identifier, self._no_signature)
        try:
            certificate = x509.load_der_x509_certificate(whole)
        except x509.InvalidVersion as error:
            raise LintError("the TBS is not X.509 version 3", code="version.not_v3") from error
        except ValueError as error:
            raise LintError("the TBS can't be read", code="der.malformed", reason=error) from error
        if certificate.tbs_certificate_bytes != tbs:
            raise LintError("the TBS is read in two ways", code="der.malformed")
        return certificate

    def redraft(self, profile: Profile, tbs: bytes, fields: Mapping[str, str] | None = None) -> LintedTbs:
        """Lint a TBS that was journalled before a crash; see ``Authority.redraft``."""
        blueprint = self._blueprint(profile)
        certificate = self._read(blueprint, tbs)
        expected = Expected() if fields is None else self._expected_again(profile, certificate, fields)
        return self._linted(_Parsed(blueprint, expected, tbs, certificate))

    def _expected_again(self, profile: Profile, certificate: x509.Certificate, fields: Mapping[str, str]) -> Expected:
        """Return what ``draft`` would write at the certificate's start of validity."""
        start = certificate.not_valid_before_utc
        return Expected(
            subject=profile.subject(fields).public_bytes(),
            names=profile.alternative_names.fill(fields),
            not_before=start,
            not_after=profile.validity.not_after(start, self.facts.not_after),
            filled=self._filled(self._blueprint(profile), fields).values,
        )

    def _start(self, serial: int, now: dt.datetime) -> dt.datetime:
        """Return the start of validity, if a certificate may start now."""
        if now.tzinfo is None:
            raise ValueError("now needs a time zone: a factory's clock is read in UTC")
        if not 0 < serial < 1 << MAX_SERIAL_BITS:
            raise LintError(f"the serial number {serial:x} is not positive and of 1 to 20 octets", code="serial.range")
        start = now.astimezone(dt.UTC).replace(microsecond=0)
        if not self.facts.not_before <= start <= self.facts.not_after:
            raise IssuanceError(
                f"the issuer's certificate is not valid at {start:%Y-%m-%d %H:%M:%S}Z, only from "
                f"{self.facts.not_before:%Y-%m-%d %H:%M:%S}Z to {self.facts.not_after:%Y-%m-%d}; check the clock",
                code="issuance.issuer_not_valid",
            )
        return start

    def _linted(self, read: _Parsed) -> LintedTbs:
        blueprint, expected, tbs, certificate = read
        findings = blueprint.linter.check(certificate, expected, tbs)
        if findings:
            raise LintError(
                f"the certificate breaks profile {blueprint.profile.name!r}: "
                + "; ".join(f"{finding.code}: {finding.message}" for finding in findings),
                code=findings[0].code,
                codes=", ".join(finding.code for finding in findings),
            )
        return LintedTbs(self, certificate, tbs, expected, blueprint)

    def _blueprint(self, profile: Profile) -> _Blueprint:
        """Return what does not change from certificate to certificate."""
        known = self._blueprints.get(id(profile))
        if known is None:
            scheme = RSA_PSS if profile.rsa_pss and self._is_rsa else self.facts.scheme
            bare = _Filled(x509.CertificateBuilder().issuer_name(self._name), b"", ())
            common = ((self._key_identifier, False), *profile.fixed_extensions())
            known = _Blueprint(
                profile,
                Linter(profile, replace(self.facts, scheme=scheme), extra=self.extra),
                scheme,
                _with(bare, common),
                profile.filled_fields,
            )
            with self._lock:
                if len(self._blueprints) >= MAX_BLUEPRINTS:  # somebody loads the profile anew for each certificate
                    self._blueprints.clear()
                self._blueprints[id(profile)] = known
        return known

    def _filled(self, blueprint: _Blueprint, fields: Mapping[str, str]) -> _Filled:
        """Return the builder with the extensions that are made of templates."""
        if not blueprint.fields:
            return self._kept(blueprint, (), {})
        values = {SHARD_FIELD: "main", **fields, ISSUER_FIELD: self.facts.key_identifier.hex()}
        return self._kept(blueprint, tuple(values.get(name) for name in blueprint.fields), values)

    def _kept(self, blueprint: _Blueprint, key: tuple[str | None, ...], values: Mapping[str, str]) -> _Filled:
        found = blueprint.filled.get(key)
        if found is None:
            found = _with(blueprint.fixed, blueprint.profile.filled_extensions(values))
            with self._lock:
                if len(blueprint.filled) >= MAX_FILLED:
                    blueprint.filled.clear()
                blueprint.filled[key] = found
        return found


def _with(filled: _Filled, more: Sequence[tuple[x509.ExtensionType, bool]]) -> _Filled:
    builder, extensions, values = filled.builder, filled.extensions, filled.values
    for value, critical in more:
        builder = builder.add_extension(value, critical=critical)
        extensions += assembly.extension(value, critical=critical)
        values = (*values, value)
    return _Filled(builder, extensions, values)


def _spki_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
