"""How product serials and MAC addresses are made of an order's numbers; nothing here knows orders or databases.

A serial format is a Python format with the field ``number`` (with at most a width and ``d``, ``x`` or ``X``), and where
the order names a check scheme, the field ``check``::

    SN{number:06d}              SN000042
    A-{number:06d}{check}       A-0000422        luhn: over the digits of the rest
    {number:05X}-{check}        0002A-B          mod37-36: over its letters and digits
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

MAX_SERIAL: Final = 64
"""Characters of a product serial: ub-serial-number of RFC 5280 Appendix A."""

MAC_OCTETS: Final = 6

_PRINTABLE_STRING: Final = re.compile(r"[0-9A-Za-z'()+,./:=?-]+(?: +[0-9A-Za-z'()+,./:=?-]+)*")
"""What a serialNumber attribute may hold (PrintableString, X.680 41.4), without blanks at its ends."""

_NUMBER: Final = re.compile(r"\{number(?::0?[0-9]{0,2}([dxX]?))?\}")
_MAC: Final = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Of ISO/IEC 7064 MOD 37,36: the value of a character is its place."""


class CheckScheme(StrEnum):
    """How a check character is computed."""

    NONE = ""
    LUHN = "luhn"
    """ISO/IEC 7812-1 Annex B, over the decimal digits of the serial; other characters don't count."""
    MOD_37_36 = "mod37-36"
    """ISO/IEC 7064 MOD 37,36 (hybrid), over letters and digits of the serial; other characters don't count."""


def luhn(text: str) -> str:
    """Return the check digit for the digits of a text (ISO/IEC 7812-1 Annex B)."""
    digits = [int(character) for character in text if character in _ALPHABET[:10]]
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = digit * (1 if place % 2 else 2)
        total += doubled // 10 + doubled % 10
    return str(-total % 10)


def mod_37_36(text: str) -> str:
    """Return the check character for letters and digits of a text (ISO/IEC 7064, hybrid system MOD 37,36)."""
    size = len(_ALPHABET)
    rest = size
    for character in text.upper():
        value = _ALPHABET.find(character)
        if value < 0:
            continue
        rest = (rest + value) % size or size
        rest = rest * 2 % (size + 1)
    return _ALPHABET[(size + 1 - rest) % size]


_CHECKS: Final = {CheckScheme.LUHN: luhn, CheckScheme.MOD_37_36: mod_37_36}


@dataclass(frozen=True)
class Numbering:
    """A serial format and its check scheme."""

    format: str
    check: CheckScheme = CheckScheme.NONE

    def serial(self, number: int) -> str:
        """Return the product serial of a number."""
        if self.check is CheckScheme.NONE:
            return self.format.format(number=number)
        bare = self.format.format(number=number, check="")
        return self.format.format(number=number, check=_CHECKS[self.check](bare))

    def number(self, serial: str) -> int | None:
        """Return the number of a product serial; None if this format never makes it."""
        found = self._pattern.fullmatch(serial)
        if found is None:
            return None
        number = int(found["number"], self._base)
        return number if self.serial(number) == serial else None

    def may_meet(self, numbers: range, other: "Numbering", others: range) -> bool:
        """Whether what stands before and after the fields, and the lengths, leave room for a common serial."""
        before, after = zip(self.ends, other.ends, strict=True)
        lengths = [
            (len(one.serial(its[0])), len(one.serial(its[-1]))) for one, its in ((self, numbers), (other, others))
        ]
        return (
            before[0].startswith(before[1][: len(before[0])])
            and after[0].endswith(after[1][-len(after[0]) :] if after[0] else "")
            and max(low for low, _ in lengths) <= min(high for _, high in lengths)
        )

    def fault(self, first: int, last: int) -> str | None:
        """Return what is wrong with the serials of a range of numbers, or None."""
        if fault := self._format_fault():
            return fault
        for number in (first, last):
            serial = self.serial(number)
            if len(serial) > MAX_SERIAL:
                return f"it makes serials of {len(serial)} characters, more than {MAX_SERIAL}"
            if not _PRINTABLE_STRING.fullmatch(serial):
                return f"it makes '{serial}', with a character that no certificate takes there"
        return None

    def _format_fault(self) -> str | None:
        numbers = _NUMBER.findall(self.format)
        rest = _NUMBER.sub("", self.format)
        checks = rest.count("{check}")
        if len(numbers) != 1 or re.search(r"[{}]", rest.replace("{check}", "")):
            return "it must hold {number} once, with at most a width, and no other field but {check}"
        if checks != (self.check is not CheckScheme.NONE):
            return (
                "it must hold {check} once, for the check scheme"
                if self.check
                else "it holds {check}, and the order names no check scheme"
            )
        if self.check is CheckScheme.LUHN and numbers[0] in ("x", "X"):
            return "a hexadecimal number has no Luhn digit; take mod37-36"
        return None

    @property
    def _base(self) -> int:
        found = _NUMBER.search(self.format)
        return 16 if found and found[1] in ("x", "X") else 10

    @property
    def ends(self) -> tuple[str, str]:
        """What stands before the first field, and after the last one."""
        return self.format.partition("{")[0], self.format.rpartition("}")[2]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        pieces = re.split(r"(\{number[^}]*\}|\{check\})", self.format)
        fields = {"{check}": "[0-9A-Z]"}
        digits = "[0-9]+" if self._base == len("0123456789") else "[0-9A-Fa-f]+"
        return re.compile(
            "".join(
                f"(?P<number>{digits})" if piece.startswith("{number") else fields.get(piece, re.escape(piece))
                for piece in pieces
            )
        )


def common_serial(one: Numbering, numbers: range, two: Numbering, others: range) -> str | None:
    """Return a serial that two orders would both give, or None.

    Formats whose fixed ends or lengths differ are told apart at once. Else each serial of the shorter range is looked
    at, which takes some seconds for a million.

    Args:
        one: a numbering.
        numbers: its numbers, not empty.
        two: another one.
        others: the numbers of that.
    """
    if one == two:
        both = range(max(numbers.start, others.start), min(numbers.stop, others.stop))
        return one.serial(both.start) if both else None
    if not one.may_meet(numbers, two, others):
        return None
    if len(others) < len(numbers):
        one, numbers, two, others = two, others, one, numbers
    return next((serial for serial in map(one.serial, numbers) if two.number(serial) in others), None)


def mac_number(text: str) -> int | None:
    """Return an EUI-48 (IEEE 802, 8.2), lower case with colons, as a number; None if it is none."""
    return int(text.replace(":", ""), 16) if _MAC.fullmatch(text) else None


def mac_text(number: int) -> str:
    """Write an EUI-48."""
    return number.to_bytes(MAC_OCTETS).hex(":")
