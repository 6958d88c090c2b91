"""What a lint rule looks at."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ObjectIdentifier

from hsm import der
from hsm.algorithms import KeyFamily, PublicKey, SignatureScheme
from hsm.path_limits import NO_LIMITS, PathLimits
from hsm.profiles import Profile


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
    name: x509.Name | None = None
    """Its subject."""
    family: KeyFamily | None = None
    """Its kind of key."""
    path_length: int | None = None
    self_issued: bool = False
    """It is the certificate to be: a root."""
    limits: PathLimits = NO_LIMITS
    """Of the issuer's certificate and of all that are known above it."""


class Expected(NamedTuple):
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
    filled: tuple[x509.ExtensionType, ...] = ()
    """Extensions made of templates, but for the names."""
    name: x509.Name | None = None
    """The subject that ``subject`` is the DER of."""
    extensions: bytes | None = None
    """The field with all extensions, in DER."""
    tbs: bytes | None = None
    """The whole TBSCertificate, as somebody else than who built this one put it together."""


@dataclass(eq=False)
class Case:
    """One certificate, and what it should be. What is expensive is read when a rule asks for it."""

    certificate: x509.Certificate
    tbs: bytes
    profile: Profile
    fixed: Mapping[ObjectIdentifier, x509.ExtensionType]
    issuer: IssuerFacts
    expected: Expected

    def __post_init__(self) -> None:
        """Read what every rule asks for.

        Raises:
            DerError: the TBSCertificate can't be taken apart.
        """
        expected = self.expected
        self.fields = tuple(der.parts(self.tbs))
        """Version, serial, algorithm, issuer, validity, subject, SPKI, extensions; each with tag and length."""
        self.has_expected_extensions = expected.tbs == self.tbs or (
            expected.extensions is not None and self.fields[-1:] == (expected.extensions,)
        )
        """Whether the extensions are the expected ones, byte for byte."""

    @cached_property
    def extensions(self) -> Mapping[ObjectIdentifier, x509.Extension[x509.ExtensionType]]:
        """The extensions by their number."""
        return {extension.oid: extension for extension in self.certificate.extensions}

    @cached_property
    def subject(self) -> x509.Name:
        """The subject."""
        return self.certificate.subject

    @cached_property
    def period(self) -> tuple[dt.datetime, dt.datetime]:
        """Start and end of validity."""
        return self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc

    @property
    def key(self) -> PublicKeyTypes:
        """The public key; that it is the one in the certificate is a rule of its own."""
        return self.expected.key or self.certificate.public_key()

    @property
    def is_known(self) -> bool:
        """Whether it is known what the certificate should say, or only its form."""
        return self.expected.subject is not None

    @property
    def usages(self) -> x509.ExtendedKeyUsage | None:
        """The extended key usages in the certificate, or None."""
        found = self.fixed.get(x509.ExtendedKeyUsage.oid)
        if not self.has_expected_extensions:
            extension = self.extensions.get(x509.ExtendedKeyUsage.oid)
            found = None if extension is None else extension.value
        return found if isinstance(found, x509.ExtendedKeyUsage) else None

    @cached_property
    def names(self) -> x509.SubjectAlternativeName | None:
        """The names in the certificate, or None."""
        if self.has_expected_extensions:
            return self.expected.names
        found = self.extensions.get(x509.SubjectAlternativeName.oid)
        value = None if found is None else found.value
        return value if isinstance(value, x509.SubjectAlternativeName) else None
