"""What a recipient calls a unit: its product serial or its hardware id, with a fixed text around it.

A cloud knows a device by one name: AWS's thing name, Azure's registration id, nRF Cloud's device id
(``nrf-{hardware_id}`` where firmware takes the IMEI). The same text finds the unit again when a receipt names it.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from station.exports.target import ExportError
from station.manifest import PassedUnit

FIELDS: Final = ("product_serial", "hardware_id")

_FORM: Final = re.compile(r"([^{}]*)\{(product_serial|hardware_id)\}([^{}]*)")
_MOST: Final = 64


@dataclass(frozen=True, slots=True)
class Naming:
    """A naming; made by ``parse``."""

    before: str
    field: str
    after: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text with one field.

        Raises:
            ExportError: it has none, or more than one.
        """
        match = _FORM.fullmatch(text)
        if match is None or not text.isprintable() or len(text) > _MOST:
            raise ExportError(
                f"{text!r} names no unit: write {{product_serial}} or {{hardware_id}}, once, with other characters "
                "around it if they are wanted",
                code="export.naming",
            )
        return cls(*match.groups())

    def __str__(self) -> str:
        """Return the text that was parsed."""
        return f"{self.before}{{{self.field}}}{self.after}"

    def of(self, unit: PassedUnit) -> str:
        """Return the name of a unit.

        Raises:
            ExportError: it has no product serial yet.
        """
        value = unit.product_serial if self.field == "product_serial" else unit.hardware_id
        if value is None:
            raise ExportError(
                f"unit {unit.hardware_id} has no product serial to be named by; export units that passed",
                code="export.unit_unfit",
            )
        return f"{self.before}{value}{self.after}"

    def value_in(self, name: str) -> str | None:
        """Return the field's value in a name, or None if the name is not of this form."""
        end = len(name) - len(self.after)
        fits = name.startswith(self.before) and name.endswith(self.after) and end > len(self.before)
        return name[len(self.before) : end] if fits else None
