"""The fields that the modes of a ceremony file share, and what a file may refer to."""

import datetime as dt
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from cryptography import x509

from hsm.algorithms import KeyKind
from hsm.ceremony.constraints import Table, distinguished_name, name_constraints, usages
from hsm.ceremony.plan import Issuer, Lifetime, Limits, NewKey, Request, Step, TokenChoice, output_of
from hsm.errors import CeremonyError, ProfileError
from hsm.profiles import NO_EXPIRY, Profile
from hsm.toml import Document, nearest

ROOT_KEYS: Final = (KeyKind.RSA4096, KeyKind.P384, KeyKind.P256)
"""Keys that last as long as a root does."""

ROOT_YEARS: Final = (10, 20)
YEARS: Final = (1, 20)
MAX_PATHLEN: Final = 4
NO_END: Final = "99991231235959Z"

ANY_KEYS: Final = tuple(KeyKind)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a certificate, or of a request, that a step may refer to."""

    token: str | None
    end: dt.datetime
    root: bool
    ca: bool
    pathlen: int | None
    subject: x509.Name | None = None
    label: str = ""
    made_here: bool = False
    kept_open: bool = False
    """Its key is made by this file, with ``backup``."""


NOTHING: Final = Known("", NO_EXPIRY, root=False, ca=True, pathlen=None)
"""Stands for what was complained about, and causes no more complaints."""


class Fields:
    """Reads fields; what is wrong is complained about, and an empty value stands in."""

    def __init__(self, document: Document[CeremonyError], path: Path, now: dt.datetime) -> None:
        self.top = document.top
        self.path = path
        self.now = now
        self.folder = path.absolute().parent
        self.tokens: dict[str, TokenChoice] = {}
        self.known: dict[str, Known] = {}
        self.labels: set[tuple[str, str]] = set()
        self.crls: set[str] = set()

    def key(self, table: Table, kinds: tuple[KeyKind, ...], example: str) -> NewKey:
        """Read ``token``, ``label``, ``key`` and ``backup``."""
        token = self.token(table, "token")
        label = table.text("label", example='"acme-root-2026"')
        self.take_label(table, token, label)
        known = [kind.value for kind in kinds]
        kind = table.text("key", example=f'"{example}"')
        if kind and kind not in known:
            table.complain("key", f"'{kind}' is no key for this step; take one of {', '.join(known)}")
            kind = ""
        backup = table.flag("backup", default=False)
        if backup and kind == KeyKind.ED25519.value:
            table.complain("backup", "tokens were seen to refuse to wrap an Ed25519 key; take p256 or p384")
        return NewKey(token, label, KeyKind(kind or example), backup=backup)

    def take_label(self, table: Table, token: str, label: str) -> None:
        """See that no earlier step takes the same label in the same token."""
        if token and label and (token, label) in self.labels:
            table.complain("label", f"an earlier step makes a key '{label}' in token '{token}'; choose another label")
        self.labels.add((token, label))

    def token(self, table: Table, key: str) -> str:
        """Read the name of a token."""
        name = table.text(key, example=f'"{next(iter(self.tokens), "root")}"')
        if name and name not in self.tokens:
            table.complain(key, f"there is no [token.{name}]; {nearest(name, self.tokens)}")
            return ""
        return name

    def token_of(self, table: Table, key: str, known: Known) -> str:
        """Return the token of a key that is known, or was made by an earlier ceremony."""
        return known.token if known.token is not None and not table.has(key) else self.token(table, key)

    def profile(self, table: Table, *, root: bool) -> Profile | None:
        """Read ``profile``: its name, or the path of its file; None if it is not there."""
        if not table.has("profile"):
            return None
        name = table.text("profile", example='"matter-paa"' if root else '"matter-pai"', limit=1024)
        try:
            found = Profile.load(self.folder / name if name.endswith(".toml") else name)
        except ProfileError as error:
            table.complain("profile", str(error))
            return None
        if not found.ca or found.issuer.self_signed is not root:
            wanted = "a root" if root else "a CA below another one"
            table.complain("profile", f"profile '{found.name}' is not that of {wanted}; see 'station ca profiles'")
            return None
        return found

    def kinds(self, kinds: tuple[KeyKind, ...], profile: Profile | None) -> tuple[KeyKind, ...]:
        """Return which kinds of key are left, if a profile has to allow them."""
        return tuple(kind for kind in kinds if profile is None or kind.family in profile.keys)

    def subject(self, table: Table, profile: Profile | None = None) -> x509.Name:
        """Read ``subject``; with a profile, the attributes that it has, and its own ones by their names."""
        if not table.has("subject"):
            table.complain("", f'{table.title} has no \'subject\'; add subject = {{ CN = "…", O = "…" }}')
            return x509.Name([])
        attributes = table.table("subject")
        subject = distinguished_name(attributes, {} if profile is None else profile.own_attributes)
        if not attributes.names():
            table.complain("subject", 'the subject is empty; write subject = { CN = "…", O = "…" }')
        elif profile is not None:
            self._check_form(table, [attribute.oid for attribute in subject], profile)
        return subject

    @staticmethod
    def _check_form(table: Table, found: list[x509.ObjectIdentifier], profile: Profile) -> None:
        """See that a subject has the attributes of a profile, in their order."""
        parts = profile.subject_parts
        if found != [part.rule.oid for part in parts if not part.optional or part.rule.oid in found]:
            names = ", ".join(f"{part.name}{' (may be left out)' if part.optional else ''}" for part in parts)
            table.complain("subject", f"profile '{profile.name}' has these attributes, in this order: {names}")

    def lifetime(self, table: Table, years: tuple[int, int]) -> Lifetime:
        """Read ``years``, or ``not_after`` for no end."""
        if table.has("not_after"):
            text = table.text("not_after")
            if text != NO_END or table.has("years"):
                table.complain("not_after", f'not_after is "{NO_END}" (no end), and stands alone; or write years = …')
            return Lifetime(None)
        return Lifetime(table.integer("years", *years, example=str(years[1])))

    def pathlen(self, table: Table, default: int | None) -> int | None:
        """Read ``pathlen``."""
        return table.integer("pathlen", 0, MAX_PATHLEN) if table.has("pathlen") else default

    def limits(self, table: Table, *, pathlen: int | None) -> Limits:
        """Read what a CA may issue, and its URLs."""
        return Limits(
            pathlen=pathlen,
            names=name_constraints(table),
            usages=usages(table),
            crl_urls=self._urls(table, "crl_urls"),
            issuer_urls=self._urls(table, "issuer_urls"),
        )

    @staticmethod
    def _urls(table: Table, key: str) -> tuple[str, ...]:
        found = table.texts(key, example='["http://pki.acme.example/root.crl"]') if table.has(key) else []
        for url in found:
            # RFC 5280 8: https would need a certificate to be checked in order to check one
            if not re.fullmatch(r"http://[!-~]{1,500}", url):
                table.complain(key, f"'{url}' is not a plain http:// URL")
        return tuple(found)

    def output(self, table: Table, key: str, *, default: str | None = None) -> str:
        """Read the name of a file that will be made."""
        name = table.text(key, default, example='"acme-root.pem"', limit=255)
        parts = PurePosixPath(name).parts
        if name and (name.startswith("/") or ".." in parts or "\\" in name):
            table.complain(key, f"'{name}' leaves the ceremony's folder; write a name below it")
        elif name and (name in self.known or name in self.crls):
            table.complain(key, f"an earlier step makes or reads '{name}'; choose another name")
        return name

    def refer(self, table: Table, key: str) -> tuple[str, Known]:
        """Read the name of a certificate that is there, or is made by an earlier step."""
        file = table.text(key, example='"acme-root.pem"', limit=1024)
        return file, (self.check_certificate(table, key, file) if file else NOTHING)

    def check_certificate(self, table: Table, key: str, file: str) -> Known:
        """Return what is known of a certificate that is there, or that an earlier step makes."""
        if file in self.known:
            return self.known[file]
        known = NOTHING
        try:
            certificate = x509.load_pem_x509_certificate((self.folder / file).read_bytes())
            known = _read(certificate)
        except OSError as error:
            table.complain(
                key,
                f"'{file}' is made by no earlier step and can't be read: {error.strerror}; put it into {self.folder}, "
                "or add a step before that makes it",
            )
        except (ValueError, x509.DuplicateExtension):
            table.complain(key, f"'{file}' is not the PEM of a certificate")
        if not known.ca:
            table.complain(key, f"'{file}' is not the certificate of a CA")
        self.known[file] = known
        return known

    def issuer(self, table: Table) -> Issuer:
        """Read ``issuer`` and, where its key was made by an earlier ceremony, ``issuer_token``."""
        file, known = self.refer(table, "issuer")
        return Issuer(file, self.token_of(table, "issuer_token", known))

    def look_up(self, file: str) -> Known:
        """Return what is known of a file."""
        return self.known.get(file, NOTHING)

    def check_below(
        self, table: Table, issuer: Issuer, lifetime: Lifetime, pathlen: int | None, *, subject: x509.Name | None = None
    ) -> None:
        """See that a certificate fits below its issuer; one of the same name does not count as one more step down."""
        above = self.look_up(issuer.certificate)
        key = "years" if table.has("years") else "not_after"
        if lifetime.end(self.now) > above.end:
            table.complain(key, f"it would end after its issuer, which ends on {above.end:%Y-%m-%d}")
        if subject is not None and subject == above.subject:
            return  # self-issued (RFC 5280 4.2.1.9)
        if above.pathlen is not None and (pathlen is None or pathlen >= above.pathlen):
            table.complain(
                "pathlen" if table.has("pathlen") else "issuer",
                f"its pathlen ({'none' if pathlen is None else pathlen}) must be below its issuer's ({above.pathlen})",
            )

    def remember(  # noqa: PLR0913 - what later steps look at
        self,
        step: Step,
        key: NewKey,
        lifetime: Lifetime,
        pathlen: int | None,
        *,
        subject: x509.Name | None,
        root: bool = False,
    ) -> None:
        """Note what a step makes, for the steps after it."""
        file = output_of(step)
        if file:
            self.known[file] = Known(
                key.token or None,
                lifetime.end(self.now),
                root=root,
                ca=not isinstance(step, Request),
                pathlen=pathlen,
                subject=subject,
                label=key.label,
                made_here=True,
                kept_open=key.backup,
            )


def _read(certificate: x509.Certificate) -> Known:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        ca, pathlen = constraints.ca, constraints.path_length
    except x509.ExtensionNotFound:
        ca, pathlen = False, None
    root = certificate.subject == certificate.issuer
    return Known(None, certificate.not_valid_after_utc, root=root, ca=ca, pathlen=pathlen, subject=certificate.subject)
