"""Rules that a certificate has to pass before the token signs it.

Linting looks at the bytes that will be signed, not at what they were made from, so that a fault of the builder is seen
too. Each finding has a dotted code that never changes:

==================  ==================================================================================================
``der.*``           ``malformed``: it can't be read
``version.*``       ``not_v3``
``serial.*``        ``range``: a positive INTEGER of 1 to 20 octets (RFC 5280 4.1.2.2); ``mismatch``
``signature.*``     ``mismatch``: not the issuer's AlgorithmIdentifier, byte for byte
``issuer.*``        ``mismatch``: not the issuer's subject, byte for byte (RFC 5280 4.1.2.4)
``validity.*``      ``encoding`` (RFC 5280 4.1.2.5), ``order``, ``outside_issuer``, ``mismatch``
``subject.*``       ``empty``, ``mismatch``
``key.*``           ``mismatch``: not the key that was asked for; ``not_allowed``: not one of the profile's
``<ext>.*``         for ``aki ski bc ku eku san``: ``missing``, ``unexpected``, ``mismatch``, ``critical`` (wrong flag)
``extension.*``     ``unknown``, ``unknown_critical``
``size.*``          ``too_large``
==================  ==================================================================================================
"""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtensionOID, ObjectIdentifier

from hsm import der
from hsm.algorithms import PublicKey, SignatureScheme, family_of
from hsm.profiles import HARDWARE_MODULE_NAME, Profile
from hsm.templates import ATTRIBUTES

VERSION_3: Final = bytes.fromhex("a003020102")
_INTEGER: Final = 0x02
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_TIME: Final = rb"(\x17\x0d[0-9]{12}Z|\x18\x0f[0-9]{14}Z)"
_TIMES: Final = re.compile(rb"\x30." + _TIME + _TIME, re.DOTALL)
_UTC_TIME_ENDS: Final = 2050
_SERIAL_OCTETS: Final = 20
_EMPTY_NAME: Final = b"\x30\x00"
_TBS_FIELDS: Final = 8

_EXTENSIONS: Final[Mapping[ObjectIdentifier, tuple[str, bool]]] = {
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: ("aki", False),
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: ("ski", False),
    ExtensionOID.BASIC_CONSTRAINTS: ("bc", True),
    ExtensionOID.KEY_USAGE: ("ku", True),
    ExtensionOID.EXTENDED_KEY_USAGE: ("eku", False),
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME: ("san", False),
}
"""The extensions we know: the name in codes, and whether they are critical (802.1AR-2018 8.10, RFC 5280 4.2)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that is broken."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class IssuerFacts:
    """What an issuer's certificate demands of those below it."""

    subject: bytes
    """DER of its subject."""
    key_identifier: bytes
    """Its SubjectKeyIdentifier."""
    scheme: SignatureScheme
    signature_size: int
    """Octets of its longest signature."""
    not_before: dt.datetime
    not_after: dt.datetime


@dataclass(frozen=True, slots=True)
class Expected:
    """What the certificate of one device has to say. None: it is not known any more, and only its form is checked."""

    serial: int | None = None
    subject: bytes | None = None
    """DER."""
    key: PublicKey | None = None
    spki: bytes | None = None
    """DER of ``key``."""
    names: x509.SubjectAlternativeName | None = None
    not_before: dt.datetime | None = None
    not_after: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class _Case:
    tbs: bytes
    fields: tuple[bytes, ...]
    """Version, serial, algorithm, issuer, validity, subject, SPKI, extensions; each with tag and length."""
    certificate: x509.Certificate
    extensions: Mapping[ObjectIdentifier, x509.Extension[x509.ExtensionType]]
    profile: Profile
    fixed: Mapping[ObjectIdentifier, x509.ExtensionType]
    issuer: IssuerFacts
    expected: Expected

    @property
    def key(self) -> PublicKeyTypes:
        """The public key; that it is the one in the certificate is a rule of its own."""
        return self.expected.key or self.certificate.public_key()


class Linter:
    """The rules of one profile under one issuer."""

    def __init__(self, profile: Profile, issuer: IssuerFacts) -> None:
        """Prepare what is the same for every certificate."""
        self._profile = profile
        self._issuer = issuer
        key_identifier = x509.AuthorityKeyIdentifier(issuer.key_identifier, None, None)
        self._fixed = {value.oid: value for value in (key_identifier, *(v for v, _ in profile.fixed_extensions()))}

    def check(self, certificate: x509.Certificate, expected: Expected) -> tuple[Finding, ...]:
        """Check the TBSCertificate of a certificate; what stands in the place of its signature does not matter.

        Args:
            certificate: as read from its bytes.
            expected: what it should say.

        Returns:
            The rules it breaks; none if its TBSCertificate may be signed.
        """
        try:
            tbs = certificate.tbs_certificate_bytes
            fields = tuple(tbs[e.start : e.end] for e in der.children(tbs, der.read(tbs, 0, len(tbs))))
            if fields[:1] != (VERSION_3,):  # the fields of other versions stand elsewhere
                return (Finding("version.not_v3", "the certificate is not X.509 version 3"),)
            if len(fields) != _TBS_FIELDS:
                return (Finding("der.malformed", f"{len(fields)} fields in the TBSCertificate, not {_TBS_FIELDS}"),)
            extensions = {extension.oid: extension for extension in certificate.extensions}
            case = _Case(tbs, fields, certificate, extensions, self._profile, self._fixed, self._issuer, expected)
            return tuple(finding for rule in RULES for finding in rule(case))
        except (ValueError, KeyError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
            # KeyError: pyca/cryptography 45 in names with a string type that it does not know
            return (Finding("der.malformed", f"{type(error).__name__}: {error}"),)


def _serial(case: _Case) -> Iterator[Finding]:
    tag, content = case.fields[1][0], case.fields[1][2:]
    number = int.from_bytes(content, signed=True)
    shortest = der.encode(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, signed=True))
    if tag != _INTEGER or number <= 0 or len(content) > _SERIAL_OCTETS or case.fields[1] != shortest:
        yield Finding("serial.range", f"the serial number is not positive and of 1 to 20 octets: {content.hex()}")
    if case.expected.serial not in {None, number}:
        yield Finding("serial.mismatch", f"the serial number is {content.hex()}, not {case.expected.serial:x}")


def _signature(case: _Case) -> Iterator[Finding]:
    if case.fields[2] != case.issuer.scheme.identifier:
        yield Finding("signature.mismatch", f"the algorithm is {case.fields[2].hex()}")


def _issuer(case: _Case) -> Iterator[Finding]:
    if case.fields[3] != case.issuer.subject:
        yield Finding("issuer.mismatch", "the issuer's name is not the subject of the issuer's certificate")


def _validity(case: _Case) -> Iterator[Finding]:
    start, end = case.certificate.not_valid_before_utc, case.certificate.not_valid_after_utc
    written = _TIMES.fullmatch(case.fields[4])
    for position, moment in enumerate((start, end), start=1):
        tag = _UTC_TIME if moment.year < _UTC_TIME_ENDS else _GENERALIZED_TIME
        if written is None or written[position][0] != tag:
            yield Finding("validity.encoding", f"{moment:%Y-%m-%d} is written in the wrong form")
    if start > end:
        yield Finding("validity.order", f"it ends ({end}) before it begins ({start})")
    if start < case.issuer.not_before or end > case.issuer.not_after:
        yield Finding("validity.outside_issuer", f"{start} to {end} is not within the issuer's validity")
    if case.expected.not_before not in {None, start} or case.expected.not_after not in {None, end}:
        yield Finding("validity.mismatch", f"{start} to {end} is not what was asked for")


def _subject(case: _Case) -> Iterator[Finding]:
    if case.fields[5] == _EMPTY_NAME:
        yield Finding("subject.empty", "the subject is empty")
        return
    if case.expected.subject == case.fields[5]:
        return
    subject = case.certificate.subject
    if case.expected.subject is not None:
        yield Finding("subject.mismatch", f"the subject is {subject.rfc4514_string()}")
    elif [a.oid for a in subject] != [ATTRIBUTES[name].oid for name, _ in case.profile.subject_templates]:
        yield Finding("subject.mismatch", f"the subject has not the profile's attributes: {subject.rfc4514_string()}")


def _key(case: _Case) -> Iterator[Finding]:
    if case.expected.spki not in {None, case.fields[6]}:
        yield Finding("key.mismatch", "the public key is not the one that was asked for")
    if family_of(case.key) not in case.profile.keys:
        yield Finding("key.not_allowed", f"the profile {case.profile.name} does not allow this kind of key")


def _known_extensions(case: _Case) -> Iterator[Finding]:
    wanted = _wanted(case)
    for oid, (name, critical) in _EXTENSIONS.items():
        found, want = case.extensions.get(oid), wanted.get(oid)
        if found is None:
            if want is not None:
                yield Finding(f"{name}.missing", f"the profile demands the extension {name}")
        elif want is None:
            yield Finding(f"{name}.unexpected", f"the profile has no extension {name}")
        else:
            if found.critical is not critical:
                yield Finding(f"{name}.critical", f"the extension {name} is critical: {found.critical}")
            if not want(found.value):
                yield Finding(f"{name}.mismatch", f"the extension {name} says {found.value!r}")


def _wanted(case: _Case) -> Mapping[ObjectIdentifier, Callable[[x509.ExtensionType], bool]]:
    """Return, for each extension that has to be there, what recognises its value."""
    wanted: dict[ObjectIdentifier, Callable[[x509.ExtensionType], bool]] = {
        oid: value.__eq__ for oid, value in case.fixed.items()
    }
    if case.profile.subject_key_identifier:
        wanted[ExtensionOID.SUBJECT_KEY_IDENTIFIER] = x509.SubjectKeyIdentifier.from_public_key(case.key).__eq__  # type: ignore[arg-type]
    if case.expected.names is not None:
        wanted[case.expected.names.oid] = case.expected.names.__eq__
    elif case.expected.subject is None and case.profile.alternative_names.templates:
        wanted[ExtensionOID.SUBJECT_ALTERNATIVE_NAME] = _has_form_of(case.profile)
    return wanted


def _has_form_of(profile: Profile) -> Callable[[x509.ExtensionType], bool]:
    """Return what recognises names of the profile's form, for a certificate whose fields are not known any more."""
    rule = profile.alternative_names

    def fits(value: x509.ExtensionType) -> bool:
        if not isinstance(value, x509.SubjectAlternativeName):
            return False
        other = [name.type_id for name in value if isinstance(name, x509.OtherName)]
        dns = sum(isinstance(name, x509.DNSName) for name in value)
        uri = sum(isinstance(name, x509.UniformResourceIdentifier) for name in value)
        hardware = [HARDWARE_MODULE_NAME] if rule.hardware_type else []
        return (other, dns, uri) == (hardware, len(rule.dns), len(rule.uri)) and len(list(value)) == len(rule.templates)

    return fits


def _unknown_extensions(case: _Case) -> Iterator[Finding]:
    for oid, extension in case.extensions.items():
        if oid not in _EXTENSIONS:
            code = "extension.unknown_critical" if extension.critical else "extension.unknown"
            yield Finding(code, f"the extension {oid.dotted_string} is not in the profile")


def _size(case: _Case) -> Iterator[Finding]:
    size = len(der.join_signed(case.tbs, case.issuer.scheme.identifier, bytes(case.issuer.signature_size)))
    if size > case.profile.max_size:
        yield Finding("size.too_large", f"the certificate has {size} bytes; at most {case.profile.max_size}")


RULES: Final[tuple[Callable[[_Case], Iterator[Finding]], ...]] = (
    _serial,
    _signature,
    _issuer,
    _validity,
    _subject,
    _key,
    _known_extensions,
    _unknown_extensions,
    _size,
)
"""Every rule, in the order of the fields."""
