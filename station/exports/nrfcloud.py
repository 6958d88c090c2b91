"""nRF Cloud: ``onboard-00001.csv`` and so on, for ``POST /devices`` and for nRF Cloud Utils' ``nrf_cloud_onboard``.

No header, five columns: device id, sub type, tags and firmware types (each joined by ``|``), the certificate's PEM in
quotes over several lines. At most 1000 rows a file, so a receipt about row 5 of file 3 (rows are counted from 0) is
about unit 2006 of the export.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import ClassVar, Final

from station.exports.csv import checked
from station.exports.leaf import Issuer, pem
from station.exports.naming import Naming
from station.exports.parcel import Parcel
from station.exports.target import ExportError
from station.manifest import PassedUnit

ROWS: Final = 1000
"""Rows of a file that nRF Cloud takes."""

ID_LIMIT: Final = 64
"""Characters of a device id."""

FIRMWARE_TYPES: Final = ("APP", "MODEM", "BOOT", "SOFTDEVICE", "BOOTLOADER")


@dataclass(frozen=True, slots=True)
class NrfCloud:
    """Onboarding files."""

    name: ClassVar[str] = "nrfcloud"

    issuer: Issuer
    naming: Naming
    sub_type: str = ""
    tags: tuple[str, ...] = ()
    firmware_types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would be read as something else.

        Raises:
            ExportError: says what.
        """
        for tag in self.tags:
            if "|" in tag or not tag.isprintable() or not tag:
                raise ExportError(f"{tag!r} can't be a tag: '|' stands between them")
        if not self.sub_type.isprintable():
            raise ExportError(f"{self.sub_type!r} can't be a sub type: write printable characters")

    def write(self, parcel: Parcel, units: Iterable[PassedUnit]) -> None:
        """Write the files."""
        tags, types = "|".join(self.tags), "|".join(self.firmware_types)
        for number, piece in enumerate(_pieces(units), 1):
            with parcel.text(f"onboard-{number:05d}.csv") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                for unit in piece:
                    name = checked(self.naming.of(unit))
                    if len(name) > ID_LIMIT:
                        raise ExportError(
                            f"{name!r} can't be a device id: nRF Cloud takes {ID_LIMIT} characters",
                            code="export.unit_unfit",
                        )
                    writer.writerow((name, self.sub_type, tags, types, pem(self.issuer.certified(unit)[0])))


def _pieces(units: Iterable[PassedUnit]) -> Iterator[Iterable[PassedUnit]]:
    """Cut units into pieces of ``ROWS``; each has to be used up before the next one is asked for."""
    rest = iter(units)
    for first in rest:
        yield chain((first,), islice(rest, ROWS - 1))
