"""Azure IoT Hub Device Provisioning Service.

``enrollment-group.json`` is the enrolment group: the intermediate is uploaded once, and a device shows its certificate
with the chain. ``devices.csv`` tells who will come. Where single enrolments are wanted, each line of
``enrollments.ndjson`` is the body of one bulk call with ten of them.

A device registers under its certificate's CN, so CN, registration id and the name given here have to be the same, and
have to be what DPS takes: at most 128 letters, digits, ``.``, ``_``, ``-`` and ``:``, none of the marks at the front or
the end. The profile ``azure-dps`` refuses another CN before it is signed; here it is checked again.
"""

import base64
import csv
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from station.exports.csv import cell
from station.exports.leaf import Issuer, common_name
from station.exports.naming import Naming
from station.exports.parcel import Parcel
from station.exports.target import ExportError
from station.manifest import PassedUnit

BATCH: Final = 10
"""Enrolments in one bulk call."""

_REGISTRATION: Final = re.compile(r"(?=.{1,128}$)[A-Za-z0-9](?:[A-Za-z0-9._:-]*[A-Za-z0-9])?")
_HUB: Final = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_GROUP: Final = re.compile(r"(?=.{1,128}$)[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


class _Rows(Protocol):
    """What ``csv.writer`` returns."""

    def writerow(self, row: Iterable[object], /) -> object:
        """Write a row."""


@dataclass(frozen=True, slots=True)
class Azure:
    """An enrolment group, or single enrolments besides."""

    name: ClassVar[str] = "azure"

    issuer: Issuer
    naming: Naming
    group: str
    """Id of the enrolment group."""
    hub: str | None = None
    """Host name of the IoT Hub; None: the service's own allocation decides."""
    individual: bool = False

    def __post_init__(self) -> None:
        """Refuse what the service would.

        Raises:
            ExportError: says what.
        """
        if not _GROUP.fullmatch(self.group):
            raise ExportError(f"{self.group!r} can't name an enrolment group; write letters, digits, '.', '_' and '-'")
        if self.hub is not None and not _HUB.fullmatch(self.hub):
            raise ExportError(f"{self.hub!r} is no host name; write it like factory.azure-devices.net")

    def registration_id(self, unit: PassedUnit) -> str:
        """Return the name under which a unit registers.

        Raises:
            ExportError: the service takes no such name, or the certificate has another CN.
        """
        name = self.naming.of(unit)
        if not _REGISTRATION.fullmatch(name):
            raise ExportError(
                f"{name!r} can't be a registration id: DPS takes at most 128 letters, digits, '.', '_', '-' and ':', "
                "with a letter or a digit at both ends",
                code="export.unit_unfit",
            )
        found = common_name(*self.issuer.certified(unit))
        if found != name:
            raise ExportError(
                f"unit {unit.product_serial} would register as {name!r}, but its certificate's CN is {found!r}: DPS "
                'refuses it. Change --name, or issue by a profile whose CN is that name, like "azure-dps"',
                code="export.unit_unfit",
                expected=name,
                got=found,
            )
        return name

    def write(self, parcel: Parcel, units: Iterable[PassedUnit]) -> None:
        """Write the files."""
        signing = {"primary": {"certificate": self.issuer.pem}}
        group = {
            "enrollmentGroupId": self.group,
            "attestation": {"type": "x509", "x509": {"signingCertificates": signing}},
            **self._placing(),
        }
        parcel.put("enrollment-group.json", json.dumps(group, indent=1) + "\n")
        parcel.put("intermediate.pem", self.issuer.pem)
        if self.individual:
            with parcel.text("devices.csv") as devices, parcel.text("enrollments.ndjson") as bodies:
                self._write(units, csv.writer(devices), bodies.write)
        else:
            with parcel.text("devices.csv") as devices:
                self._write(units, csv.writer(devices), None)

    def _write(self, units: Iterable[PassedUnit], devices: _Rows, body: Callable[[str], object] | None) -> None:
        devices.writerow(("registration_id", "product_serial", "hardware_id"))
        batch: list[dict[str, object]] = []
        placing = self._placing()
        for unit in units:
            name = self.registration_id(unit)
            devices.writerow((name, cell(unit.product_serial or ""), cell(unit.hardware_id)))
            if body is None:
                continue
            certificate = base64.b64encode(self.issuer.certified(unit)[0]).decode()
            primary = {"primary": {"certificate": certificate}}
            attestation = {"type": "x509", "x509": {"clientCertificates": primary}}
            batch.append({"registrationId": name, "deviceId": name, "attestation": attestation, **placing})
            if len(batch) == BATCH:
                body(_encode({"mode": "create", "enrollments": batch}) + "\n")
                batch = []
        if batch and body is not None:
            body(_encode({"mode": "create", "enrollments": batch}) + "\n")

    def _placing(self) -> dict[str, str]:
        hub = {} if self.hub is None else {"iotHubHostName": self.hub}
        return {**hub, "provisioningStatus": "enabled"}
