"""NVS partitions of ESP-IDF, as Espressif's own generator makes them (``esp-idf-nvs-partition-gen``, Apache-2.0).

A key is ``namespace/key``, each of at most 15 characters. For Matter, chip's ESP32 factory data provider reads the
namespace ``chip-factory``. The same values as CSV (``as_csv``) are what Espressif's and Matter's own tools read.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from firmware_tools.bundles.manifest import UnitFile
from firmware_tools.errors import UnitFileError
from firmware_tools.unit_files.values import Format, Value, invalid

PAGE: Final = 4096
_READ_WRITE_PAGES: Final = 3
"""Partitions with fewer pages can be read only (ESP-IDF, "NVS Partition Generator Utility")."""

_MAX_KEY: Final = 15
_ENCODINGS: Final = {"bytes": "hex2bin"}
"""What a type is called in ESP-IDF, where it is called otherwise."""


def check(unit_file: UnitFile) -> None:
    """Refuse a plan that makes no partition."""
    if unit_file.size % PAGE:
        raise invalid(unit_file, f"its size is {unit_file.size:#x}; a partition takes whole pages of {PAGE:#x}")
    if unit_file.options:
        raise invalid(unit_file, "esp-nvs takes no options")
    for entry in unit_file.entries:
        parts = entry.key.split("/")
        if len(parts) != 2 or not all(0 < len(part) <= _MAX_KEY for part in parts):  # noqa: PLR2004 - namespace, key
            raise invalid(unit_file, f"key {entry.key!r} is not NAMESPACE/KEY, each of 1 to {_MAX_KEY} characters")


def make(unit_file: UnitFile, values: Sequence[Value]) -> bytes:
    """Make the partition.

    Raises:
        UnitFileError: it is too small; or the generator is not installed.
    """
    try:
        from esp_idf_nvs_partition_gen import nvs_partition_gen as generator  # noqa: PLC0415 - only where it is used
    except ImportError:
        raise UnitFileError(
            "esp-idf-nvs-partition-gen is not installed, and NVS partitions need it; install "
            "'provisioning-station[esp]'",
            code="unit_file.tool_missing",
        ) from None
    pages = unit_file.size // PAGE
    is_read_only = pages < _READ_WRITE_PAGES
    usable = unit_file.size if is_read_only else unit_file.size - PAGE  # one page is kept free for the device
    out = io.BytesIO()
    try:
        with generator.nvs_open(out, usable, generator.Page.VERSION2, read_only=is_read_only) as partition:
            for namespace, held in _spaces(values):
                partition.write_namespace(namespace)
                for key, value in held:
                    partition.write_entry(key, _text(value), _encoding(value))
    except generator.InsufficientSizeError:
        raise UnitFileError(
            f"{unit_file.name}: the data take more than {unit_file.size} bytes; make the partition larger, or leave "
            "something out",
            code="unit_file.too_large",
        ) from None
    except generator.InputError as error:
        raise UnitFileError(f"{unit_file.name}: {error}", code="unit_file.value") from None
    return out.getvalue()


FORMAT: Final = Format(check, make)


def as_csv(values: Sequence[Value]) -> str:
    """Return values as the CSV that Espressif's generator and Matter's tools for ESP read."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("key", "type", "encoding", "value"))
    for namespace, held in _spaces(values):
        writer.writerow((namespace, "namespace", "", ""))
        writer.writerows((key, "data", _encoding(value), _text(value)) for key, value in held)
    return out.getvalue()


def _spaces(values: Sequence[Value]) -> Iterator[tuple[str, Iterable[tuple[str, Value]]]]:
    """Group values by namespace; each namespace is opened once, in the order in which they come first."""
    order = list(dict.fromkeys(_split(value)[0] for value in values))
    ordered = sorted(values, key=lambda value: order.index(_split(value)[0]))
    for namespace, held in groupby(ordered, key=lambda value: _split(value)[0]):
        yield namespace, [(_split(value)[1], value) for value in held]


def _split(value: Value) -> tuple[str, str]:
    namespace, _, key = value.key.partition("/")
    return namespace, key


def _encoding(value: Value) -> str:
    return _ENCODINGS.get(value.type, value.type)


def _text(value: Value) -> str:
    return value.content.hex() if isinstance(value.content, bytes) else str(value.content)
