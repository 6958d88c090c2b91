"""Name constraints and usages of a CA, as a ceremony file writes them.

::

    permitted = { dns = ["acme.example"], ip = ["10.0.0.0/8"], directory = [{ O = "Acme" }] }
    excluded = { dns = ["secret.acme.example"] }
    extended_key_usage = ["serverAuth", "clientAuth"]
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from cryptography import x509

from hsm import der
from hsm.errors import CeremonyError, FieldError
from hsm.profile_file import EXTENDEDKEY_USAGES
from hsm.templates import ATTRIBUTES, AttributeRule, name_attribute
from hsm.toml import Section, nearest

Table = Section[CeremonyError]

KINDS: Final = ("dns", "email", "uri", "ip", "directory")
"""Forms of names that can be constrained (RFC 5280 4.2.1.10)."""

_HOST: Final = re.compile(r"\.?(?!-)[A-Za-z0-9-]{1,63}(\.(?!-)[A-Za-z0-9-]{1,63})*")
"""A domain and all below it, or with a leading dot only those below it."""

_DOTTED: Final = re.compile(r"[012](\.(0|[1-9][0-9]{0,9})){2,20}")

_MAILBOX: Final = re.compile(r"([0-9A-Za-z.!#$%&'*+/=?^_`{|}~-]+@)?" + _HOST.pattern)


def name_constraints(table: Table) -> x509.NameConstraints | None:
    """Read ``permitted`` and ``excluded``; None if neither is there."""
    trees: list[list[x509.GeneralName] | None] = []
    for key in ("permitted", "excluded"):
        if not table.has(key):
            trees.append(None)
            continue
        names = table.table(key)
        tree = _subtrees(names)
        if not names.names():
            table.complain(key, f"'{key}' names nothing; write {key} = {{ dns = [\"acme.example\"] }}, or leave it out")
        trees.append(tree or None)
    return x509.NameConstraints(*trees) if any(trees) else None


def usages(table: Table) -> tuple[x509.ObjectIdentifier, ...]:
    """Read ``extended_key_usage``; nothing if it is not there."""
    key = "extended_key_usage"
    found = []
    for text in table.texts(key, example='["clientAuth"]') if table.has(key) else []:
        if text in EXTENDEDKEY_USAGES:
            found.append(EXTENDEDKEY_USAGES[text])
            continue
        try:
            der.object_identifier(text)
            found.append(x509.ObjectIdentifier(text))
        except ValueError:
            table.complain(key, f"'{text}' is no extended key usage; {nearest(text, EXTENDEDKEY_USAGES)}")
    if len(set(found)) != len(found):
        table.complain(key, f"'{key}' names something twice")
    return tuple(found)


def distinguished_name(table: Table, own: Mapping[str, AttributeRule] = MappingProxyType({})) -> x509.Name:
    """Read a table of attributes in their order; complaints stand for what is wrong.

    Args:
        table: names and values.
        own: attributes that a profile defines.
    """
    rules = {**ATTRIBUTES, **own}
    found = []
    for name in table.names():
        value = table.text(name, limit=256)
        if name not in rules and _DOTTED.fullmatch(name):
            # X.520 does not know it; Matter's vendor and product ids are such ones (Matter Core 6.2.2)
            found.append(x509.NameAttribute(x509.ObjectIdentifier(name), value or "?"))
        elif name not in rules:
            table.complain(name, f"unknown attribute '{name}' in {table.title}; {nearest(name, rules)}")
        elif value:
            try:
                found.append(name_attribute(name, value, rules[name]))
            except FieldError as error:
                table.complain(name, str(error))
    return x509.Name(found)


def _subtrees(table: Table) -> list[x509.GeneralName]:
    readers: dict[str, Callable[[str], x509.GeneralName]] = {
        "dns": lambda text: x509.DNSName(_match(_HOST, text)),
        "email": lambda text: x509.RFC822Name(_match(_MAILBOX, text)),
        "uri": lambda text: x509.UniformResourceIdentifier(_match(_HOST, text)),
        "ip": lambda text: x509.IPAddress(ipaddress.ip_network(text)),
    }
    examples = {
        "dns": '["acme.example"]',
        "email": '["acme.example"]',
        "uri": '["acme.example"]',
        "ip": '["10.0.0.0/8"]',
    }
    found: list[x509.GeneralName] = []
    for key, read in readers.items():
        for text in table.texts(key, example=examples[key]) if table.has(key) else []:
            try:
                found.append(read(text))
            except ValueError:
                table.complain(key, f"'{text}' is no {key} constraint; write {key} = {examples[key]}")
    if table.has("directory"):
        names = [distinguished_name(entry) for entry in table.sections("directory")]
        found.extend(x509.DirectoryName(name) for name in names if list(name))
    table.close()
    return found


def _match(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(text)
    return text
