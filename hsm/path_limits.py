"""What the certificates above one let it be called, and be used for.

Each CA's certificate may hold all that stands below it, at any depth, to names, to usages, and to a number of further
CAs. A verifier looks at every one of them (RFC 5280 6.1), so whoever signs has to as well: a certificate that breaks a
limit far above is signed in vain, or is taken by a verifier that looks less closely.

Names compare as RFC 5280 7 says: those of directories without regard to case and to runs of spaces, those of hosts
without regard to case.
"""

import ipaddress
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ATTENDANT: Final = ExtendedKeyUsageOID.OCSP_SIGNING
"""A usage that a CA gives to its own responder, whatever its own usages are: it is about the CA (RFC 6960 4.2.2.2)."""


@dataclass(frozen=True, slots=True)
class PathLimits:
    """What a chain of CA certificates leaves to those below it."""

    names: tuple[x509.NameConstraints, ...] = ()
    """Each is to be kept."""
    usages: frozenset[x509.ObjectIdentifier] | None = None
    """Those that all of them have; None: any."""
    depth: int | None = None
    """Further CAs that may stand below, one under the other; None: any number."""

    @classmethod
    def of(cls, chain: Sequence[x509.Certificate]) -> "PathLimits":
        """Read the limits of a chain.

        Args:
            chain: the issuer first, then its own issuer, and so on; as far as it is known.
        """
        names: list[x509.NameConstraints] = []
        usages: frozenset[x509.ObjectIdentifier] | None = None
        depths: list[int] = []
        below = 0  # CAs between; a self-issued one is no step down (RFC 5280 4.2.1.9)
        for certificate in chain:
            for extension in certificate.extensions:
                match extension.value:
                    case x509.NameConstraints() as value:
                        names.append(value)
                    case x509.ExtendedKeyUsage() as value if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in value:
                        usages = frozenset(value) if usages is None else usages & frozenset(value)
                    case x509.BasicConstraints(path_length=int() as length):
                        depths.append(max(0, length - below))
            below += certificate.subject != certificate.issuer
        return cls(tuple(names), usages, min(depths, default=None))

    def foreign_usages(self, wanted: x509.ExtendedKeyUsage) -> list[x509.ObjectIdentifier]:
        """Return the usages that those above don't have."""
        if self.usages is None:
            return []
        return [usage for usage in wanted if usage not in self.usages and usage != ATTENDANT]

    def foreign_names(
        self, subject: x509.Name, alternative: x509.SubjectAlternativeName | None
    ) -> Iterator[x509.GeneralName]:
        """Yield the names of a certificate that those above may not sign for (RFC 5280 4.2.1.10)."""
        if not self.names:
            return
        names: list[x509.GeneralName] = [x509.DirectoryName(subject)] if list(subject) else []
        names += list(alternative or ())
        mails = (str(found.value) for found in subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS))
        names += [x509.RFC822Name(mail) for mail in mails if mail.isascii()]
        for name in names:
            if not all(_is_permitted(name, constraints) for constraints in self.names):
                yield name


NO_LIMITS: Final = PathLimits()
"""Of a root, which has nothing above it."""


def _is_permitted(name: x509.GeneralName, constraints: x509.NameConstraints) -> bool:
    permitted, excluded = (
        [tree for tree in trees or () if type(tree) is type(name)]
        for trees in (constraints.permitted_subtrees, constraints.excluded_subtrees)
    )
    if any(_is_within(name, tree) or _stands_for(name, tree) for tree in excluded):
        return False
    return not permitted or any(_is_within(name, tree) for tree in permitted)


def _is_within(name: x509.GeneralName, tree: x509.GeneralName) -> bool:
    match name, tree:
        case x509.DirectoryName(), x509.DirectoryName():
            return is_below(name.value, tree.value)
        case x509.DNSName(), x509.DNSName():
            return _in_domain(_host(name.value), tree.value.lower().lstrip("."), itself=True)
        case x509.RFC822Name(), x509.RFC822Name():
            return _mail_within(name.value, tree.value)
        case x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier():
            host = tree.value.lower()
            return _in_domain(_host_of(name.value), host.lstrip("."), itself=not host.startswith("."))
        case x509.IPAddress(), x509.IPAddress():
            network, address = tree.value, name.value
            return isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network) and address in network
        case _:  # a kind that we can't compare, and that is constrained: never let through (RFC 5280 4.2.1.10)
            return False


def _stands_for(name: x509.GeneralName, tree: x509.GeneralName) -> bool:
    """Tell whether a wildcard stands for the host at the top of a tree: its label is any one."""
    if not (isinstance(name, x509.DNSName) and isinstance(tree, x509.DNSName) and name.value.startswith("*.")):
        return False
    return tree.value.lower().partition(".")[2] == _host(name.value)


def is_below(name: x509.Name, tree: x509.Name) -> bool:
    """Tell whether a directory name is a tree's, or below it (RFC 5280 7.1)."""
    ours, theirs = _compared(name), _compared(tree)
    return ours[: len(theirs)] == theirs


def _compared(name: x509.Name) -> list[frozenset[tuple[x509.ObjectIdentifier, str]]]:
    return [frozenset((part.oid, _folded(part.value)) for part in rdn) for rdn in name.rdns]


def _folded(value: str | bytes) -> str:
    """Return what is compared: no case, no form of writing, and one space for many (RFC 4518)."""
    text = value.hex() if isinstance(value, bytes) else value
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def _in_domain(host: str, domain: str, *, itself: bool) -> bool:
    """Tell whether a host is in a domain; an empty domain has all of them."""
    return not domain or (itself and host == domain) or host.endswith(f".{domain}")


def _host(name: str) -> str:
    return name.lower().rstrip(".").removeprefix("*.")


def _host_of(uri: str) -> str:
    try:
        return (urlsplit(uri).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _mail_within(address: str, tree: str) -> bool:
    local, _, host = address.rpartition("@")
    if "@" in tree:
        wanted, _, place = tree.rpartition("@")
        return (local, host.lower()) == (wanted, place.lower())
    domain = tree.lower()
    return host.lower().endswith(domain) if domain.startswith(".") else host.lower() == domain
