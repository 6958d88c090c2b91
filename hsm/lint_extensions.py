"""Lint rules for the extensions of a certificate."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, ObjectIdentifier

from hsm.lint_case import Case, Finding
from hsm.profiles import HARDWARE_MODULE_NAME, Profile

_EXTENSIONS: Final[Mapping[ObjectIdentifier, tuple[str, bool]]] = {
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: ("aki", False),
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: ("ski", False),
    ExtensionOID.BASIC_CONSTRAINTS: ("bc", True),
    ExtensionOID.KEY_USAGE: ("ku", True),
    ExtensionOID.EXTENDED_KEY_USAGE: ("eku", False),
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME: ("san", False),
    ExtensionOID.NAME_CONSTRAINTS: ("nc", True),
    ExtensionOID.CRL_DISTRIBUTION_POINTS: ("cdp", False),
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS: ("aia", False),
    ExtensionOID.OCSP_NO_CHECK: ("nocheck", False),
}
"""The extensions we know: the name in codes, and whether they are critical (802.1AR-2018 8.10, RFC 5280 4.2)."""

Recogniser = Callable[[x509.ExtensionType], bool]


def known(case: Case) -> Iterator[Finding]:
    """Each extension of the profile is there, says what it should, and is as critical as it should be."""
    if case.has_expected_extensions:
        return
    wanted = _wanted(case)
    may_be_there = not case.is_known and case.profile.alternative_names.given
    for oid, (name, critical) in _EXTENSIONS.items():
        found, want = case.extensions.get(oid), wanted.get(oid)
        if found is None:
            if want is not None and not (
                name == "san" and may_be_there and not case.profile.alternative_names.required
            ):
                yield Finding(f"{name}.missing", f"the profile demands the extension {name}")
        elif want is None:
            yield Finding(f"{name}.unexpected", f"the profile has no extension {name}")
        else:
            if found.critical is not critical:
                yield Finding(f"{name}.critical", f"the extension {name} is critical: {found.critical}")
            if not want(found.value):
                yield from _difference(name, found.value, case)


def _difference(name: str, value: x509.ExtensionType, case: Case) -> Iterator[Finding]:
    """Say how an extension differs."""
    if isinstance(value, x509.BasicConstraints) and value.ca is not case.profile.ca:
        yield Finding("bc.ca", f"cA is {value.ca}, the profile wants {case.profile.ca}")
    elif isinstance(value, x509.BasicConstraints):
        yield Finding(
            "bc.path_length", f"pathLenConstraint is {value.path_length}, the profile wants {case.profile.path_length}"
        )
    else:
        yield Finding(f"{name}.mismatch", f"the extension {name} says {value!r}")


def _wanted(case: Case) -> Mapping[ObjectIdentifier, Recogniser]:
    """Return, for each extension that has to be there, what recognises its value."""
    wanted: dict[ObjectIdentifier, Recogniser] = {oid: value.__eq__ for oid, value in case.fixed.items()}
    if case.profile.subject_key_identifier:
        wanted[ExtensionOID.SUBJECT_KEY_IDENTIFIER] = x509.SubjectKeyIdentifier.from_public_key(case.key).__eq__  # type: ignore[arg-type]
    if case.is_known:
        wanted |= {value.oid: value.__eq__ for value in case.expected.filled}
        if case.expected.names is not None:
            wanted[case.expected.names.oid] = case.expected.names.__eq__
        return wanted
    urls, constraints = case.profile.urls, case.profile.name_constraints
    for oid, templates in (
        (ExtensionOID.CRL_DISTRIBUTION_POINTS, urls.crl),
        (ExtensionOID.AUTHORITY_INFORMATION_ACCESS, (*urls.ocsp, *urls.issuer)),
        (ExtensionOID.NAME_CONSTRAINTS, (*constraints.permitted, *constraints.excluded)),
    ):
        if templates:
            wanted[oid] = _anything
    if case.profile.alternative_names.templates or case.profile.alternative_names.given:
        wanted[ExtensionOID.SUBJECT_ALTERNATIVE_NAME] = _has_form_of(case.profile)
    return wanted


def _anything(_: x509.ExtensionType) -> bool:
    return True


def _has_form_of(profile: Profile) -> Recogniser:
    """Return what recognises names of the profile's form, for a certificate whose fields are not known any more."""
    rule = profile.alternative_names

    def fits(value: x509.ExtensionType) -> bool:
        if not isinstance(value, x509.SubjectAlternativeName):
            return False
        other = [name.type_id for name in value if isinstance(name, x509.OtherName)]
        hardware = [HARDWARE_MODULE_NAME] if rule.hardware_type else []
        count = len(list(value))
        if rule.given:  # which ones is for the policy to say
            return other[: len(hardware)] == hardware and count >= len(rule.templates)
        dns = sum(isinstance(name, x509.DNSName) for name in value)
        uri = sum(isinstance(name, x509.UniformResourceIdentifier) for name in value)
        return (other, dns, uri) == (hardware, len(rule.dns), len(rule.uri)) and count == len(rule.templates)

    return fits


def unknown(case: Case) -> Iterator[Finding]:
    """There is no extension that the profile does not know."""
    if case.has_expected_extensions:
        return
    for oid, extension in case.extensions.items():
        if oid not in _EXTENSIONS:
            code = "extension.unknown_critical" if extension.critical else "extension.unknown"
            yield Finding(code, f"the extension {oid.dotted_string} is not in the profile")


def names(case: Case) -> Iterator[Finding]:
    """The final list of names is one that the profile's policy lets through."""
    rule = case.profile.alternative_names
    found = [] if case.names is None else list(case.names)
    for name in found:
        if isinstance(name, x509.DNSName) and name.value.startswith("*.") and "." not in name.value[2:].rstrip("."):
            yield Finding("san.wildcard_too_wide", f"{name.value!r}: two labels at least have to follow the wildcard")
    if rule.allow is None and not rule.required:
        return
    if (refusal := rule.refusal(found)) is not None:
        yield Finding("san.outside_policy", refusal)
    if rule.required and not found:
        yield Finding("san.required", "the profile demands a name")


def key_identifiers(case: Case) -> Iterator[Finding]:
    """Key identifiers have the length that the profile wants."""
    octets = case.profile.key_identifier_octets
    if octets is None:
        return
    if len(case.issuer.key_identifier) != octets:
        yield Finding(
            "aki.length", f"the issuer's key identifier has {len(case.issuer.key_identifier)} octets, not {octets}"
        )
    if case.has_expected_extensions:
        return  # ours is a SHA-1
    found = case.extensions.get(ExtensionOID.SUBJECT_KEY_IDENTIFIER)
    if found is not None and isinstance(found.value, x509.SubjectKeyIdentifier) and len(found.value.digest) != octets:
        yield Finding("ski.length", f"the key identifier has {len(found.value.digest)} octets, not {octets}")
