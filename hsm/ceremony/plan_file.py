"""Reading a ceremony file: every key is known, every value is checked, every fault names its line.

``docs/ceremony.md`` tells each mode's fields to their reader. What a step refers to must be there when it is read: a
file in the folder, or one that an earlier step makes. No token is asked.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography import x509

from hsm.ceremony.constraints import Table, name_constraints, usages
from hsm.ceremony.plan import (
    Backup,
    Crl,
    CrossSign,
    Import,
    Intermediate,
    Issuer,
    Lifetime,
    NewKey,
    Plan,
    Renew,
    Request,
    RestoreDrill,
    RollOver,
    Root,
    Step,
    SubCa,
    TokenChoice,
    new_key_of,
    output_of,
)
from hsm.ceremony.plan_fields import ANY_KEYS, ROOT_KEYS, ROOT_YEARS, YEARS, Fields
from hsm.errors import CeremonyError, UriError
from hsm.toml import Document, nearest
from hsm.uri import TokenUri

MAX_FILE: Final = 262_144
"""Bytes of a ceremony file: what two people can review is far smaller."""

MAX_CRL_DAYS: Final = 400
"""The next one is made at a yearly ceremony, and a month is left for it."""

REASONS: Final[Mapping[str, x509.ReasonFlags]] = MappingProxyType(
    {
        str(flag.value): flag
        for flag in x509.ReasonFlags
        if flag not in {x509.ReasonFlags.certificate_hold, x509.ReasonFlags.remove_from_crl}
    }
)
"""Why a certificate is revoked (RFC 5280 5.3.1); a root puts none on hold."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def load(path: Path, *, now: dt.datetime) -> Plan:
    """Load a ceremony file.

    Args:
        path: the file.
        now: the start of all that is made; nothing may end after its issuer.

    Raises:
        CeremonyError: ``ceremony.file``, one line with file, line number, and what to write instead.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode()
    except OSError as error:
        raise CeremonyError(f"{path} can't be read: {error.strerror}", code="ceremony.file") from error
    except UnicodeDecodeError:
        raise CeremonyError(f"{path} is not UTF-8 text", code="ceremony.file") from None
    if len(raw) > MAX_FILE:
        raise CeremonyError(f"{path} is larger than {MAX_FILE} bytes", code="ceremony.file")
    document = Document.parse(text, name=str(path), refusal=_refusal)
    plan = _Reader(document, path, now).plan(hashlib.sha256(raw).digest())
    if document.problems:
        raise document.problems[0]
    return plan


def _refusal(sentence: str, path: str, line: int) -> CeremonyError:
    return CeremonyError(sentence, code="ceremony.file", path=path, line=line)


class _Reader(Fields):
    """Reads one file; ``document`` collects the complaints."""

    def plan(self, digest: bytes) -> Plan:
        head = self.top.section("ceremony", example='name = "…"')
        name = head.text("name", example='"Acme PKI 2026"')
        operators = head.texts("operators", example='["Ada", "Grace"]') if head.has("operators") else []
        self.folder /= head.text("folder", ".", limit=1024)
        transcript = self.output(head, "transcript", default=f"{self.path.stem}.transcript.jsonl")
        head.close()
        self._read_tokens()
        steps = tuple(self._read_steps())
        self.top.close()
        return Plan(
            path=self.path,
            sha256=digest,
            name=name,
            operators=tuple(operators),
            folder=self.folder,
            transcript=transcript,
            tokens=MappingProxyType(self.tokens),
            steps=steps,
        )

    def _read_tokens(self) -> None:
        tables = self.top.section("token", example='root = { uri = "pkcs11:token=…?module-path=…" }')
        for name in tables.names():
            if not _NAME.fullmatch(name):
                tables.complain(name, f"'{name}' can't name a token; take small letters, digits and '-'")
            table = tables.table(name)
            text = table.text("uri", example='"pkcs11:token=…?module-path=…&pin-source=prompt:"', limit=4096)
            environment = table.table("environment")
            variables = {key: environment.text(key, limit=4096) for key in environment.names()}
            for key in variables:
                if not _VARIABLE.fullmatch(key):
                    environment.complain(key, f"'{key}' is no name of an environment variable")
            table.close()
            try:
                self.tokens[name] = TokenChoice(TokenUri.parse(text or "pkcs11:"), MappingProxyType(variables))
            except UriError as error:
                table.complain("uri", str(error))
                self.tokens[name] = TokenChoice(TokenUri(), MappingProxyType(variables))

    def _read_steps(self) -> Iterator[Step]:
        readers = self._readers()
        tables = self.top.sections("step")
        if not tables:
            self.top.complain("step", 'there is no [[step]]; add one with mode = "root"')
        waiting: dict[str, tuple[Table, NewKey]] = {}
        for table in tables:
            mode = table.text("mode", example='"root"')
            if mode not in readers:
                if mode:
                    table.complain("mode", f"unknown mode '{mode}'; {nearest(mode, readers)}")
                continue
            step = readers[mode](table)
            table.close()
            if (key := new_key_of(step)) is not None and key.backup:
                waiting[output_of(step) or ""] = (table, key)
            if isinstance(step, Backup):
                waiting.pop(step.of, None)
            yield step
        for file, (table, _) in waiting.items():
            table.complain("backup", f"no later step copies this key; add one with mode = \"backup\" and of = '{file}'")

    # -- the modes

    def _readers(self) -> dict[str, Callable[[Table], Step]]:
        return {
            Root.mode: self._root,
            Intermediate.mode: self._intermediate,
            SubCa.mode: self._sub_ca,
            CrossSign.mode: self._cross_sign,
            Renew.mode: self._renew,
            RollOver.mode: self._roll_over,
            Request.mode: self._request,
            Import.mode: self._import,
            Crl.mode: self._crl,
            Backup.mode: self._backup,
            RestoreDrill.mode: self._restore_drill,
        }

    def _root(self, table: Table) -> Root:
        profile = self.profile(table, root=True)
        pathlen = 1 if profile is None else profile.path_length
        step = Root(
            line=table.line("mode"),
            key=self.key(table, self.kinds(ROOT_KEYS, profile), "p384"),
            subject=self.subject(table, profile),
            lifetime=self.lifetime(table, ROOT_YEARS),
            limits=self.limits(table, pathlen=self.pathlen(table, pathlen)),
            certificate=self.output(table, "certificate"),
            profile=profile,
        )
        self.remember(step, step.key, step.lifetime, step.limits.pathlen, subject=step.subject, root=True)
        return step

    def _intermediate(self, table: Table, kind: type[Intermediate] = Intermediate) -> Intermediate:
        issuer = self.issuer(table)
        profile = self.profile(table, root=False)
        pathlen = self.pathlen(table, 0) if kind is SubCa else 0
        step = kind(
            line=table.line("mode"),
            key=self.key(table, self.kinds(ANY_KEYS, profile), "p256"),
            subject=self.subject(table, profile),
            issuer=issuer,
            lifetime=self.lifetime(table, YEARS),
            limits=self.limits(table, pathlen=pathlen),
            certificate=self.output(table, "certificate"),
            profile=profile,
        )
        self.check_below(table, issuer, step.lifetime, pathlen)
        if step.key.token and step.key.token == issuer.token and self.look_up(issuer.certificate).root:
            table.complain(
                "token", f"token '{step.key.token}' holds the root, which rests in a safe; give this key another token"
            )
        self.remember(step, step.key, step.lifetime, pathlen, subject=step.subject)
        return step

    def _sub_ca(self, table: Table) -> SubCa:
        step = self._intermediate(table, SubCa)
        assert isinstance(step, SubCa)  # noqa: S101 - for mypy
        if step.limits.names is None and not step.limits.usages:
            table.complain(
                "mode",
                "a sub-ca is held to names or usages; add permitted, excluded or extended_key_usage, "
                'or write mode = "intermediate"',
            )
        return step

    def _cross_sign(self, table: Table) -> CrossSign:
        of, known = self.refer(table, "of")
        issuer = self.issuer(table)
        pathlen = self.pathlen(table, known.pathlen)
        step = CrossSign(
            line=table.line("mode"),
            of=of,
            issuer=issuer,
            lifetime=self.lifetime(table, YEARS),
            limits=self.limits(table, pathlen=pathlen),
            certificate=self.output(table, "certificate"),
        )
        self.check_below(table, issuer, step.lifetime, pathlen, subject=known.subject)
        self.known[step.certificate] = replace(
            known, end=step.lifetime.end(self.now), root=False, pathlen=pathlen, made_here=True
        )
        return step

    def _renew(self, table: Table) -> Renew:
        of, known = self.refer(table, "of")
        if known.root and not table.has("issuer"):
            issuer = Issuer(of, self.token_of(table, "issuer_token", known))
        else:
            issuer = self.issuer(table)
        lifetime = self.lifetime(table, ROOT_YEARS if known.root else YEARS)
        step = Renew(table.line("mode"), of, issuer, lifetime, self.output(table, "certificate"))
        if issuer.certificate != of:
            self.check_below(table, issuer, lifetime, known.pathlen)
        self.known[step.certificate] = replace(known, end=lifetime.end(self.now), made_here=True)
        return step

    def _roll_over(self, table: Table) -> RollOver:
        of, known = self.refer(table, "of")
        issuer = None if known.root and not table.has("issuer") else self.issuer(table)
        step = RollOver(
            line=table.line("mode"),
            of=of,
            key=self.key(table, ROOT_KEYS if known.root else ANY_KEYS, "p384"),
            issuer=issuer,
            lifetime=self.lifetime(table, ROOT_YEARS if known.root else YEARS),
            certificate=self.output(table, "certificate"),
        )
        if issuer is not None:
            self.check_below(table, issuer, step.lifetime, known.pathlen)
        self.remember(step, step.key, step.lifetime, known.pathlen, subject=known.subject, root=known.root)
        return step

    def _request(self, table: Table) -> Request:
        output = self.output(table, "request")
        if table.has("of"):
            of, known = self.refer(table, "of")
            token = self.token_of(table, "token", known)
            return Request(table.line("mode"), None, of, token, None, output)
        key = self.key(table, ANY_KEYS, "p256")
        step = Request(table.line("mode"), key, None, key.token, self.subject(table), output)
        self.remember(step, key, Lifetime(None), None, subject=step.subject)
        return step

    def _import(self, table: Table) -> Import:
        answer, known = self.refer(table, "answer")
        chain = tuple(table.texts("chain", example='["their-issuer.pem", "their-root.pem"]'))
        for file in chain:
            self.check_certificate(table, "chain", file)
        if not chain:
            table.complain("chain", "'chain' names the certificates above the answer, the root last")
        step = Import(
            line=table.line("mode"),
            token=self.token(table, "token"),
            answer=answer,
            chain=chain,
            request=table.text("request", limit=1024) if table.has("request") else None,
            pathlen=self.pathlen(table, 0),
            names=name_constraints(table),
            usages=usages(table),
            certificate=self.output(table, "certificate"),
        )
        if step.request and not (self.folder / step.request).is_file():
            table.complain("request", f"there is no file '{step.request}' in {self.folder}")
        self.known[step.certificate] = replace(known, token=step.token, made_here=True)
        return step

    def _crl(self, table: Table) -> Crl:
        issuer = self.issuer(table)
        previous = table.text("previous", limit=1024) if table.has("previous") else None
        if previous is not None and previous not in self.crls and not (self.folder / previous).is_file():
            table.complain("previous", f"there is no file '{previous}' in {self.folder}")
        revoke = []
        for entry in table.sections("revoke") if table.has("revoke") else []:
            file, _ = self.refer(entry, "certificate")
            reason = entry.text("reason", "unspecified")
            if reason not in REASONS:
                entry.complain("reason", f"'{reason}' is no reason; {nearest(reason, REASONS)}")
            revoke.append((file, REASONS.get(reason, x509.ReasonFlags.unspecified)))
            entry.close()
        days = table.integer("days", 1, MAX_CRL_DAYS, example="180")
        crl = self.output(table, "crl")
        self.crls.add(crl)
        return Crl(table.line("mode"), issuer, previous, tuple(revoke), days, crl)

    def _backup(self, table: Table) -> Backup:
        of, known = self.refer(table, "of")
        token = self.token_of(table, "token", known)
        to = self.token(table, "to")
        if to and to == token:
            table.complain("to", f"token '{to}' holds the key already; a copy goes into another token")
        if known.made_here and not known.kept_open and known.label:
            table.complain("of", "this key is made so that it can't leave its token; add backup = true to its step")
        label = table.text("label", known.label or None, example='"acme-root"')
        if to != token:
            self.take_label(table, to, label)
        return Backup(table.line("mode"), of, token, to, label)

    def _restore_drill(self, table: Table) -> RestoreDrill:
        of, _ = self.refer(table, "of")
        return RestoreDrill(table.line("mode"), of, self.token(table, "token"))
