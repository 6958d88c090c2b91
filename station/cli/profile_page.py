"""What a profile makes, as people read it: written from the profile's own data."""

from collections.abc import Iterator

from hsm.profile_file import EXTENDEDKEY_USAGES
from hsm.profiles import Profile

_NAMES_OF_USAGES = {oid: name for name, oid in EXTENDEDKEY_USAGES.items()}


def lines_of_profile(profile: Profile) -> list[tuple[str, str]]:
    """Return names and values; a value may have several lines."""
    lines = [
        ("for", profile.about),
        ("fields", ", ".join(sorted(profile.fields)) or "none"),
        ("optional fields", ", ".join(sorted(profile.optional_fields))),
        ("keys", ", ".join(sorted(family.value for family in profile.keys))),
        ("subject", "\n".join(_subject(profile))),
        ("alternative names", "\n".join(_names(profile))),
        ("validity", _validity(profile)),
        ("extensions", "\n".join(_extensions(profile))),
        ("urls", "\n".join(_urls(profile))),
        ("issuer", "\n".join(_issuer(profile))),
        ("size", f"at most {profile.max_size} bytes of DER"),
    ]
    if profile.rsa_pss:
        lines.append(("signature", "RSASSA-PSS, if the issuer's key is RSA"))
    return [(name, value) for name, value in lines if value]


def _subject(profile: Profile) -> Iterator[str]:
    for part in profile.subject_parts:
        pattern = f" ({part.rule.pattern})" if part.rule.pattern else ""
        yield f"{part.name} = {part.template.text}{pattern}{', optional' if part.optional else ''}"
    if profile.subject_forbids:
        yield f"must not hold: {', '.join(profile.subject_forbids)}"


def _names(profile: Profile) -> Iterator[str]:
    rule = profile.alternative_names
    if rule.hardware_type is not None and rule.hardware_serial is not None:
        yield f"hardwareModuleName {rule.hardware_type.dotted_string}, serial {rule.hardware_serial.text}"
    yield from (f"dns {template.text}" for template in rule.dns)
    yield from (f"uri {template.text}" for template in rule.uri)
    if rule.given:
        who = {"operator": "the operator (--san)", "request": "the request"}
        yield f"{'at least one, ' if rule.required else ''}from {' and '.join(who[one] for one in sorted(rule.given))}"
    if rule.allow is not None:
        for kind in ("dns", "ip", "uri", "email"):
            patterns = ", ".join(str(pattern) for pattern in getattr(rule.allow, kind))
            yield f"allowed {kind}: {patterns or 'none'}"
        if rule.allow.other:
            yield f"allowed other: {', '.join(oid.dotted_string for oid in rule.allow.other)}"


def _validity(profile: Profile) -> str:
    days = profile.validity.days
    long = "no expiry (99991231235959Z)" if days is None else f"{days} days"
    return f"{long}; {'ends with its issuer' if profile.validity.clip else 'refused'} where the issuer ends before"


def _extensions(profile: Profile) -> Iterator[str]:
    yield "authorityKeyIdentifier"
    if profile.basic_constraints:
        length = "" if profile.path_length is None else f", pathlen {profile.path_length}"
        yield f"basicConstraints (critical): CA {str(profile.ca).lower()}{length}"
    if profile.key_usage:
        yield f"keyUsage (critical): {', '.join(sorted(profile.key_usage))}"
    if profile.extended_key_usage:
        names = (_NAMES_OF_USAGES.get(oid, oid.dotted_string) for oid in profile.extended_key_usage)
        yield f"extendedKeyUsage: {', '.join(names)}"
    if profile.ocsp_no_check:
        yield "id-pkix-ocsp-nocheck"
    if profile.subject_key_identifier:
        yield "subjectKeyIdentifier"
    constraints = profile.name_constraints
    yield from (f"nameConstraints (critical): permitted {one.text}" for one in constraints.permitted)
    yield from (f"nameConstraints (critical): excluded {one.text}" for one in constraints.excluded)


def _urls(profile: Profile) -> Iterator[str]:
    yield from (f"CRL {template.text}" for template in profile.urls.crl)
    yield from (f"OCSP {template.text}" for template in profile.urls.ocsp)
    yield from (f"issuer's certificate {template.text}" for template in profile.urls.issuer)


def _issuer(profile: Profile) -> Iterator[str]:
    rule = profile.issuer
    if rule.self_signed:
        yield "itself: a root, made in a ceremony"
    if rule.keys:
        yield f"key: {', '.join(sorted(family.value for family in rule.keys))}"
    if rule.path_length is not None:
        yield f"pathlen {rule.path_length}"
    yield from (f"has the same {name}" for name in rule.same)
    yield from (f"has the same {name}, or none" for name in rule.same_if_there)
    yield from (f"has no {name}" for name in rule.absent)
