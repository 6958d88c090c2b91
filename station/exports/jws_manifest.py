"""A manifest in the form that Microchip gives out with its secure elements: a JSON array of signed objects, one a unit.

Each is a JWS in the flattened JSON serialization (RFC 7515 7.2.2) with ES256. Its payload has the model, the maker, the
unit's unique id, and its public key as a JWK with the certificate chain in ``x5c`` (RFC 7517 4.7). The signature is the
export key's, made in the token: as many as units, so the token decides how long this takes.
"""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Final

from firmware_tools.es256 import base64url, signing_input
from station.exports.leaf import Issuer, p256_point
from station.exports.naming import Naming
from station.exports.parcel import Parcel
from station.exports.signature import Seal
from station.exports.target import ExportError
from station.manifest import PassedUnit

_PIECE: Final = 256
"""Units whose signatures are asked for at once."""

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class JwsManifest:
    """Signed objects of units with keys on P-256."""

    name: ClassVar[str] = "jws"

    issuer: Issuer
    naming: Naming
    seal: Seal
    organization: str
    """Who made the units."""

    def write(self, parcel: Parcel, units: Iterable[PassedUnit]) -> None:
        """Write the files."""
        protected = base64url(_encode({"typ": "JWT", "alg": "ES256", "kid": self.seal.kid}).encode())
        above = self.issuer.base64_der
        rest = iter(units)
        with parcel.text("manifest.json") as stream:
            stream.write("[")
            before = "\n"
            while piece := list(islice(rest, _PIECE)):
                names = [self.naming.of(unit) for unit in piece]
                payloads = [base64url(self._payload(unit, above)) for unit in piece]
                signatures = self.seal.sign([signing_input(protected, payload) for payload in payloads])
                for name, payload, signature in zip(names, payloads, signatures, strict=True):
                    one = {
                        "payload": payload,
                        "protected": protected,
                        "header": {"uniqueId": name},
                        "signature": base64url(signature),
                    }
                    stream.write(before + _encode(one))
                    before = ",\n"
            stream.write("\n]\n")

    def _payload(self, unit: PassedUnit, above: str) -> bytes:
        der, start = self.issuer.certified(unit)
        point = p256_point(der, start)
        if point is None:
            raise ExportError(
                f"the key of unit {unit.product_serial} is not on P-256, and these manifests hold no others",
                code="export.unit_unfit",
            )
        who = {"organizationName": self.organization}
        known = {} if unit.mac is None else {"mac": unit.mac}  # no member of Microchip's; readers pass over such
        return _encode(
            {
                "version": 1,
                "model": unit.model,
                "partNumber": unit.model,
                "manufacturer": who,
                "provisioner": who,
                "distributor": who,
                "groupId": unit.order,
                "provisioningTimestamp": unit.passed_at,
                "uniqueId": self.naming.of(unit),
                **known,
                "publicKeySet": {
                    "keys": [
                        {
                            "kid": "0",
                            "kty": "EC",
                            "crv": "P-256",
                            "x": base64url(point[0]),
                            "y": base64url(point[1]),
                            "x5c": [base64.b64encode(der).decode(), above],
                        }
                    ]
                },
            }
        ).encode()
