"""What a certificate of one kind looks like, as data.

The rules of different worlds conflict (802.1AR advises against a SubjectKeyIdentifier, Matter demands one; one world
wants no expiry, another two years), so a kind of certificate is a TOML file and not code. Those that come with us stand
in ``hsm/profiles/``; copy one, change it, and give its path.
"""

import datetime as dt
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography import x509

from hsm import der
from hsm.algorithms import KeyFamily
from hsm.errors import FieldError, IssuanceError
from hsm.templates import StringType, Template, check_string, name_attribute

NO_EXPIRY: Final = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
"""``99991231235959Z``: no well-defined expiration date (RFC 5280 4.1.2.5)."""

HARDWARE_MODULE_NAME: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.4")
"""id-on-hardwareModuleName (RFC 4108 5)."""

_DNS_MOST: Final = 253
_URI_MOST: Final = 512
_HARDWARE_SERIAL_MOST: Final = 128

KEY_USAGES: Final = {
    "digitalSignature": "digital_signature",
    "contentCommitment": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
}
"""Bits of KeyUsage that a device may have (RFC 5280 4.2.1.3), and what pyca calls them."""


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

    @property
    def templates(self) -> tuple[Template, ...]:
        """Every template."""
        return (*((self.hardware_serial,) if self.hardware_serial else ()), *self.dns, *self.uri)

    def fill(self, fields: Mapping[str, str]) -> x509.SubjectAlternativeName | None:
        """Return the extension for one device.

        Raises:
            FieldError: a value is missing or can't stand there.
        """
        names: list[x509.GeneralName] = []
        if self.hardware_type is not None and self.hardware_serial is not None:
            serial = _bounded("hardware_serial", self.hardware_serial.fill(fields), _HARDWARE_SERIAL_MOST).encode()
            content = _encoded(self.hardware_type) + der.encode(der.OCTET_STRING, serial)
            names.append(x509.OtherName(HARDWARE_MODULE_NAME, der.encode(der.SEQUENCE, content)))
        names.extend(x509.DNSName(_ia5("dns", template, fields, _DNS_MOST)) for template in self.dns)
        names.extend(x509.UniformResourceIdentifier(_ia5("uri", template, fields, _URI_MOST)) for template in self.uri)
        return x509.SubjectAlternativeName(names) if names else None


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
class Profile:
    """One kind of certificate."""

    name: str
    keys: frozenset[KeyFamily]
    """Keys that a device may have under this profile."""
    max_size: int
    """Bytes that a certificate may have in DER."""
    subject_templates: tuple[tuple[str, Template], ...]
    """Attributes of the subject, in order, one a RelativeDistinguishedName."""
    alternative_names: AlternativeNames
    validity: Validity
    subject_key_identifier: bool
    basic_constraints: bool
    """A critical BasicConstraints with cA FALSE is there; otherwise there is none."""
    key_usage: frozenset[str]
    """Bits of a critical KeyUsage, by their names in RFC 5280; empty: there is none."""
    extended_key_usage: tuple[x509.ObjectIdentifier, ...]

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
        templates = [template for _, template in self.subject_templates]
        return frozenset().union(*(template.fields for template in (*templates, *self.alternative_names.templates)))

    def subject(self, fields: Mapping[str, str]) -> x509.Name:
        """Return the subject of one device.

        Raises:
            FieldError: a value is missing or can't stand there.
        """
        return x509.Name([name_attribute(name, template.fill(fields)) for name, template in self.subject_templates])

    def fixed_extensions(self) -> tuple[tuple[x509.ExtensionType, bool], ...]:
        """Return the extensions that are the same for every device, each with whether it is critical."""
        found: list[tuple[x509.ExtensionType, bool]] = []
        if self.basic_constraints:
            found.append((x509.BasicConstraints(ca=False, path_length=None), True))
        if self.key_usage:
            found.append((key_usage(self.key_usage), True))
        if self.extended_key_usage:
            found.append((x509.ExtendedKeyUsage(self.extended_key_usage), False))
        return tuple(found)


def key_usage(names: frozenset[str]) -> x509.KeyUsage:
    """Return the KeyUsage with these bits (names of RFC 5280)."""
    bits = {pyca: name in names for name, pyca in KEY_USAGES.items()}
    return x509.KeyUsage(**bits, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False)
