"""Writing the data of one unit: the files that a bundle describes, made of what is on record, in memory.

They are written when the unit has its serial and its certificate, by the bundle's flasher, before anything is locked;
a file that the board holds already is not written again. That takes a loader that writes a part of the flash and leaves
the rest: esptool's, and a debug probe.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from firmware_tools.errors import FirmwareToolsError
from firmware_tools.flashers import Payload, Placed
from firmware_tools.unit_files import make_unit_file
from station.errors import DeviceError
from station.line import policy
from station.line.flashing import Flashing
from station.line.seat import Seat
from station.manifest import UnitRecord
from station.product_firmware import ProductFirmware
from station.unit_facts import facts_of

_ERASES_ALL: Final = ("erase_all", "chip_erase")
"""Options of flashers that would take the firmware away again."""


class UnitData(Flashing):
    """Brings one board to hold the data of its unit."""

    def __init__(
        self,
        firmware: ProductFirmware,
        seat: Seat,
        watch: Callable[[int], None],
        record: UnitRecord,
        issuer: bytes | None = None,
    ) -> None:
        """Make the files.

        Args:
            firmware: whose bundle describes them.
            seat: the board.
            watch: told of progress, in whole percent.
            record: the unit, with its serial and its certificate.
            issuer: certificate of its CA (DER).

        Raises:
            DeviceError: a fact is not known of this unit (``unit_file.…``).
        """
        super().__init__(firmware, seat, watch)
        facts = facts_of(record, {} if issuer is None else {"issuer_certificate": issuer})
        try:
            images = tuple(make_unit_file(unit_file, facts) for unit_file in firmware.bundle.unit_files)
        except FirmwareToolsError as error:
            raise DeviceError.of(error) from error
        self.payload = _alone(firmware.bundle.payload, images)
        size = sum(len(image.content) for image in images)
        self.step = replace(
            policy.flash_step(size, seat.link.baud), name="unit data", saying="Writing the data of this unit"
        )

    def written(self) -> Mapping[str, object]:
        """Return what goes on record: which files, and their digests where they hold no secret."""
        return {image.name: "secret" if image.is_secret else image.sha256.hex() for image in self.payload.images}


def _alone(payload: Payload, images: tuple[Placed, ...]) -> Payload:
    options = {name: value for name, value in payload.options.items() if name not in _ERASES_ALL}
    return replace(payload, images=images, running=None, minimum_bootloader=None, options=options)
