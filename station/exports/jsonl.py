"""Units as JSON lines (one object a line, UTF-8, the keys of ``units.COLUMNS``), for programs.

Every key is there in every line; what a unit does not have is null.
"""

import json
from collections.abc import Iterable

from station.exports.target import Target, written_to
from station.exports.units import values
from station.manifest import PassedUnit


def export(units: Iterable[PassedUnit], target: Target) -> int:
    """Write units as JSON lines.

    Args:
        units: from ``ManifestReader.export``.
        target: a file, replaced as a whole, or a stream.

    Returns:
        How many units were written.

    Raises:
        ExportError: the file can't be written.
    """
    count = 0
    with written_to(target) as stream:
        for count, unit in enumerate(units, 1):  # noqa: B007  # the count is returned
            stream.write(json.dumps(values(unit), ensure_ascii=False) + "\n")
    return count
