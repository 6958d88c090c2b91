"""Names in a SubjectAltName: how people write them, and which ones a profile lets through.

A policy is asked about the final list, whoever wished for a name: the profile's own templates, the operator's
``--san``, or the request; whose name is malformed gets no certificate, whatever a pattern says. Patterns:

=======  ============================================================================================================
kind     pattern
=======  ============================================================================================================
dns      ``host.example.com``; ``*.example.com``: one label there, ``**.example.com``: one or more, ``**``: any name
ip       a network, ``10.0.0.0/8`` or ``fd00::/8``
uri      the whole URI, or its beginning and a ``*`` after a ``/`` or a ``:``: ``https://a.example/*``, ``urn:acme:*``
email    ``ci@example.com``, or ``*@example.com``
other    the object identifier of an otherName
=======  ============================================================================================================
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from hsm import der
from hsm.errors import FieldError

KINDS: Final = ("dns", "ip", "uri", "email", "other")

MOST_NAMES: Final = 100
"""Names in one certificate; more are a mistake, or an attack on those who read it."""

CN_MOST: Final = 64
"""Characters in a common name (RFC 5280, ub-common-name)."""

_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_DNS_MOST: Final = 253
_EMAIL: Final = re.compile(r"([A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64})@(.+)")
_URI: Final = re.compile(r"[a-z][a-z0-9+.-]*:[a-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", re.IGNORECASE)
"""RFC 3986 2: no other characters stand in one."""
_URI_MOST: Final = 512
_UTF8_STRING: Final = 0x0C

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def dns_fault(name: str, *, wildcard: bool) -> str | None:
    """Say what is wrong with a DNS name (RFC 1034 3.5), or None."""
    labels = name.removeprefix("*.").split(".") if wildcard else name.split(".")
    if len(name) > _DNS_MOST or not all(_LABEL.fullmatch(label) for label in labels):
        return f"{name!r} is not a DNS name: labels of a-z, 0-9 and hyphens, at most {_DNS_MOST} characters"
    if labels[-1].isdigit():
        return f"{name!r} looks like an address: write ip:{name}"
    return None


def parse_name(text: str) -> x509.GeneralName:
    """Parse a name as people write it: ``dns:host.example.com``, ``ip:10.0.0.1``, ``uri:…``, ``email:…``, ``other:…``.

    Raises:
        FieldError: ``san.malformed``.
    """
    kind, colon, value = text.partition(":")
    made: x509.GeneralName | str
    match kind if colon and value else "":
        case "dns":
            name = value.lower().rstrip(".")
            made = dns_fault(name, wildcard=True) or x509.DNSName(name)
        case "ip":
            try:
                made = x509.IPAddress(ipaddress.ip_address(value))
            except ValueError:
                made = f"{value!r} is not an IP address"
        case "uri":
            made = x509.UniformResourceIdentifier(value) if _is_uri(value) else f"{value!r} is not a URI"
        case "email":
            local, _, host = value.rpartition("@")
            address = f"{local}@{host.lower()}"
            made = x509.RFC822Name(address) if _is_email(address) else f"{value!r} is not a mail address"
        case "other":
            made = _other(value)
        case _:
            made = f"{text!r} is no name: write dns:HOST, ip:ADDRESS, uri:URI, email:ADDRESS or other:OID:TEXT"
    if isinstance(made, str):
        raise FieldError(made, code="san.malformed")
    return made


def _is_uri(text: str) -> bool:
    return len(text) <= _URI_MOST and _URI.fullmatch(text) is not None


def _is_email(text: str) -> bool:
    parts = _EMAIL.fullmatch(text)
    return parts is not None and dns_fault(parts[2], wildcard=False) is None


def _other(value: str) -> x509.GeneralName | str:
    oid, _, text = value.partition(":")
    try:
        der.object_identifier(oid)
    except der.DerError:
        return f"{oid!r} is not an object identifier"
    return x509.OtherName(x509.ObjectIdentifier(oid), der.encode(_UTF8_STRING, text.encode()))


def name_text(name: x509.GeneralName) -> str:
    """Return a name as people write it; the opposite of ``parse_name``."""
    match name:
        case x509.DNSName():
            return f"dns:{name.value}"
        case x509.IPAddress():
            return f"ip:{name.value}"
        case x509.UniformResourceIdentifier():
            return f"uri:{name.value}"
        case x509.RFC822Name():
            return f"email:{name.value}"
        case x509.OtherName():
            return f"other:{name.type_id.dotted_string}:{name.value.hex()}"
        case _:
            return type(name).__name__


def common_name(name: x509.GeneralName) -> str | None:
    """Return a name as it stands in a common name (``first_name``), or None if it does not fit there.

    A part of a name is another name, so nothing is cut; the zone of an address is this machine's, and stands in no
    SubjectAltName either.
    """
    text = name_text(name).partition(":")[2]
    if isinstance(name, x509.IPAddress):
        text = text.partition("%")[0]
    return text if 0 < len(text) <= CN_MOST else None


@dataclass(frozen=True, slots=True)
class NamePolicy:
    """Which names the final list may hold; a kind without a pattern is refused."""

    dns: tuple[str, ...] = ()
    ip: tuple[Network, ...] = ()
    uri: tuple[str, ...] = ()
    email: tuple[str, ...] = ()
    other: tuple[x509.ObjectIdentifier, ...] = ()
    wildcards: bool = False
    """``*.example.com`` may stand in a certificate."""

    def refusal(self, names: Sequence[x509.GeneralName]) -> str | None:
        """Say which names of a list are not allowed, or None."""
        wrong = [name_text(name) for name in names if not self._allows(name)]
        if wrong:
            return f"the profile does not allow {', '.join(wrong)}"
        if len(names) > MOST_NAMES:
            return f"{len(names)} names; at most {MOST_NAMES} stand in one certificate"
        return None

    def _allows(self, name: x509.GeneralName) -> bool:
        match name:
            case x509.DNSName():
                return self._allows_dns(name.value)
            case x509.IPAddress(value=ipaddress.IPv4Address() | ipaddress.IPv6Address() as address):
                return any(address in network for network in self.ip)  # of the other version: never in
            case x509.UniformResourceIdentifier():
                return _is_uri(name.value) and any(_fits_uri(pattern, name.value) for pattern in self.uri)
            case x509.RFC822Name():
                return _is_email(name.value) and any(_fits_email(pattern, name.value) for pattern in self.email)
            case x509.OtherName():
                return name.type_id in self.other
            case _:
                return False

    def _allows_dns(self, name: str) -> bool:
        if dns_fault(name, wildcard=self.wildcards) is not None:
            return False
        return any(_fits_dns(pattern, name) for pattern in self.dns)


def _fits_dns(pattern: str, name: str) -> bool:
    if pattern == "**":
        return True
    any_depth, one = pattern.startswith("**."), pattern.startswith("*.")
    suffix = pattern.removeprefix("**").removeprefix("*")
    if not (any_depth or one):
        return name == pattern
    rest = name.removesuffix(suffix)
    return name.endswith(suffix) and bool(rest) and (any_depth or "." not in rest)


def _fits_uri(pattern: str, uri: str) -> bool:
    return uri.startswith(pattern[:-1]) if pattern.endswith("*") else uri == pattern


def _fits_email(pattern: str, address: str) -> bool:
    return address.endswith(pattern[1:]) if pattern.startswith("*@") else address == pattern


def pattern_fault(kind: str, pattern: str) -> str | None:
    """Say what is wrong with a pattern of a policy, or None."""
    fault: str | None = None
    match kind:
        case "dns" if pattern != "**":
            fault = dns_fault(pattern.removeprefix("**.").removeprefix("*."), wildcard=False)
        case "ip":
            try:
                ipaddress.ip_network(pattern)
            except ValueError as error:
                fault = str(error)
        case "uri":
            # 'https://example.com*' would let https://example.com.evil.test through
            sound = pattern[-2:-1] in {"/", ":"} if pattern.endswith("*") else bool(_URI.fullmatch(pattern))
            fault = None if sound else f"{pattern!r} is not a URI, or its beginning with a * after a / or a :"
        case "email":
            host = pattern.rpartition("@")[2]
            fault = dns_fault(host, wildcard=False) if "@" in pattern else f"{pattern!r} is not *@HOST or NAME@HOST"
        case "other":
            try:
                der.object_identifier(pattern)
            except der.DerError as error:
                fault = str(error)
    return fault
