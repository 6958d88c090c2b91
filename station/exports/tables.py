"""CSV, JSON lines and Parquet as parcels: the columns of the plain exports, recorded and signed like the others."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from station.exports import csv, jsonl, parquet
from station.exports.naming import Naming
from station.exports.parcel import Parcel
from station.manifest import PassedUnit


class Form(StrEnum):
    """How a table is written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class Table:
    """Units as one table."""

    form: Form
    naming: Naming

    @property
    def name(self) -> str:
        """What the manifest calls this target."""
        return self.form.value

    def write(self, parcel: Parcel, units: Iterable[PassedUnit]) -> None:
        """Write the file."""
        if self.form is Form.PARQUET:
            parquet.write(parcel, units)
            return
        with parcel.text(f"units.{self.form}") as stream:
            (csv if self.form is Form.CSV else jsonl).export(units, stream)
