"""What a certificate of one kind looks like, as data.

The rules of different worlds conflict (802.1AR advises against a SubjectKeyIdentifier, Matter demands one; one world
wants no expiry, another two years), so a kind of certificate is a TOML file and not code. Those that come with us stand
in ``hsm/profiles/``; copy one, change it, and give its path. ``profile_file.py`` shows the form.
"""

import datetime as dt
import functools
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from hsm import der
from hsm.algorithms import KeyFamily
from hsm.errors import FieldError, IssuanceError
from hsm.names import NamePolicy, parse_name
from hsm.templates import AttributeRule, StringType, Template, check_string, name_attribute

NO_EXPIRY: Final = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
"""``99991231235959Z``: no well-defined expiration date (RFC 5280 4.1.2.5)."""

HARDWARE_MODULE_NAME: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.4")
"""id-on-hardwareModuleName (RFC 4108 5)."""

ISSUER_FIELD: Final = "issuer"
"""The field that the authority fills itself: the issuer's key identifier in hex, for URLs."""

SHARD_FIELD: Final = "shard"
"""The field for the shard of the CRL (``hsm.journal.shard_name`` of the batch), for URLs."""

_DNS_MOST: Final = 253
_URI_MOST: Final = 512
_HARDWARE_SERIAL_MOST: Final = 128

KEY_USAGES: Final = {
    "digitalSignature": "digital_signature",
    "contentCommitment": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
}
"""Bits of KeyUsage (RFC 5280 4.2.1.3), and what pyca calls them; the last two are a CA's."""


class OrderRule(Enum):
    """Whether certificates of a kind are signed under a production order only (``hsm.warrant``)."""

    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Validity:
    """How long a certificate is valid."""

    days: int | None
    """None: it does not expire."""
    clip: bool
    """A certificate that would outlive its issuer ends with it; otherwise it is refused."""

    def not_after(self, start: dt.datetime, issuer_end: dt.datetime) -> dt.datetime:
        """Return the last second of validity.

        Raises:
            IssuanceError: it lies past the issuer's (``issuance.past_issuer``).
        """
        end = NO_EXPIRY
        if self.days is not None and self.days <= (NO_EXPIRY - start).days:
            end = start + dt.timedelta(days=self.days) - dt.timedelta(seconds=1)  # both ends count (RFC 5280 4.1.2.5)
        if end <= issuer_end:
            return end
        if self.clip:
            return issuer_end
        raise IssuanceError(
            f"the certificate would be valid until {end:%Y-%m-%d}, its issuer only until {issuer_end:%Y-%m-%d}; "
            'write past_issuer = "clip" into the profile if it may end with its issuer',
            code="issuance.past_issuer",
            operator="The CA ends too soon to sign for this board. Put the board aside and call the line engineer.",
        )


@dataclass(frozen=True, slots=True)
class AlternativeNames:
    """What the SubjectAltName holds; nothing at all means that there is none."""

    hardware_type: x509.ObjectIdentifier | None = None
    """``hwType`` of the hardwareModuleName."""
    hardware_serial: Template | None = None
    """``hwSerialNum`` of the hardwareModuleName."""
    dns: tuple[Template, ...] = ()
    uri: tuple[Template, ...] = ()
    required: bool = False
    """There has to be a name."""
    given: frozenset[str] = frozenset()
    """Who may add names to those of the templates: ``operator``, ``request``."""
    allow: NamePolicy | None = None
    """Which names the final list may hold; None: those of the templates, and no others."""

    @property
    def templates(self) -> tuple[Template, ...]:
        """Every template."""
        return (*((self.hardware_serial,) if self.hardware_serial else ()), *self.dns, *self.uri)

    def fill(
        self, fields: Mapping[str, str], given: Sequence[x509.GeneralName] = ()
    ) -> x509.SubjectAlternativeName | None:
        """Return the extension for one device: the final list, as the policy allows it.

        Args:
            fields: for the templates.
            given: names that operator and request add.

        Raises:
            FieldError: a value is missing or can't stand there; the policy does not allow a name
                (``san.outside_policy``); there is none and one is needed (``san.required``).
        """
        names: list[x509.GeneralName] = []
        if self.hardware_type is not None and self.hardware_serial is not None:
            serial = _bounded("hardware_serial", self.hardware_serial.fill(fields), _HARDWARE_SERIAL_MOST).encode()
            content = _encoded(self.hardware_type) + der.encode(der.OCTET_STRING, serial)
            names.append(x509.OtherName(HARDWARE_MODULE_NAME, der.encode(der.SEQUENCE, content)))
        names.extend(x509.DNSName(_ia5("dns", template, fields, _DNS_MOST)) for template in self.dns)
        names.extend(x509.UniformResourceIdentifier(_ia5("uri", template, fields, _URI_MOST)) for template in self.uri)
        if given and not self.given:
            raise FieldError("this profile takes no names but its own", code="san.not_accepted")
        names.extend(name for name in dict.fromkeys(given) if name not in names)
        if (refusal := self.refusal(names)) is not None:
            raise FieldError(refusal, code="san.outside_policy")
        if self.required and not names:
            raise FieldError("this profile needs a name: give one like --san dns:host.example.com", code="san.required")
        return x509.SubjectAlternativeName(names) if names else None

    def refusal(self, names: Sequence[x509.GeneralName]) -> str | None:
        """Say which names of a final list are not allowed, or None."""
        return None if self.allow is None else self.allow.refusal(names)


@functools.cache
def _encoded(oid: x509.ObjectIdentifier) -> bytes:
    return der.object_identifier(oid.dotted_string)


def _bounded(place: str, value: str, most: int) -> str:
    if len(value.encode()) > most:
        raise FieldError(f"{place} takes at most {most} bytes, not {len(value.encode())}", code="field.length")
    return value


def _ia5(place: str, template: Template, fields: Mapping[str, str], most: int) -> str:
    value = _bounded(place, template.fill(fields), most)
    check_string(place, value, StringType.IA5)
    return value


@dataclass(frozen=True, slots=True)
class SubjectPart:
    """One attribute of the subject."""

    name: str
    """As the profile calls it."""
    rule: AttributeRule
    template: Template
    optional: bool = False
    """Left out when one of its fields is not given."""


@dataclass(frozen=True, slots=True)
class IssuerRule:
    """What a profile demands of the certificate above."""

    self_signed: bool = False
    """There is none: a root. Made in a ceremony."""
    keys: frozenset[KeyFamily] = frozenset()
    """Kinds of key that it may have; none named: any."""
    path_length: int | None = None
    """The pathLenConstraint that it has to have."""
    same: tuple[str, ...] = ()
    """Attributes that stand in its subject with the same value."""
    same_if_there: tuple[str, ...] = ()
    """Attributes that have the same value if they stand in its subject at all."""
    absent: tuple[str, ...] = ()
    """Attributes that must not stand in its subject."""


@dataclass(frozen=True, slots=True)
class Urls:
    """Where more can be had; templates, with the fields ``issuer`` and ``shard`` besides those of the subject."""

    crl: tuple[Template, ...] = ()
    """CRLDistributionPoints (RFC 5280 4.2.1.13): mirrors of one CRL."""
    ocsp: tuple[Template, ...] = ()
    """AuthorityInfoAccess, id-ad-ocsp (RFC 5280 4.2.2.1)."""
    issuer: tuple[Template, ...] = ()
    """AuthorityInfoAccess, id-ad-caIssuers: the issuer's certificate in DER."""


@dataclass(frozen=True, slots=True)
class NameConstraints:
    """Which names those below a CA may have (RFC 5280 4.2.1.10); templates like ``dns:{domain}``, ``ip:10.0.0.0/8``."""

    permitted: tuple[Template, ...] = ()
    excluded: tuple[Template, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of certificate."""

    name: str
    keys: frozenset[KeyFamily]
    """Keys that a device may have under this profile."""
    max_size: int
    """Bytes that a certificate may have in DER."""
    subject_parts: tuple[SubjectPart, ...]
    """Attributes of the subject, in order, one a RelativeDistinguishedName."""
    alternative_names: AlternativeNames
    validity: Validity
    subject_key_identifier: bool
    basic_constraints: bool
    """A critical BasicConstraints is there; otherwise there is none."""
    key_usage: frozenset[str]
    """Bits of a critical KeyUsage, by their names in RFC 5280; empty: there is none."""
    extended_key_usage: tuple[x509.ObjectIdentifier, ...]
    about: str = ""
    """One line: what it is for."""
    own_attributes: Mapping[str, AttributeRule] = field(default_factory=dict)
    """Attributes that the profile defines: each stands in a subject as the profile says, or not at all."""
    subject_forbids: tuple[str, ...] = ()
    """Texts that must not stand in any attribute of the subject."""
    ca: bool = False
    """BasicConstraints says cA TRUE."""
    path_length: int | None = None
    """CAs that may follow below; None: as many as one likes."""
    ocsp_no_check: bool = False
    """id-pkix-ocsp-nocheck is there (RFC 6960 4.2.2.2.1)."""
    key_identifier_octets: int | None = None
    """Octets that the key identifiers have to have, this one's and its issuer's."""
    issuer: IssuerRule = field(default_factory=IssuerRule)
    urls: Urls = field(default_factory=Urls)
    name_constraints: NameConstraints = field(default_factory=NameConstraints)
    rsa_pss: bool = False
    """An RSA issuer signs with RSASSA-PSS instead of PKCS #1 v1.5."""
    order: OrderRule = OrderRule.REQUIRED
    """Whether the authority wants a warrant for each of them."""
    sha256: bytes = b""
    """Of what its file says (``profile_file.digest``); an order names it, so that no other file passes for it. Empty
    where it is of no file."""

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """Load a profile of ours by name (``"idevid"``), or any by its path.

        Raises:
            ProfileError: there is none, or it can't be used; the message names file, line and what to write instead.
        """
        from hsm.profile_file import load  # noqa: PLC0415 - the reader knows this class, not the other way round

        return load(cls, name_or_path)

    @property
    def fields(self) -> frozenset[str]:
        """The fields that ``Authority.draft`` has to be given."""
        needed = [part.template for part in self.subject_parts if not part.optional]
        found = frozenset().union(*(t.fields for t in (*needed, *self.alternative_names.templates, *self._more)))
        return found - {ISSUER_FIELD, SHARD_FIELD}

    @property
    def optional_fields(self) -> frozenset[str]:
        """The fields that may be given."""
        optional = (part.template.fields for part in self.subject_parts if part.optional)
        return frozenset().union(*optional) - self.fields

    @property
    def _more(self) -> tuple[Template, ...]:
        urls, constraints = self.urls, self.name_constraints
        return (*urls.crl, *urls.ocsp, *urls.issuer, *constraints.permitted, *constraints.excluded)

    def subject(self, fields: Mapping[str, str]) -> x509.Name:
        """Return the subject of one device.

        Raises:
            FieldError: a value is missing or can't stand there.
        """
        return x509.Name(
            [
                name_attribute(part.name, part.template.fill(fields), part.rule)
                for part in self.subject_parts
                if not part.optional or part.template.fields <= fields.keys()
            ]
        )

    def fixed_extensions(self) -> tuple[tuple[x509.ExtensionType, bool], ...]:
        """Return the extensions that are the same for every device, each with whether it is critical."""
        found: list[tuple[x509.ExtensionType, bool]] = []
        if self.basic_constraints:
            found.append((x509.BasicConstraints(ca=self.ca, path_length=self.path_length), True))
        if self.key_usage:
            found.append((key_usage(self.key_usage), True))
        if self.extended_key_usage:
            found.append((x509.ExtendedKeyUsage(self.extended_key_usage), False))
        if self.ocsp_no_check:
            found.append((x509.OCSPNoCheck(), False))
        return tuple(found)

    @property
    def filled_fields(self) -> tuple[str, ...]:
        """The fields that ``filled_extensions`` depends on, in alphabetical order."""
        return tuple(sorted(frozenset().union(*(template.fields for template in self._more))))

    def filled_extensions(self, fields: Mapping[str, str]) -> tuple[tuple[x509.ExtensionType, bool], ...]:
        """Return the extensions that are made of templates, but for the SubjectAltName.

        Raises:
            FieldError: a value is missing or can't stand there.
        """
        found: list[tuple[x509.ExtensionType, bool]] = []
        constraints = self.name_constraints
        if constraints.permitted or constraints.excluded:
            permitted = [_subtree(template.fill(fields)) for template in constraints.permitted]
            excluded = [_subtree(template.fill(fields)) for template in constraints.excluded]
            found.append((x509.NameConstraints(permitted or None, excluded or None), True))
        if self.urls.crl:
            places = [_url("crl", template, fields) for template in self.urls.crl]
            found.append((x509.CRLDistributionPoints([x509.DistributionPoint(places, None, None, None)]), False))
        access = [
            x509.AccessDescription(oid, _url(place, template, fields))
            for place, oid, templates in (
                ("ocsp", AuthorityInformationAccessOID.OCSP, self.urls.ocsp),
                ("issuer", AuthorityInformationAccessOID.CA_ISSUERS, self.urls.issuer),
            )
            for template in templates
        ]
        if access:
            found.append((x509.AuthorityInformationAccess(access), False))
        return tuple(found)


def _url(place: str, template: Template, fields: Mapping[str, str]) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(_ia5(place, template, fields, _URI_MOST))


def _subtree(text: str) -> x509.GeneralName:
    """Parse a subtree of name constraints: a name, or for addresses a network."""
    kind, _, value = text.partition(":")
    if kind == "ip":
        return x509.IPAddress(_network(value))
    if kind == "email" and "@" not in value:
        return x509.RFC822Name(value)
    return parse_name(f"{kind}:{value.removeprefix('.')}") if kind == "dns" else parse_name(text)


def _network(value: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        raise FieldError(f"{value!r} is not a network: {error}", code="field.invalid") from error


def key_usage(names: frozenset[str]) -> x509.KeyUsage:
    """Return the KeyUsage with these bits (names of RFC 5280)."""
    bits = {pyca: name in names for name, pyca in KEY_USAGES.items()}
    return x509.KeyUsage(**bits, encipher_only=False, decipher_only=False)
