"""Texts with fields in them, and what X.520 lets stand where.

A template is text with ``{field}`` in it, like ``"{model} {product_serial}"``; ``{{`` and ``}}`` stand for braces.
Values come from outside (an order, a board), so each is held to the string type and the length of its place when it is
put in.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from string import Formatter
from types import MappingProxyType
from typing import Final, Self

from cryptography.x509 import NameAttribute, NameOID, ObjectIdentifier

from hsm.errors import FieldError, ProfileError

_FIELD: Final = re.compile(r"[a-z][a-z0-9_]*")
_PRINTABLE: Final = re.compile(r"[A-Za-z0-9 '()+,\-./:=?]*")
"""PrintableString, X.680 41.4."""
_IA5: Final = re.compile(r"[\x20-\x7e]*")


class StringType(Enum):
    """String types of ASN.1; pyca/cryptography picks the same ones by itself."""

    PRINTABLE = "PrintableString"
    IA5 = "IA5String"
    UTF8 = "UTF8String"


_CHARACTERS: Final = {StringType.PRINTABLE: _PRINTABLE, StringType.IA5: _IA5, StringType.UTF8: re.compile(r".*")}


@dataclass(frozen=True, slots=True)
class AttributeRule:
    """How one attribute of a name is written (X.520, with the upper bounds of RFC 5280 appendix A.1)."""

    oid: ObjectIdentifier
    type: StringType
    most: int
    """Characters at most."""
    least: int = 1
    pattern: str = ""
    """What the whole value has to be (a regular expression), where a profile says so."""


_UTF8: Final = StringType.UTF8
_PLAIN: Final = StringType.PRINTABLE

ATTRIBUTES: Final[Mapping[str, AttributeRule]] = MappingProxyType(
    {
        "C": AttributeRule(NameOID.COUNTRY_NAME, _PLAIN, 2, 2),
        "ST": AttributeRule(NameOID.STATE_OR_PROVINCE_NAME, _UTF8, 128),
        "L": AttributeRule(NameOID.LOCALITY_NAME, _UTF8, 128),
        "O": AttributeRule(NameOID.ORGANIZATION_NAME, _UTF8, 64),
        "OU": AttributeRule(NameOID.ORGANIZATIONAL_UNIT_NAME, _UTF8, 64),
        "CN": AttributeRule(NameOID.COMMON_NAME, _UTF8, 64),
        "serialNumber": AttributeRule(NameOID.SERIAL_NUMBER, _PLAIN, 64),
        "title": AttributeRule(NameOID.TITLE, _UTF8, 64),
        "dnQualifier": AttributeRule(NameOID.DN_QUALIFIER, _PLAIN, 64),
        "pseudonym": AttributeRule(NameOID.PSEUDONYM, _UTF8, 128),
        "UID": AttributeRule(NameOID.USER_ID, _UTF8, 256),
        "DC": AttributeRule(NameOID.DOMAIN_COMPONENT, StringType.IA5, 63),
    }
)
"""The attributes that a subject may have, by the names of RFC 4514 and X.520."""


@dataclass(frozen=True, slots=True)
class Template:
    """A text with fields in it."""

    text: str
    parts: tuple[tuple[str, str | None], ...]
    """Literal text, and the field that follows it."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a template.

        Raises:
            ProfileError: a brace has no partner, or what stands in braces is not a plain name.
        """
        try:
            parts = list(Formatter().parse(text))
        except ValueError as error:
            raise ProfileError(f"the template {text!r} can't be read: {error}") from error
        for _, name, form, conversion in parts:
            if name is not None and (not _FIELD.fullmatch(name) or form or conversion):
                raise ProfileError(f"{{{name}}} in {text!r} is not a field: write {{product_serial}} or the like")
        if not text:
            raise ProfileError("a template must not be empty")
        return cls(text, tuple((literal, name) for literal, name, _, _ in parts))

    @property
    def fields(self) -> frozenset[str]:
        """The fields that it needs."""
        return frozenset(name for _, name in self.parts if name is not None)

    def fill(self, values: Mapping[str, str]) -> str:
        """Put the values in.

        Raises:
            FieldError: a value is missing, empty, begins or ends with a space, or holds a control character.
        """
        return "".join(literal + (_value(name, values) if name is not None else "") for literal, name in self.parts)


def _value(name: str, values: Mapping[str, str]) -> str:
    value = values.get(name)
    if value is None:
        raise FieldError(
            f"the profile needs the field {name!r}, which was not given; given: {', '.join(sorted(values)) or 'none'}",
            code="field.missing",
        )
    if not value or value != value.strip() or not value.isprintable():
        raise FieldError(
            f"the field {name!r} is empty, or has a space at an end or a control character: {value!r}", field=name
        )
    return value


def name_attribute(name: str, value: str, rule: AttributeRule | None = None) -> "NameAttribute[str]":
    """Make one attribute of a subject.

    Args:
        name: a key of ``ATTRIBUTES``, or what a profile calls its own attribute.
        value: what stands there.
        rule: how it is written, for an attribute that is the profile's own.

    Raises:
        FieldError: ``field.characters``, ``field.length`` or ``field.pattern``.
    """
    rule = rule or ATTRIBUTES[name]
    if not rule.least <= len(value) <= rule.most:
        raise FieldError(
            f"{name} takes {rule.least} to {rule.most} characters, not {len(value)}: {value!r}", code="field.length"
        )
    check_string(name, value, rule.type)
    if rule.pattern and not re.fullmatch(rule.pattern, value):
        raise FieldError(f"{name} has to be {rule.pattern}, not {value!r}", code="field.pattern")
    return NameAttribute(rule.oid, value)


def check_string(place: str, value: str, kind: StringType) -> None:
    """Check that a value can be written in a string type of ASN.1.

    Raises:
        FieldError: ``field.characters``, naming the character.
    """
    if not value.isprintable():
        raise FieldError(f"{place} holds a control character: {value!r}", code="field.characters")
    allowed = _CHARACTERS[kind]
    if not allowed.fullmatch(value):
        wrong = next(character for character in value if not allowed.fullmatch(character))
        raise FieldError(f"{place} is a {kind.value}, which can't hold {wrong!r}: {value!r}", code="field.characters")
