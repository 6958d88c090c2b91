"""Reading a profile file (TOML): every key is known, every value is checked, every fault names its line.

::

    keys = ["p256", "p384"]              # p256, p384, rsa, ed25519
    max_size = 1024                      # bytes of DER

    [subject]                            # in this order; the names of hsm.templates.ATTRIBUTES
    CN = "{product_serial}"

    [subject_alternative_name]           # may be left out
    hardware_type = "1.3.6.1.4.1.32473.1"
    hardware_serial = "{hardware_id}"
    dns = ["{product_serial}.example.com"]
    uri = ["urn:example:{product_serial}"]

    [validity]
    days = 730                           # or not_after = "99991231235959Z"
    past_issuer = "refuse"               # or "clip"

    [extensions]
    basic_constraints = true             # critical, cA FALSE
    subject_key_identifier = true
    key_usage = ["digitalSignature"]     # critical
    extended_key_usage = ["clientAuth"]  # or object identifiers
"""

import difflib
import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID

from hsm import der
from hsm.algorithms import KeyFamily
from hsm.errors import ProfileError
from hsm.profiles import KEY_USAGES, AlternativeNames, Profile, Validity
from hsm.templates import ATTRIBUTES, Template

T = TypeVar("T")
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


def load(kind: type[P], name_or_path: str | Path) -> P:
    """Load a profile; see ``Profile.load``."""
    ours = sorted(path.stem for path in FOLDER.glob("*.toml"))
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
    return _profile(kind, path.stem, _Table(path, text, "", content))


class _Table:
    """One table of the file; it knows which keys were taken, and where they stand."""

    def __init__(self, path: Path, text: str, name: str, content: dict[str, Any]) -> None:
        self._path = path
        self._text = text
        self._name = name
        self._content = dict(content)

    def __len__(self) -> int:
        return len(self._content)

    def keys(self) -> list[str]:
        return list(self._content)

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        value = self._content.pop(key, default)
        if value is None:
            self.fail("", f"[{self._name}] needs {key}" if self._name else f"{key} is missing")
        # bool is an int to Python, and never to us
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            expected = {str: "a text", int: "a whole number", bool: "true or false", list: "a list", dict: "a table"}
            self.fail(key, f"{key} is {expected[kind]}, not {value!r}")
        return value

    def texts(self, key: str) -> list[str]:
        value = self.take(key, list, [])
        if not all(isinstance(item, str) for item in value):
            self.fail(key, f"{key} is a list of texts")
        return value

    def choices(self, key: str, known: Collection[str]) -> list[str]:
        found = self.texts(key)
        for item in found:
            if item not in known:
                self.fail(key, f"{item!r} is not known in {key}", near=difflib.get_close_matches(item, known, n=1))
        if len(set(found)) != len(found):
            self.fail(key, f"{key} names something twice")
        return found

    def template(self, key: str, text: str) -> Template:
        try:
            return Template.parse(text)
        except ProfileError as error:
            self.fail(key, str(error))

    def table(self, key: str, *, needed: bool) -> "_Table":
        content = self.take(key, dict, None if needed else {})
        return _Table(self._path, self._text, key, content)

    def finish(self, known: Collection[str]) -> None:
        """Refuse what nobody took."""
        for key in self._content:
            place = f" in [{self._name}]" if self._name else ""
            self.fail(key, f"unknown key {key!r}{place}", near=difflib.get_close_matches(key, known, n=1))

    def fail(self, key: str, message: str, *, near: list[str] | None = None) -> NoReturn:
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ProfileError(f"{self._path}:{self._line(key)}: {message}{hint}")

    def _line(self, key: str) -> int:
        """Return the line of a key of this table, or of the table's header."""
        section, header = "", 1
        for number, line in enumerate(self._text.splitlines(), start=1):
            if opened := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
                section = opened[1]
                header = number if section == self._name else header
            elif section == self._name and key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
                return number
        return header


def _profile(kind: type[P], name: str, top: _Table) -> P:
    keys = top.choices("keys", [family.value for family in KeyFamily])
    if not keys:
        top.fail("keys", 'keys names the keys that are allowed, like keys = ["p256"]')
    max_size = top.take("max_size", int)
    if max_size not in _SIZES:
        top.fail("max_size", f"max_size is {_SIZES[0]} to {_SIZES[-1]} bytes")
    subject = _subject(top.table("subject", needed=True))
    names = _alternative_names(top.table("subject_alternative_name", needed=False))
    validity = _validity(top.table("validity", needed=True))
    extensions = top.table("extensions", needed=True)
    made = kind(
        name=name,
        keys=frozenset(KeyFamily(key) for key in keys),
        max_size=max_size,
        subject_templates=subject,
        alternative_names=names,
        validity=validity,
        subject_key_identifier=extensions.take("subject_key_identifier", bool),
        basic_constraints=extensions.take("basic_constraints", bool),
        key_usage=frozenset(extensions.choices("key_usage", KEY_USAGES)),
        extended_key_usage=_extended_key_usage(extensions),
    )
    extensions.finish(("subject_key_identifier", "basic_constraints", "key_usage", "extended_key_usage"))
    top.finish(("keys", "max_size", "subject", "subject_alternative_name", "validity", "extensions"))
    return made


def _subject(table: _Table) -> tuple[tuple[str, Template], ...]:
    if not len(table):
        table.fail("", "[subject] names at least one attribute")
    found = []
    for name in table.keys():  # noqa: SIM118 - it is no dict
        if name not in ATTRIBUTES:
            table.fail(name, f"unknown attribute {name!r}", near=difflib.get_close_matches(name, ATTRIBUTES, n=1))
        found.append((name, table.template(name, table.take(name, str))))
    return tuple(found)


def _alternative_names(table: _Table) -> AlternativeNames:
    serial = table.take("hardware_serial", str, "")
    oid = table.take("hardware_type", str, "")
    if bool(serial) != bool(oid):
        table.fail("", "hardware_type and hardware_serial go together")
    made = AlternativeNames(
        hardware_type=_oid(table, "hardware_type", oid) if oid else None,
        hardware_serial=table.template("hardware_serial", serial) if serial else None,
        dns=tuple(table.template("dns", text) for text in table.texts("dns")),
        uri=tuple(table.template("uri", text) for text in table.texts("uri")),
    )
    table.finish(("hardware_type", "hardware_serial", "dns", "uri"))
    return made


def _validity(table: _Table) -> Validity:
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


def _extended_key_usage(table: _Table) -> tuple[ObjectIdentifier, ...]:
    found = []
    for item in table.texts("extended_key_usage"):
        if item not in EXTENDEDKEY_USAGES and not item[:1].isdigit():
            near = difflib.get_close_matches(item, EXTENDEDKEY_USAGES, n=1)
            table.fail("extended_key_usage", f"{item!r} is not known in extended_key_usage", near=near)
        found.append(EXTENDEDKEY_USAGES.get(item) or _oid(table, "extended_key_usage", item))
    return tuple(found)


def _oid(table: _Table, key: str, dotted: str) -> ObjectIdentifier:
    try:
        der.object_identifier(dotted)
        return ObjectIdentifier(dotted)
    except ValueError:
        table.fail(key, f"{dotted!r} is not an object identifier like 1.3.6.1.4.1.32473.1")
