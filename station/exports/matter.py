"""Matter: the device attestation certificates of a batch, for the ecosystem's records and for the factory's tools.

``cn_dacs.csv`` has ``CN,certs`` (PEM), as Espressif's tools write it; ``dacs.csv`` has serial, hardware id, CN, vendor
and product id, and the DAC in DER as Base64; ``cns.txt`` has the CNs alone; ``pai.pem`` and ``pai.der`` the PAI.
Private keys are in the devices and nowhere else. Where onboarding data is wanted, ``onboarding.csv`` (mode 0600) has a
passcode, a discriminator and a verifier for each unit, drawn for this export and never again
(``station.exports.onboarding``).
"""

import base64
import csv
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar

from cryptography.hazmat.primitives.serialization import Encoding

from station.exports.csv import cell, checked
from station.exports.leaf import Issuer, common_name, matter_ids, pem
from station.exports.naming import Naming
from station.exports.onboarding import COLUMNS, Onboarding
from station.exports.parcel import Parcel
from station.exports.target import ExportError
from station.manifest import PassedUnit


@dataclass(frozen=True, slots=True)
class Matter:
    """Lists of DACs."""

    name: ClassVar[str] = "matter"

    issuer: Issuer
    """The PAI."""
    naming: Naming
    onboarding: bool = False

    def write(self, parcel: Parcel, units: Iterable[PassedUnit]) -> None:
        """Write the files."""
        parcel.put("pai.pem", self.issuer.pem)
        with parcel.binary("pai.der") as file:
            file.write(self.issuer.certificate.public_bytes(Encoding.DER))
        with ExitStack() as stack:
            names = stack.enter_context(parcel.text("cns.txt"))
            by_name, dacs = (csv.writer(stack.enter_context(parcel.text(f"{one}.csv"))) for one in ("cn_dacs", "dacs"))
            by_name.writerow(("CN", "certs"))
            dacs.writerow(("product_serial", "hardware_id", "cn", "vendor_id", "product_id", "dac"))
            codes = None
            if self.onboarding:
                codes = csv.writer(stack.enter_context(parcel.text("onboarding.csv", secret=True)))
                codes.writerow(("product_serial", "cn", *COLUMNS))
            for unit in units:
                der, start = self.issuer.certified(unit)
                ids, name = matter_ids(der, start), common_name(der, start)
                if ids is None or name is None:
                    raise ExportError(
                        f"the certificate of unit {unit.product_serial} is no DAC: its subject lacks vendor id, "
                        'product id or CN. Issue by the profile "matter-dac"',
                        code="export.unit_unfit",
                    )
                names.write(f"{checked(name)}\n")
                by_name.writerow((name, pem(der)))
                text = base64.b64encode(der).decode()
                serial = cell(unit.product_serial or "")
                dacs.writerow((serial, cell(unit.hardware_id), name, *ids, text))
                if codes is not None:
                    drawn = Onboarding.new(int(ids[0], 16), int(ids[1], 16))
                    codes.writerow((serial, name, *drawn.columns()))
