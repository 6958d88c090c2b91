"""Reading a profile file (TOML): every key is known, every value is checked, every fault names its line.

::

    about = "one line"                   # what it is for
    keys = ["p256", "p384"]              # p256, p384, rsa, ed25519
    max_size = 1024                      # bytes of DER
    order = "required"                   # the authority wants a warrant (hsm.warrant); or "none"
    rsa_signature = "pkcs1v15"           # or "pss": how an RSA issuer signs

    [attributes.VID]                     # attributes of your own: each stands in a subject as below, or not at all
    oid = "1.3.6.1.4.1.37244.2.1"
    pattern = "[0-9A-F]{4}"

    [attributes.CN]                      # without oid: what a known attribute has to fit besides its own rule
    pattern = "[A-Za-z0-9-]+"

    [subject]                            # in this order; the names of hsm.templates.ATTRIBUTES, and your own
    CN = "{product_serial}"
    VID = "{vendor_id}"
    optional = ["VID"]                   # left out if its fields are not given
    forbids = ["Mvid:"]                  # texts that no attribute may hold

    [subject_alternative_name]           # may be left out
    hardware_type = "1.3.6.1.4.1.32473.1"
    hardware_serial = "{hardware_id}"
    dns = ["{product_serial}.example.com"]
    uri = ["urn:example:{product_serial}"]
    required = true                      # there has to be a name
    given = ["operator", "request"]      # who may add names: --san, the CSR

    [subject_alternative_name.allow]     # what the final list may hold; see hsm.names for the patterns
    dns = ["*.example.com"]
    ip = ["10.0.0.0/8"]
    wildcards = false                    # whether *.example.com may stand in a certificate

    [validity]
    days = 730                           # or not_after = "99991231235959Z"
    past_issuer = "refuse"               # or "clip"

    [extensions]
    basic_constraints = true             # critical
    ca = false                           # cA; with it path_length = 0
    subject_key_identifier = true
    key_identifier_octets = 20           # what key identifiers have to have
    key_usage = ["digitalSignature"]     # critical
    extended_key_usage = ["clientAuth"]  # or object identifiers
    ocsp_no_check = false

    [name_constraints]                   # critical; names that those below a CA may have
    permitted = ["dns:{domain}"]
    excluded = []

    [urls]                               # {issuer} and {shard} are filled in
    crl = ["http://crl.example.com/{issuer}/{shard}.crl"]
    ocsp = ["http://ocsp.example.com"]
    issuer = ["http://crl.example.com/{issuer}.cer"]

    [issuer]                             # what the certificate above has to be
    self_signed = false
    keys = ["p256"]
    path_length = 0
    same = ["VID"]                       # attributes that its subject has, with the same value
    same_if_there = ["PID"]
    absent = []
"""

import difflib
import hashlib
import ipaddress
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID

from hsm import der
from hsm.algorithms import KeyFamily
from hsm.errors import ProfileError
from hsm.names import KINDS, NamePolicy, pattern_fault
from hsm.profile_table import Table
from hsm.profiles import (
    KEY_USAGES,
    AlternativeNames,
    IssuerRule,
    NameConstraints,
    OrderRule,
    Profile,
    SubjectPart,
    Urls,
    Validity,
)
from hsm.templates import ATTRIBUTES, AttributeRule, StringType

P = TypeVar("P", bound=Profile)

FOLDER: Final = Path(__file__).parent / "profiles"
"""The profiles that come with us."""

EXTENDEDKEY_USAGES: Final = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "codeSigning": ExtendedKeyUsageOID.CODE_SIGNING,
    "emailProtection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timeStamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "OCSPSigning": ExtendedKeyUsageOID.OCSP_SIGNING,
}
"""Names of RFC 5280 4.2.1.12."""

NO_EXPIRY_TEXT: Final = "99991231235959Z"
_MAX_PROFILE: Final = 65536
_SIZES: Final = range(256, 16385)
_DAYS: Final = range(1, 36526)
_GIVERS: Final = ("operator", "request")
_MOST_OWN: Final = 128
"""Characters of an attribute that a profile defines, unless its pattern says less."""
_CA_USAGES: Final = frozenset({"keyCertSign", "cRLSign"})
_TOP: Final = (
    *(
        "about",
        "order",
        "keys",
        "max_size",
        "rsa_signature",
        "attributes",
        "subject",
        "subject_alternative_name",
        "validity",
    ),
    *("extensions", "urls", "name_constraints", "issuer"),
)


def names() -> list[str]:
    """Return the names of the profiles that come with us."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(kind: type[P], name_or_path: str | Path) -> P:
    """Load a profile; see ``Profile.load``."""
    ours = names()
    path = FOLDER / f"{name_or_path}.toml" if str(name_or_path) in ours else Path(name_or_path)
    try:
        raw = path.read_bytes()[: _MAX_PROFILE + 1]
        text = raw.decode()
        content = tomllib.loads(text)
    except FileNotFoundError as error:
        raise ProfileError(
            f"there is no profile {str(name_or_path)!r}: give a path, or one of {', '.join(ours)}",
            code="profile.missing",
        ) from error
    except OSError as error:
        raise ProfileError(f"{path} can't be read: {error.strerror}", code="profile.missing") from error
    except ValueError as error:  # not UTF-8, or not TOML, which says its line
        raise ProfileError(f"{path}: {error}") from error
    if len(raw) > _MAX_PROFILE:
        raise ProfileError(f"{path} is larger than {_MAX_PROFILE} bytes")
    said = digest(content)  # before it is taken apart
    return _profile(kind, path.stem, Table(path, text, "", content), said)


def digest(content: Mapping[str, object]) -> bytes:
    """Return the SHA-256 of what a profile says, as JSON without blanks; comments and ``about`` do not count.

    The order of keys counts: that of [subject] is the order of its attributes.
    """
    said = {key: value for key, value in content.items() if key != "about"}
    return hashlib.sha256(json.dumps(said, separators=(",", ":"), default=str).encode()).digest()


def _profile(kind: type[P], name: str, top: Table, sha256: bytes) -> P:
    keys = top.choices("keys", [family.value for family in KeyFamily])
    if not keys:
        top.fail("keys", 'keys names the keys that are allowed, like keys = ["p256"]')
    max_size = top.take("max_size", int)
    if max_size not in _SIZES:
        top.fail("max_size", f"max_size is {_SIZES[0]} to {_SIZES[-1]} bytes")
    rsa = top.take("rsa_signature", str, "pkcs1v15")
    if rsa not in {"pkcs1v15", "pss"}:
        top.fail("rsa_signature", f'rsa_signature is "pkcs1v15" or "pss", not {rsa!r}')
    about = top.take("about", str, "")
    order = top.take("order", str, OrderRule.REQUIRED.value)
    if order not in {rule.value for rule in OrderRule}:
        top.fail("order", f'order is "required" or "none", not {order!r}')
    own = _attributes(top.table("attributes", needed=False))
    parts, forbids = _subject(top.table("subject", needed=True), {**ATTRIBUTES, **own})
    alternative = _alternative_names(top.table("subject_alternative_name", needed=False))
    validity = _validity(top.table("validity", needed=True))
    extensions = top.table("extensions", needed=True)
    ca = extensions.take("ca", bool, False)
    path_length = extensions.take("path_length", int, -1)
    octets = extensions.take("key_identifier_octets", int, 0)
    made = kind(
        name=name,
        about=about,
        keys=frozenset(KeyFamily(key) for key in keys),
        max_size=max_size,
        own_attributes=own,
        subject_parts=parts,
        subject_forbids=forbids,
        alternative_names=alternative,
        validity=validity,
        subject_key_identifier=extensions.take("subject_key_identifier", bool),
        key_identifier_octets=octets or None,
        basic_constraints=extensions.take("basic_constraints", bool),
        ca=ca,
        path_length=None if path_length < 0 else path_length,
        key_usage=frozenset(extensions.choices("key_usage", KEY_USAGES)),
        extended_key_usage=_extended_key_usage(extensions),
        ocsp_no_check=extensions.take("ocsp_no_check", bool, False),
        issuer=_issuer(top.table("issuer", needed=False), own),
        urls=_urls(top.table("urls", needed=False)),
        name_constraints=_name_constraints(top.table("name_constraints", needed=False)),
        rsa_pss=rsa == "pss",
        order=OrderRule(order),
        sha256=sha256,
    )
    _check_ca(extensions, made)
    extensions.finish(
        (
            *("subject_key_identifier", "basic_constraints", "ca", "path_length", "key_usage", "extended_key_usage"),
            *("ocsp_no_check", "key_identifier_octets"),
        )
    )
    top.finish(_TOP)
    return made


def _check_ca(table: Table, made: Profile) -> None:
    """Refuse a CA that is half one (RFC 5280 4.2.1.9)."""
    if made.ca and not made.basic_constraints:
        table.fail("ca", "ca = true needs basic_constraints = true")
    if made.ca and "keyCertSign" not in made.key_usage:
        table.fail("key_usage", 'ca = true needs "keyCertSign" in key_usage')
    if made.ca and not made.subject_key_identifier:
        table.fail("subject_key_identifier", "a CA needs subject_key_identifier = true")
    if not made.ca and (made.key_usage & _CA_USAGES or made.path_length is not None):
        table.fail("key_usage", "keyCertSign, cRLSign and path_length are a CA's: they need ca = true")
    if not made.ca and (made.name_constraints.permitted or made.name_constraints.excluded):
        table.fail("ca", "[name_constraints] are a CA's: they need ca = true")


def _attributes(table: Table) -> Mapping[str, AttributeRule]:
    found = {}
    for name in table.keys():  # noqa: SIM118 - it is no dict
        own = table.table(name, needed=True)
        pattern = own.take("pattern", str)
        try:
            re.compile(pattern)
        except re.error as error:
            own.fail("pattern", f"{pattern!r} is not a regular expression: {error}")
        if name in ATTRIBUTES and "oid" not in own.keys():  # noqa: SIM118 - it is no dict
            found[name] = replace(ATTRIBUTES[name], pattern=pattern)
            own.finish(("pattern",))
            continue
        dotted = own.take("oid", str)
        found[name] = AttributeRule(_oid(own, "oid", dotted), StringType.UTF8, _MOST_OWN, pattern=pattern)
        own.finish(("oid", "pattern"))
        if name in ATTRIBUTES:
            own.fail("", f"{name} is an attribute that everybody knows; call yours something else, or leave oid out")
    return found


def _subject(table: Table, known: Mapping[str, AttributeRule]) -> tuple[tuple[SubjectPart, ...], tuple[str, ...]]:
    optional, forbids = table.texts("optional"), table.texts("forbids")
    if not len(table):
        table.fail("", "[subject] names at least one attribute")
    found = []
    for name in table.keys():  # noqa: SIM118 - it is no dict
        if name not in known:
            table.fail(name, f"unknown attribute {name!r}", near=difflib.get_close_matches(name, known, n=1))
        template = table.template(name, table.take(name, str))
        found.append(SubjectPart(name, known[name], template, optional=name in optional))
    stray = set(optional) - {part.name for part in found}
    if stray:
        table.fail("optional", f"optional names {min(stray)!r}, which is not in [subject]")
    if all(part.optional for part in found):
        table.fail("optional", "a subject has at least one attribute that is not optional")
    return tuple(found), tuple(forbids)


def _alternative_names(table: Table) -> AlternativeNames:
    serial = table.take("hardware_serial", str, "")
    oid = table.take("hardware_type", str, "")
    if bool(serial) != bool(oid):
        table.fail("", "hardware_type and hardware_serial go together")
    required = table.take("required", bool, False)
    given = table.choices("given", _GIVERS)
    allow = _policy(table.table("allow", needed=False))
    made = AlternativeNames(
        hardware_type=_oid(table, "hardware_type", oid) if oid else None,
        hardware_serial=table.template("hardware_serial", serial) if serial else None,
        dns=table.templates("dns"),
        uri=table.templates("uri"),
        required=required,
        given=frozenset(given),
        allow=allow,
    )
    if given and allow is None:
        table.fail("given", "names that are given need [subject_alternative_name.allow]: it says which ones")
    if required and not given and not made.templates:
        table.fail("required", 'required names need a template, or given = ["operator"]')
    table.finish(("hardware_type", "hardware_serial", "dns", "uri", "required", "given", "allow"))
    return made


def _policy(table: Table) -> NamePolicy | None:
    if not len(table):
        return None
    wildcards = table.take("wildcards", bool, False)
    patterns = {}
    for kind in KINDS:
        patterns[kind] = table.texts(kind)
        for pattern in patterns[kind]:
            if (fault := pattern_fault(kind, pattern)) is not None:
                table.fail(kind, fault)
    table.finish((*KINDS, "wildcards"))
    return NamePolicy(
        dns=tuple(patterns["dns"]),
        ip=tuple(ipaddress.ip_network(pattern) for pattern in patterns["ip"]),
        uri=tuple(patterns["uri"]),
        email=tuple(patterns["email"]),
        other=tuple(ObjectIdentifier(pattern) for pattern in patterns["other"]),
        wildcards=wildcards,
    )


def _validity(table: Table) -> Validity:
    past = table.take("past_issuer", str, "refuse")
    if past not in {"refuse", "clip"}:
        table.fail("past_issuer", f'past_issuer is "refuse" or "clip", not {past!r}')
    days = table.take("days", int, 0)
    not_after = table.take("not_after", str, "")
    if bool(days) == bool(not_after):
        table.fail("", f'[validity] takes either days, or not_after = "{NO_EXPIRY_TEXT}"')
    if days and days not in _DAYS:
        table.fail("days", f"days is {_DAYS[0]} to {_DAYS[-1]}")
    if not_after and not_after != NO_EXPIRY_TEXT:
        table.fail("not_after", f'not_after is "{NO_EXPIRY_TEXT}" (no expiry); for another end write days')
    table.finish(("days", "not_after", "past_issuer"))
    return Validity(days or None, clip=past == "clip")


def _extended_key_usage(table: Table) -> tuple[ObjectIdentifier, ...]:
    found = []
    for item in table.texts("extended_key_usage"):
        if item not in EXTENDEDKEY_USAGES and not item[:1].isdigit():
            near = difflib.get_close_matches(item, EXTENDEDKEY_USAGES, n=1)
            table.fail("extended_key_usage", f"{item!r} is not known in extended_key_usage", near=near)
        found.append(EXTENDEDKEY_USAGES.get(item) or _oid(table, "extended_key_usage", item))
    return tuple(found)


def _urls(table: Table) -> Urls:
    made = Urls(crl=table.templates("crl"), ocsp=table.templates("ocsp"), issuer=table.templates("issuer"))
    table.finish(("crl", "ocsp", "issuer"))
    return made


def _name_constraints(table: Table) -> NameConstraints:
    made = NameConstraints(permitted=table.templates("permitted"), excluded=table.templates("excluded"))
    table.finish(("permitted", "excluded"))
    return made


def _issuer(table: Table, own: Mapping[str, AttributeRule]) -> IssuerRule:
    path_length = table.take("path_length", int, -1)
    known = {**ATTRIBUTES, **own}
    made = IssuerRule(
        self_signed=table.take("self_signed", bool, False),
        keys=frozenset(KeyFamily(key) for key in table.choices("keys", [family.value for family in KeyFamily])),
        path_length=None if path_length < 0 else path_length,
        same=tuple(table.choices("same", known)),
        same_if_there=tuple(table.choices("same_if_there", known)),
        absent=tuple(table.choices("absent", known)),
    )
    table.finish(("path_length", "self_signed", "keys", "same", "same_if_there", "absent"))
    return made


def _oid(table: Table, key: str, dotted: str) -> ObjectIdentifier:
    try:
        der.object_identifier(dotted)
        return ObjectIdentifier(dotted)
    except ValueError:
        table.fail(key, f"{dotted!r} is not an object identifier like 1.3.6.1.4.1.32473.1")
