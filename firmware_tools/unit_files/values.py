"""Values of one unit: the facts that a plan may name, and how they become numbers, texts and bytes."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

from firmware_tools.bundles.manifest import UnitEntry, UnitFile
from firmware_tools.errors import UnitFileError

Fact: TypeAlias = str | int | bytes

FACTS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "product_serial": str,
        "hardware_id": str,
        "mac": str,
        "model": str,
        "order": str,
        "firmware_version": str,
        "certificate": bytes,
        "issuer_certificate": bytes,
        "matter_passcode": int,
        "matter_discriminator": int,
        "matter_iterations": int,
        "matter_salt": bytes,
        "matter_verifier": bytes,
    }
)
"""Facts that a plan may name, and what they are; certificates are DER."""

SECRETS: Final = frozenset({"matter_passcode", "matter_verifier"})
"""Facts that nobody may read but the device, and its label."""

TYPES: Final = ("string", "bytes", "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64")

_PLACE: Final = re.compile(r"\{([a-z_]+)\}")
_HEX: Final = "hex:"


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """What is known of one unit."""

    values: Mapping[str, Fact] = field(repr=False)
    """By the names of ``FACTS``."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a file."""

    key: str
    type: str
    """One of ``TYPES``."""
    content: str | int | bytes = field(repr=False)
    is_secret: bool

    @property
    def packed(self) -> bytes:
        """The value as a device keeps it in memory: numbers with the lowest byte first, texts without an end."""
        if isinstance(self.content, int):
            return self.content.to_bytes(int(self.type[1:]) // 8, "little", signed=self.type[0] == "i")
        return self.content.encode() if isinstance(self.content, str) else self.content


@dataclass(frozen=True, slots=True)
class Format:
    """How files of one format are checked and made."""

    check: Callable[[UnitFile], None]
    """Raises ``unit_file.invalid``."""
    make: Callable[[UnitFile, Sequence[Value]], bytes]
    """Returns what stands at the beginning of the file."""


def invalid(unit_file: UnitFile, what: str) -> UnitFileError:
    """Make the error for a plan that makes no sense."""
    return UnitFileError(f"[[unit_data]] {unit_file.name!r}: {what}", code="unit_file.invalid")


def check_entries(unit_file: UnitFile) -> None:
    """Refuse entries that no unit could fill.

    Raises:
        UnitFileError: ``unit_file.invalid``.
    """
    if not unit_file.entries:
        raise invalid(unit_file, "it has no entry; add [[unit_data.entry]]")
    keys = [entry.key for entry in unit_file.entries]
    for entry in unit_file.entries:
        if keys.count(entry.key) > 1:
            raise invalid(unit_file, f"key {entry.key!r} stands there twice")
        for fault in _faults(entry):
            raise invalid(unit_file, f"entry {entry.key!r}: {fault}")


def filled(unit_file: UnitFile, facts: UnitFacts) -> tuple[Value, ...]:
    """Put the facts of a unit into the entries.

    Raises:
        UnitFileError: ``unit_file.fact_missing`` or ``unit_file.value``.
    """
    return tuple(_filled(unit_file, entry, facts) for entry in unit_file.entries)


def needed_facts(unit_file: UnitFile) -> frozenset[str]:
    """Return the names of the facts that a file is made of: a line can see when it starts whether it will know them."""
    return frozenset(name for entry in unit_file.entries for name in _PLACE.findall(entry.value))


def _faults(entry: UnitEntry) -> Iterator[str]:
    if entry.type not in TYPES:
        yield f"type {entry.type!r} is unknown; known: {', '.join(TYPES)}"
    names = _PLACE.findall(entry.value)
    for name in names:
        if name not in FACTS:
            yield f"there is no fact {name!r}; known: {', '.join(FACTS)}"
    is_one = _PLACE.fullmatch(entry.value) is not None
    kinds = {FACTS.get(name, str) for name in names}
    if entry.type == "string":
        if bytes in kinds:
            yield 'a certificate is no text; write type = "bytes"'
    elif names and not is_one:
        yield "a value that is no text is one fact alone, like {matter_discriminator}"
    elif entry.type == "bytes":
        if not is_one and _literal_bytes(entry.value) is None:
            yield "bytes are one fact, or written like hex:00ff"
    elif bytes in kinds:
        yield "a number can't be made of it"
    elif not names and _literal_number(entry) is None:
        yield f"{entry.value!r} is no {entry.type}"


def _filled(unit_file: UnitFile, entry: UnitEntry, facts: UnitFacts) -> Value:
    names = _PLACE.findall(entry.value)
    for name in names:
        if name not in facts.values:
            raise UnitFileError(
                f"{unit_file.name}: {entry.key!r} needs {name}, which is not known of this unit yet",
                code="unit_file.fact_missing",
            )
    is_secret = bool(SECRETS.intersection(names))
    content: str | int | bytes | None
    if entry.type == "string":
        text = _PLACE.sub(lambda found: str(facts.values[found[1]]), entry.value)
        content = text if _is_utf8(text) else None
    elif entry.type == "bytes":
        content = _bytes_of(facts.values[names[0]]) if names else _literal_bytes(entry.value)
    else:
        number = str(facts.values[names[0]]) if names else entry.value
        content = _literal_number(UnitEntry(entry.key, entry.type, number))
    if content is None:
        raise UnitFileError(
            f"{unit_file.name}: {entry.key!r} can't be {entry.type} of what is known of this unit",
            code="unit_file.value",
        )
    return Value(entry.key, entry.type, content, is_secret)


def _bytes_of(fact: Fact) -> bytes | None:
    if isinstance(fact, int):
        return None
    if isinstance(fact, str):
        return fact.encode() if _is_utf8(fact) else None
    return fact


def _is_utf8(text: str) -> bool:
    """Whether a text can be written; what came in as broken UTF-8 (PEP 383) can't."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _literal_bytes(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text.removeprefix(_HEX)) if text.startswith(_HEX) else None
    except ValueError:
        return None


def _literal_number(entry: UnitEntry) -> int | None:
    try:
        number = int(entry.value, 0)
        number.to_bytes(int(entry.type[1:]) // 8, "little", signed=entry.type[0] == "i")
    except (ValueError, OverflowError):
        return None
    return number
