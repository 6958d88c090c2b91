"""AWS IoT Core.

``Bulk``, for an account in which the issuing CA is registered (docs.aws.amazon.com: bulk-provisioning,
provision-template): ``things.ndjson`` has one JSON object a unit, whose keys are the parameters of ``template.json``;
they go into ``start-thing-registration-task``. ``ca.pem`` is the CA to be registered; the certificate that proves
possession of its key is made by ``station ca verification``.

``Accounts``, for any number of accounts without a registered CA (register-device-cert): each line of
``registrations.ndjson`` holds, under ``register``, the whole input of one ``register-certificate-without-ca``, and the
thing's name; ``certificates.pem`` has the same certificates as PEM, in the same order. Devices must send SNI then.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

from station.exports.leaf import Issuer, pem
from station.exports.naming import Naming
from station.exports.parcel import Parcel
from station.exports.target import ExportError
from station.manifest import PassedUnit

TEMPLATE_LIMIT: Final = 10240
"""Characters of a template that AWS takes."""

_THING: Final = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
"""What AWS lets a thing be called."""

_quoted: Final = json.encoder.encode_basestring_ascii


def thing_name(naming: Naming, unit: PassedUnit) -> str:
    """Return what a unit is called in AWS.

    Raises:
        ExportError: AWS takes no such name.
    """
    name = naming.of(unit)
    if not _THING.fullmatch(name):
        raise ExportError(
            f"{name!r} can't be a thing name: AWS takes at most 128 letters, digits, ':', '_' and '-'",
            code="export.unit_unfit",
        )
    return name


@dataclass(frozen=True, slots=True)
class Bulk:
    """Bulk registration in one account."""

    name: ClassVar[str] = "aws"

    issuer: Issuer
    naming: Naming
    policy: str
    """Name of the AWS IoT policy that certificates get."""
    thing_type: str | None = None
    thing_groups: tuple[str, ...] = ()
    billing_group: str | None = None

    def template(self) -> str:
        """Return the provisioning template.

        Raises:
            ExportError: it is longer than AWS takes.
        """
        thing: dict[str, object] = {
            "ThingName": {"Ref": "ThingName"},
            "AttributePayload": {"serial": {"Ref": "SerialNumber"}, "hardware": {"Ref": "HardwareId"}},
        }
        if self.thing_type is not None:
            thing["ThingTypeName"] = self.thing_type
        if self.thing_groups:
            thing["ThingGroups"] = list(self.thing_groups)
        if self.billing_group is not None:
            thing["BillingGroup"] = self.billing_group
        certificate = {
            "CertificatePem": {"Ref": "CertificatePem"},
            "CACertificatePem": self.issuer.pem,
            "Status": "ACTIVE",
        }
        parameters = ("ThingName", "SerialNumber", "HardwareId", "CertificatePem")
        content = {
            "Parameters": {parameter: {"Type": "String"} for parameter in parameters},
            "Resources": {
                "thing": {"Type": "AWS::IoT::Thing", "Properties": thing},
                "certificate": {"Type": "AWS::IoT::Certificate", "Properties": certificate},
                "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": self.policy}},
            },
        }
        text = json.dumps(content, indent=1) + "\n"
        if len(text) > TEMPLATE_LIMIT:
            raise ExportError(
                f"the template has {len(text)} characters, AWS takes {TEMPLATE_LIMIT}: name fewer thing groups",
                code="export.too_large",
            )
        return text

    def write(self, parcel: Parcel, units: Iterable[PassedUnit]) -> None:
        """Write the files."""
        parcel.put("template.json", self.template())
        parcel.put("ca.pem", self.issuer.pem)
        with parcel.text("things.ndjson") as stream:
            for unit in units:
                der, _ = self.issuer.certified(unit)
                # put together by hand: a million dictionaries cost more than all the rest
                stream.write(
                    f'{{"ThingName":{_quoted(thing_name(self.naming, unit))},'
                    f'"SerialNumber":{_quoted(unit.product_serial or "")},"HardwareId":{_quoted(unit.hardware_id)},'
                    f'"CertificatePem":{_quoted(pem(der))}}}\n'
                )


@dataclass(frozen=True, slots=True)
class Accounts:
    """Registration in accounts that don't know the CA."""

    name: ClassVar[str] = "aws-accounts"

    issuer: Issuer
    naming: Naming

    def write(self, parcel: Parcel, units: Iterable[PassedUnit]) -> None:
        """Write the files."""
        with parcel.text("registrations.ndjson") as lines, parcel.text("certificates.pem") as certificates:
            for unit in units:
                certificate = pem(self.issuer.certified(unit)[0])
                lines.write(
                    f'{{"thingName":{_quoted(thing_name(self.naming, unit))},'
                    f'"register":{{"certificatePem":{_quoted(certificate)},"status":"ACTIVE"}}}}\n'
                )
                certificates.write(certificate)
