"""Lint rules for what a profile demands of a subject and of the certificate above; all of it stands in the profile."""

import re
from collections.abc import Iterator

from cryptography import x509

from hsm.lint_case import Case, Finding
from hsm.names import name_text
from hsm.templates import ATTRIBUTES, AttributeRule


def own_attributes(case: Case) -> Iterator[Finding]:
    """Attributes that the profile defines stand in the subject once, as it says, or not at all."""
    profile = case.profile
    parts = {part.name: part for part in profile.subject_parts}
    for name, rule in profile.own_attributes.items():
        found, code = _values(case.subject, rule), f"subject.{name.lower()}"
        if name not in parts:
            if found:
                yield Finding(f"{code}.unexpected", f"the subject must not have {name}")
            continue
        if not found and not parts[name].optional:
            yield Finding(f"{code}.missing", f"the subject needs {name}")
        if len(found) > 1:
            yield Finding(f"{code}.twice", f"the subject has {name} {len(found)} times")
        for value in found:
            if not re.fullmatch(rule.pattern, value):
                yield Finding(f"{code}.value", f"{name} is {value!r}, not {rule.pattern}")


def forbidden_texts(case: Case) -> Iterator[Finding]:
    """No attribute of the subject holds a text that the profile forbids."""
    if not case.profile.subject_forbids:
        return
    for attribute in case.subject:
        for text in case.profile.subject_forbids:
            if text in str(attribute.value):
                yield Finding("subject.forbidden_text", f"{text!r} must not stand in the subject: {attribute.value!r}")


def issuer_form(case: Case) -> Iterator[Finding]:
    """The certificate above is what the profile demands, and may sign what this one is."""
    rule, issuer = case.profile.issuer, case.issuer
    if rule.self_signed and not issuer.self_issued:
        yield Finding(
            "issuer.not_self", f"profile {case.profile.name} is of a root, which signs itself: hold a ceremony"
        )
    if rule.keys and issuer.family not in rule.keys:
        wanted = ", ".join(sorted(family.value for family in rule.keys))
        yield Finding("issuer.key_not_allowed", f"the issuer's key has to be {wanted}")
    if rule.path_length is not None and issuer.path_length != rule.path_length:
        yield Finding(
            "issuer.path_length", f"the issuer's pathLenConstraint is {issuer.path_length}, not {rule.path_length}"
        )
    if case.profile.ca and issuer.path_length == 0 and not issuer.self_issued:
        yield Finding("issuer.path_exhausted", "the issuer may sign no CA: its pathLenConstraint is 0")
    elif case.profile.ca and not issuer.self_issued:
        yield from _depth(case)


def _depth(case: Case) -> Iterator[Finding]:
    """A CA has fewer CAs below it than each one above may have."""
    depth, wanted = case.issuer.limits.depth, case.profile.path_length
    if depth is not None and (wanted is None or wanted >= depth):
        yield Finding(
            "bc.outside_issuer", f"path_length is {wanted}, which is not below what those above leave, {depth}"
        )


def limits(case: Case) -> Iterator[Finding]:
    """Names and usages are such as all certificates above may sign for (RFC 5280 4.2.1.10, 4.2.1.12)."""
    limits = case.issuer.limits
    for name in limits.foreign_names(case.subject, case.names) if limits.names else ():  # to read a subject takes time
        if isinstance(name, x509.DirectoryName):
            yield Finding("subject.outside_issuer", f"the issuer may not sign for {name.value.rfc4514_string()}")
        else:
            yield Finding("san.outside_issuer", f"the issuer may not sign for {name_text(name)}")
    usages = case.usages
    if usages is not None and (foreign := limits.foreign_usages(usages)):
        yield Finding(
            "eku.outside_issuer", f"the issuer may not sign for {', '.join(oid.dotted_string for oid in foreign)}"
        )


def issuer_subject(case: Case) -> Iterator[Finding]:
    """Attributes agree with those in the issuer's subject."""
    rule, above = case.profile.issuer, case.issuer.name
    if above is None or not (rule.same or rule.same_if_there or rule.absent):
        return
    for name in rule.absent:
        if _values(above, _rule(case, name)):
            yield Finding(f"issuer.{name.lower()}.unexpected", f"the issuer's subject must not have {name}")
    for name in (*rule.same, *rule.same_if_there):
        theirs, ours = _values(above, _rule(case, name)), _values(case.subject, _rule(case, name))
        if not theirs and name in rule.same:
            yield Finding(f"issuer.{name.lower()}.missing", f"the issuer's subject has no {name}")
        elif theirs and theirs != ours:
            yield Finding(
                f"subject.{name.lower()}.differs", f"{name} is {', '.join(ours)}, the issuer's is {', '.join(theirs)}"
            )


def _rule(case: Case, name: str) -> AttributeRule:
    return case.profile.own_attributes.get(name) or ATTRIBUTES[name]


def _values(name: x509.Name, rule: AttributeRule) -> list[str]:
    return [str(attribute.value) for attribute in name.get_attributes_for_oid(rule.oid)]
