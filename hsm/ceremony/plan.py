"""A ceremony as values: what a file says, when nothing in it is wrong.

A step names certificates by their files. ``plan_file`` has seen that each one is there or is made by an earlier step,
and in which token its key lies.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, TypeAlias

from cryptography import x509

from hsm.algorithms import KeyKind
from hsm.profiles import NO_EXPIRY, Profile
from hsm.uri import TokenUri

LEAP_DAY: Final = (2, 29)


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """One token."""

    uri: TokenUri
    environment: Mapping[str, str]
    """Variables that its module reads."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be made."""

    token: str
    label: str
    kind: KeyKind
    backup: bool
    """A later step copies it into another token; until then it can be wrapped."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs."""

    certificate: str
    token: str


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a certificate is valid."""

    years: int | None
    """None: it has no end."""

    def end(self, start: dt.datetime) -> dt.datetime:
        """Return the last second of validity; both ends count (RFC 5280 4.1.2.5)."""
        if self.years is None or start.year + self.years > NO_EXPIRY.year:
            return NO_EXPIRY
        day = 28 if (start.month, start.day) == LEAP_DAY else start.day
        return start.replace(year=start.year + self.years, day=day) - dt.timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a CA may issue, and where one learns that it was revoked."""

    pathlen: int | None
    names: x509.NameConstraints | None = None
    usages: tuple[x509.ObjectIdentifier, ...] = ()
    """Extended key usages of all that it issues; empty: any."""
    crl_urls: tuple[str, ...] = ()
    issuer_urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Root:
    """A new key, and its certificate signed by itself."""

    mode: ClassVar[str] = "root"
    line: int
    key: NewKey
    subject: x509.Name
    lifetime: Lifetime
    limits: Limits
    certificate: str
    profile: Profile | None = None
    """Whose rules it has to pass besides those of every CA's certificate."""


@dataclass(frozen=True, slots=True)
class Intermediate:
    """A new key below an issuer, free to issue anything but another CA."""

    mode: ClassVar[str] = "intermediate"
    line: int
    key: NewKey
    subject: x509.Name
    issuer: Issuer
    lifetime: Lifetime
    limits: Limits
    certificate: str
    profile: Profile | None = None
    """As for a root."""


@dataclass(frozen=True, slots=True)
class SubCa(Intermediate):
    """A new key below an issuer, held to names or usages: for one tenant or product line."""

    mode: ClassVar[str] = "sub-ca"


@dataclass(frozen=True, slots=True)
class CrossSign:
    """One more certificate for a CA that has one, below another issuer."""

    mode: ClassVar[str] = "cross-sign"
    line: int
    of: str
    issuer: Issuer
    lifetime: Lifetime
    limits: Limits
    certificate: str


@dataclass(frozen=True, slots=True)
class Renew:
    """The same key and the same words, valid for longer."""

    mode: ClassVar[str] = "renew"
    line: int
    of: str
    issuer: Issuer
    lifetime: Lifetime
    certificate: str


@dataclass(frozen=True, slots=True)
class RollOver:
    """A new key under the same name."""

    mode: ClassVar[str] = "roll-over"
    line: int
    of: str
    key: NewKey
    issuer: Issuer | None
    """None: a root, which signs itself."""
    lifetime: Lifetime
    certificate: str


@dataclass(frozen=True, slots=True)
class Request:
    """A request (PKCS #10) for a certificate that is signed elsewhere."""

    mode: ClassVar[str] = "request"
    line: int
    key: NewKey | None
    """None: the key of ``of`` asks again."""
    of: str | None
    token: str
    subject: x509.Name | None
    """None: that of ``of``."""
    request: str


@dataclass(frozen=True, slots=True)
class Import:
    """A certificate that came back."""

    mode: ClassVar[str] = "import"
    line: int
    token: str
    answer: str
    chain: tuple[str, ...]
    """The certificates above it, its own issuer first, the root last."""
    request: str | None
    pathlen: int | None
    names: x509.NameConstraints | None
    usages: tuple[x509.ObjectIdentifier, ...]
    certificate: str


@dataclass(frozen=True, slots=True)
class Crl:
    """The revocation list of a CA whose token no line has: a root's."""

    mode: ClassVar[str] = "crl"
    line: int
    issuer: Issuer
    previous: str | None
    revoke: tuple[tuple[str, x509.ReasonFlags], ...]
    """Certificates that join the list."""
    days: int
    """Until the next one."""
    crl: str


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of a key in a second token."""

    mode: ClassVar[str] = "backup"
    line: int
    of: str
    token: str
    to: str
    label: str


@dataclass(frozen=True, slots=True)
class RestoreDrill:
    """Proof that a token signs for a public key."""

    mode: ClassVar[str] = "restore-drill"
    line: int
    of: str
    token: str


Step: TypeAlias = (
    Root | Intermediate | SubCa | CrossSign | Renew | RollOver | Request | Import | Crl | Backup | RestoreDrill
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One ceremony."""

    path: Path
    sha256: bytes
    """Of the file."""
    name: str
    operators: tuple[str, ...]
    folder: Path
    """What the files of the steps are relative to."""
    transcript: str
    tokens: Mapping[str, TokenChoice]
    steps: tuple[Step, ...]

    @property
    def used_tokens(self) -> tuple[str, ...]:
        """The tokens that the steps need, in the order in which they need them."""
        names = dict.fromkeys(name for step in self.steps for name in tokens_of(step))
        return tuple(names)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The files that the steps make."""
        return tuple(file for step in self.steps if (file := output_of(step)) is not None)

    @property
    def new_labels(self) -> tuple[tuple[str, str], ...]:
        """Token and label of each key that comes to be."""
        found: list[tuple[str, str]] = []
        for step in self.steps:
            if isinstance(step, Backup):
                found.append((step.to, step.label))
            elif (key := new_key_of(step)) is not None:
                found.append((key.token, key.label))
        return tuple(found)


def new_key_of(step: Step) -> NewKey | None:
    """Return the key that a step makes."""
    return step.key if isinstance(step, Root | Intermediate | RollOver | Request) else None


def output_of(step: Step) -> str | None:
    """Return the file that a step makes."""
    match step:
        case Crl():
            return step.crl
        case Request():
            return step.request
        case Backup() | RestoreDrill():
            return None
        case _:
            return step.certificate


def issuer_of(step: Step) -> Issuer | None:
    """Return who signs a step's certificate, if that is not its own key."""
    return step.issuer if isinstance(step, Intermediate | CrossSign | Renew | RollOver | Crl) else None


def tokens_of(step: Step) -> tuple[str, ...]:
    """Return the tokens that a step needs: first that whose key seals the transcript if the step is the first one."""
    issuer, key = issuer_of(step), new_key_of(step)
    names = [issuer.token] if issuer else []
    names += [key.token] if key else []
    match step:
        case Request() | Import() | RestoreDrill():
            names.append(step.token)
        case Backup():
            names += [step.token, step.to]
    return tuple(names)


def inputs_of(step: Step) -> tuple[str, ...]:
    """Return the files that a step reads."""
    issuer = issuer_of(step)
    names = [issuer.certificate] if issuer else []
    match step:
        case CrossSign() | Renew() | RollOver() | Backup() | RestoreDrill():
            names.append(step.of)
        case Request() if step.of is not None:
            names.append(step.of)
        case Crl():
            names += [*([step.previous] if step.previous else []), *(file for file, _ in step.revoke)]
        case Import():
            names += [step.answer, *step.chain, *([step.request] if step.request else [])]
    return tuple(dict.fromkeys(names))
