"""One structure that holds all values: the TLV of Matter, and a CBOR map.

Matter's TLV (Matter Core Specification, appendix A): an anonymous structure with a context tag for each value; numbers
in the fewest octets that hold them. ``chip::TLV::TLVReader`` of the Matter SDK reads it on a device. CBOR (RFC 8949): a
map with a name for each value, as the factory data of the nRF Connect SDK and of Telink are.
"""

from collections.abc import Sequence
from typing import Final

import cbor2

from firmware_tools.bundles.manifest import UnitFile
from firmware_tools.unit_files.values import Format, Value, invalid

_STRUCTURE: Final = 0x15
_END: Final = 0x18
_CONTEXT: Final = 0x20
_SIGNED, _UNSIGNED, _UTF8, _OCTETS = 0x00, 0x04, 0x0C, 0x10
_WIDTHS: Final = (1, 2, 4, 8)
_LARGEST_TAG: Final = 255
_TAGS: Final = frozenset(map(str, range(_LARGEST_TAG + 1)))
"""One spelling each: 1 and 01 would be one tag twice."""


def _check_tlv(unit_file: UnitFile) -> None:
    for entry in unit_file.entries:
        if entry.key not in _TAGS:
            raise invalid(unit_file, f"key {entry.key!r} is no context tag; write a number from 0 to {_LARGEST_TAG}")
    _check_options(unit_file)


def _check_options(unit_file: UnitFile) -> None:
    if unit_file.options:
        raise invalid(unit_file, f"{unit_file.format.value} takes no options")


def _make_tlv(unit_file: UnitFile, values: Sequence[Value]) -> bytes:  # noqa: ARG001 - every format gets both
    return bytes((_STRUCTURE,)) + b"".join(map(_element, values)) + bytes((_END,))


def _element(value: Value) -> bytes:
    tag, content = int(value.key), value.content
    if isinstance(content, int):
        is_signed = value.type[0] == "i"
        step, width = next((n, w) for n, w in enumerate(_WIDTHS) if _fits(content, w, is_signed=is_signed))
        kind = (_SIGNED if is_signed else _UNSIGNED) + step
        return bytes((_CONTEXT | kind, tag)) + content.to_bytes(width, "little", signed=is_signed)
    octets = content.encode() if isinstance(content, str) else content
    step, width = next((n, w) for n, w in enumerate(_WIDTHS) if _fits(len(octets), w, is_signed=False))
    kind = (_UTF8 if isinstance(content, str) else _OCTETS) + step
    return bytes((_CONTEXT | kind, tag)) + len(octets).to_bytes(width, "little") + octets


def _fits(number: int, width: int, *, is_signed: bool) -> bool:
    bits = 8 * width
    return -(1 << bits - 1) <= number < 1 << bits - 1 if is_signed else number < 1 << bits


def _make_cbor(unit_file: UnitFile, values: Sequence[Value]) -> bytes:  # noqa: ARG001 - every format gets both
    return cbor2.dumps({value.key: value.content for value in values})


MATTER_TLV: Final = Format(_check_tlv, _make_tlv)
CBOR: Final = Format(_check_options, _make_cbor)
