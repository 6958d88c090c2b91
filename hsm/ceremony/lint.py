"""Rules that a CA's certificate has to pass before a key signs it, or before one that came back is taken.

The bytes are looked at, not what they were made from. Codes are those of ``hsm.lint`` where the rule is the same:

==================  ==================================================================================================
``version.*``       ``not_v3``
``serial.*``        ``range``: positive, 1 to 20 octets, at least 64 random bits long (RFC 5280 4.1.2.2)
``signature.*``     ``mismatch``: not the issuer's AlgorithmIdentifier; ``weak``: with another hash than SHA-2
``issuer.*``        ``mismatch``: not the issuer's subject, byte for byte (RFC 5280 4.1.2.4)
``validity.*``      ``order``, ``outside_issuer``, ``mismatch``
``subject.*``       ``empty``, ``mismatch``, ``outside_issuer``: a directory name that the issuer may not sign
``key.*``           ``mismatch``, ``weak``
``bc.*``            ``missing``, ``critical``, ``not_ca``, ``mismatch``, ``pathlen``: not below the issuer's
``ku.*``            ``missing``, ``critical``, ``mismatch``: keyCertSign and cRLSign, and no other
``ski.*`` ``aki.*`` ``missing``, ``critical``, ``mismatch`` with the issuer's SubjectKeyIdentifier
``nc.*``            ``missing``, ``unexpected``, ``critical`` (RFC 5280 4.2.1.10: it is), ``mismatch``
``eku.*``           ``missing``, ``unexpected``, ``critical``, ``mismatch``, ``outside_issuer``: not all those above's
``cdp.*`` ``aia.*`` ``missing``, ``unexpected``, ``critical``, ``mismatch``
``extension.*``     ``unknown``
``der.*``           ``malformed``
==================  ==================================================================================================

Where the step names a profile, the certificate has to pass the profile's rules too (``check_by_profile``), with the
codes of ``hsm.lint``.
"""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtensionOID

from hsm import der
from hsm import lint as hsm_lint
from hsm.algorithms import SCHEMES, PublicKey, family_of
from hsm.blank import signature_size
from hsm.lint import Finding, IssuerFacts, Linter
from hsm.path_limits import PathLimits
from hsm.profiles import Profile
from hsm.weak_keys import weakness

_MIN_SERIAL_BITS: Final = 64
_MAX_SERIAL_BITS: Final = 159
_MIN_RSA_BITS: Final = 2048
_MIN_EXPONENT: Final = 65537

EXTENSIONS: Final[Mapping[x509.ObjectIdentifier, tuple[str, bool]]] = {
    ExtensionOID.BASIC_CONSTRAINTS: ("bc", True),
    ExtensionOID.KEY_USAGE: ("ku", True),
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: ("ski", False),
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: ("aki", False),
    ExtensionOID.NAME_CONSTRAINTS: ("nc", True),
    ExtensionOID.EXTENDED_KEY_USAGE: ("eku", False),
    ExtensionOID.CRL_DISTRIBUTION_POINTS: ("cdp", False),
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS: ("aia", False),
}
"""The extensions of a CA's certificate: the name in codes, and whether they are critical (RFC 5280 4.2)."""

_FREE: Final = frozenset(
    {
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
    }
)
"""What a ceremony's file decides and no profile."""

REQUIRED: Final = (
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What the certificate has to say."""

    subject: bytes
    """DER."""
    key: PublicKey
    extensions: Mapping[x509.ObjectIdentifier, x509.ExtensionType]
    """Those that have to be there, by their values; others may not be there."""
    not_before: dt.datetime | None = None
    not_after: dt.datetime | None = None
    from_elsewhere: bool = False
    """Somebody else made it: extensions that name places (``cdp``, ``aia``) are theirs to choose, and unknown ones
    that are not critical are let pass."""


@dataclass(frozen=True, slots=True)
class _Case:
    certificate: x509.Certificate
    extensions: Mapping[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]]
    issuer: x509.Certificate
    """Its own certificate for a root."""
    limits: PathLimits
    """Of the issuer and of all that are known above it; none for a root."""
    expected: Expected


def check(
    certificate: x509.Certificate,
    issuer: x509.Certificate | None,
    expected: Expected,
    *,
    above: Sequence[x509.Certificate] = (),
) -> tuple[Finding, ...]:
    """Check a CA's certificate; its signature is not looked at.

    Args:
        certificate: as read from its bytes.
        issuer: the certificate above it; None for a root.
        expected: what it should say.
        above: the certificates above the issuer, as far as they are known; the nearest first.

    Returns:
        The rules it breaks.
    """
    try:
        if certificate.version is not x509.Version.v3:
            return (Finding("version.not_v3", "the certificate is not X.509 version 3"),)
        limits = PathLimits.of(() if issuer is None else (issuer, *above))
        case = _Case(certificate, _by_oid(certificate), issuer or certificate, limits, expected)
        return tuple(finding for rule in RULES for finding in rule(case))
    except (ValueError, KeyError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        return (Finding("der.malformed", f"{type(error).__name__}: {error}"),)


def check_by_profile(
    profile: Profile,
    certificate: x509.Certificate,
    issuer: x509.Certificate | None,
    signing: PublicKey,
    expected: Expected,
) -> tuple[Finding, ...]:
    """Check a CA's certificate by the rules of a profile, like those of Matter (Matter Core 6.2.2).

    Args:
        profile: of a CA.
        certificate: as read from its bytes.
        issuer: the certificate above it; None for a root.
        signing: the key that will sign it.
        expected: what it should say; names it may constrain and places it may tell, whatever the profile says of them.
    """
    above, family = issuer or certificate, family_of(signing)
    assert family is not None  # noqa: S101 - for mypy: PublicKey is one of ours
    constraints = _by_oid(above).get(ExtensionOID.BASIC_CONSTRAINTS)
    depth = (
        constraints.value.path_length if constraints and isinstance(constraints.value, x509.BasicConstraints) else None
    )
    facts = IssuerFacts(
        subject=above.subject.public_bytes(),
        key_identifier=_key_identifier(above),
        scheme=SCHEMES[family],
        signature_size=signature_size(signing),
        not_before=above.not_valid_before_utc,
        not_after=above.not_valid_after_utc,
        name=above.subject,
        family=family,
        path_length=depth,
        self_issued=issuer is None,
    )
    wanted = hsm_lint.Expected(
        subject=expected.subject,
        key=expected.key,
        not_before=expected.not_before,
        not_after=expected.not_after,
        filled=tuple(value for oid, value in expected.extensions.items() if oid in _FREE),
    )
    return Linter(profile, facts).check(certificate, wanted)


def _key_identifier(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def _by_oid(
    certificate: x509.Certificate,
) -> Mapping[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]]:
    return {extension.oid: extension for extension in certificate.extensions}


def _serial(case: _Case) -> Iterator[Finding]:
    number = case.certificate.serial_number
    if not (_MIN_SERIAL_BITS if not case.expected.from_elsewhere else 1) <= number.bit_length() <= _MAX_SERIAL_BITS:
        yield Finding("serial.range", f"the serial number is {number:x}")


def _signature(case: _Case) -> Iterator[Finding]:
    if case.expected.from_elsewhere:  # theirs may be RSA with SHA-512 or the like; that it verifies is checked
        digest = case.certificate.signature_hash_algorithm
        if digest is not None and digest.name not in {"sha256", "sha384", "sha512"}:
            yield Finding("signature.weak", f"it is signed with {digest.name}")
        return
    family = family_of(case.issuer.public_key())
    tbs = case.certificate.tbs_certificate_bytes
    algorithm = der.children(tbs, der.read(tbs, 0, len(tbs)))[2]
    if family is None or tbs[algorithm.start : algorithm.end] != SCHEMES[family].identifier:
        yield Finding("signature.mismatch", "the algorithm is not that of the issuer's key")


def _issuer(case: _Case) -> Iterator[Finding]:
    if case.certificate.issuer.public_bytes() != case.issuer.subject.public_bytes():
        yield Finding("issuer.mismatch", "the issuer's name is not the subject of the issuer's certificate")


def _validity(case: _Case) -> Iterator[Finding]:
    start, end = case.certificate.not_valid_before_utc, case.certificate.not_valid_after_utc
    if start >= end:
        yield Finding("validity.order", f"it ends ({end}) before it begins ({start})")
    if start < case.issuer.not_valid_before_utc or end > case.issuer.not_valid_after_utc:
        yield Finding(
            "validity.outside_issuer",
            f"{start:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d} is not within its issuer's validity, "
            f"{case.issuer.not_valid_before_utc:%Y-%m-%d %H:%M:%S} to {case.issuer.not_valid_after_utc:%Y-%m-%d}",
        )
    if case.expected.not_before not in {None, start} or case.expected.not_after not in {None, end}:
        yield Finding("validity.mismatch", f"{start} to {end} is not what was asked for")


def _subject(case: _Case) -> Iterator[Finding]:
    subject = case.certificate.subject
    if not list(subject):
        yield Finding("subject.empty", "the subject of a CA must not be empty (RFC 5280 4.1.2.6)")
    elif subject.public_bytes() != case.expected.subject:
        yield Finding("subject.mismatch", f"the subject is {subject.rfc4514_string()}")
    # a self-issued certificate is not held to them (RFC 5280 4.2.1.10)
    if subject != case.issuer.subject and any(case.limits.foreign_names(subject, None)):
        yield Finding("subject.outside_issuer", f"the issuer may not sign for {subject.rfc4514_string()}")


def _key(case: _Case) -> Iterator[Finding]:
    key = case.certificate.public_key()
    if key != case.expected.key:
        yield Finding("key.mismatch", "the public key is not the one in the token")
    if family_of(key) is None:
        yield Finding("key.weak", "a CA's key is P-256, P-384, RSA or Ed25519")
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        if key.key_size < _MIN_RSA_BITS or numbers.e < _MIN_EXPONENT:
            yield Finding("key.weak", f"the key is RSA-{key.key_size} with exponent {numbers.e}")
        elif fault := weakness(numbers.n):
            yield Finding("key.weak", fault)


def _constraints(case: _Case) -> Iterator[Finding]:
    extension = case.extensions.get(ExtensionOID.BASIC_CONSTRAINTS)
    if extension is None:
        return
    assert isinstance(extension.value, x509.BasicConstraints)  # noqa: S101 - for mypy: its OID says so
    if not extension.value.ca:
        yield Finding("bc.not_ca", "it is not the certificate of a CA")
    # a self-issued certificate is no step down (RFC 5280 4.2.1.9)
    if case.certificate.subject == case.issuer.subject:
        return
    limit, pathlen = case.limits.depth, extension.value.path_length
    if limit is not None and (pathlen is None or pathlen >= limit):
        yield Finding("bc.pathlen", f"its pathlen is {pathlen}, which is not below what those above leave, {limit}")


def _usages(case: _Case) -> Iterator[Finding]:
    own = case.extensions.get(ExtensionOID.EXTENDED_KEY_USAGE)
    if own is None:
        return
    assert isinstance(own.value, x509.ExtendedKeyUsage)  # noqa: S101 - for mypy: its OID says so
    if foreign := case.limits.foreign_usages(own.value):
        names = ", ".join(sorted(oid.dotted_string for oid in foreign))
        yield Finding("eku.outside_issuer", f"its issuer may not sign for {names}")


def _extensions(case: _Case) -> Iterator[Finding]:
    places = {ExtensionOID.CRL_DISTRIBUTION_POINTS, ExtensionOID.AUTHORITY_INFORMATION_ACCESS}
    for oid, (name, critical) in EXTENSIONS.items():
        found, wanted = case.extensions.get(oid), case.expected.extensions.get(oid)
        if case.expected.from_elsewhere and oid in places:
            continue
        if found is None:
            if wanted is not None or oid in REQUIRED:
                yield Finding(f"{name}.missing", f"it lacks the extension {name}")
            continue
        if found.critical is not critical:
            yield Finding(f"{name}.critical", f"the extension {name} is critical: {found.critical}")
        if wanted is None:
            yield Finding(f"{name}.unexpected", f"it has an extension {name}, which was not asked for: {found.value!r}")
        elif found.value != wanted:
            yield Finding(f"{name}.mismatch", f"the extension {name} says {found.value!r}")
    for oid, extension in case.extensions.items():
        if oid not in EXTENSIONS and (extension.critical or not case.expected.from_elsewhere):
            yield Finding("extension.unknown", f"the extension {oid.dotted_string} is not one of a CA's")


RULES: Final[tuple[Callable[[_Case], Iterator[Finding]], ...]] = (
    _serial,
    _signature,
    _issuer,
    _validity,
    _subject,
    _key,
    _constraints,
    _usages,
    _extensions,
)
"""Every rule, in the order of the fields."""
