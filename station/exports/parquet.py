"""Units as Apache Parquet, for those who ask their questions in a warehouse. Needs the extra ``parquet`` (pyarrow).

The columns are ``units.COLUMNS``, all of them text; what a unit does not have is null.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from station.exports.parcel import Parcel
from station.exports.target import ExportError
from station.exports.units import COLUMNS, values
from station.manifest import PassedUnit

_GROUP: Final = 4096
"""Units of a row group: what memory has to hold."""


def write(parcel: Parcel, units: Iterable[PassedUnit]) -> None:
    """Write ``units.parquet``.

    Raises:
        ExportError: pyarrow is not installed (``export.no_pyarrow``).
    """
    arrow, parquet = _pyarrow()
    schema = arrow.schema([(column, arrow.string()) for column in COLUMNS])
    rest = iter(units)
    with (
        parcel.binary("units.parquet") as file,
        parquet.ParquetWriter(file, schema, compression="zstd", use_dictionary=_REPEATED) as writer,
    ):
        while piece := [tuple(values(unit).values()) for unit in islice(rest, _GROUP)]:
            columns = [arrow.array(column, arrow.string()) for column in zip(*piece, strict=True)]
            writer.write_table(arrow.table(columns, schema=schema))


_REPEATED: Final = ["model", "order", "firmware_version", "firmware_sha256", "locks"]
"""Columns in which few values stand many times."""


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415  # an option
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise ExportError(
            "Parquet needs pyarrow, which is not installed: pip install 'provisioning-station[parquet]'",
            code="export.no_pyarrow",
        ) from error
    return pa, pq
