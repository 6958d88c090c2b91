"""Puts a driver and a board through all that a line asks of them, with certificates that are worth nothing.

For authors of drivers and driver files: ``station driver try`` does this on a real board, a test does it on a scripted
one. What passes here can be a unit; what a driver promises in ``Driver`` and does not keep is an ``Unfit``::

    steps = [step async for step in exercise(driver)]
"""

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import NameOID

from firmware_tools.provisioning import NONCE_SIZE
from hsm import Csr
from station.devices import Attesting, Capability, Comparing, Driver, Identity
from station.errors import StationError
from station.line.proof import verify_attestation, verify_proof

NAME: Final = "Worthless CA of a driver's exercise"
"""Subject of the CA that signs here; it exists in memory, for one exercise."""


class Reach(Enum):
    """How far to go."""

    IDENTIFY = "identify"
    """Changes nothing on the board."""
    KEY = "key"
    """Makes its key."""
    ALL = "all"
    """Writes a worthless certificate, and lets the board prove its key with it."""


class Unfit(StationError):
    """The driver or the board does not do what every unit needs."""

    code = "driver.unfit"
    operator = "Call the line engineer."


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that went well."""

    verb: str
    saying: str


async def exercise(driver: Driver, *, reach: Reach = Reach.ALL) -> AsyncIterator[Step]:
    """Go through the verbs in the order of a unit, and yield what went well.

    Args:
        driver: of an open link to a board that holds no certificate. Its locks stay as they are.
        reach: where to stop.

    Raises:
        Unfit: a verb returned what it must not.
        StationError, HsmError: a verb failed, or the CSR is not acceptable.
    """
    first = await driver.identify()
    yield Step("identify", _saying(first))
    _demand(await driver.identify() == first, "identify", "two answers in a row differ")
    if reach is Reach.IDENTIFY:
        return
    _demand(
        reach is not Reach.ALL or (first.leaf_sha256 is None and first.kept_sha256 is None),
        "install",
        "the board holds a certificate already, which this would replace by a worthless one; take a blank board",
    )
    csr = Csr.parse(await driver.make_key())
    if Capability.REPEAT_CSR in driver.capabilities:
        again = Csr.parse(await driver.make_key())
        _demand(again.spki == csr.spki, "make_key", "it promises REPEAT_CSR, and the second CSR is for another key")
    yield Step("make_key", f"a CSR of {len(csr.der)} bytes, signed by the key that it is for")
    if reach is Reach.KEY:
        return
    chain = worthless_chain(csr)
    await driver.install(chain)
    yield Step("install", f"{len(chain)} certificates, {sum(map(len, chain))} bytes")
    async for step in _held(driver, chain):
        yield step
    yield await _proven(driver, chain[0])
    last = await driver.identify()
    kept = isinstance(driver, Comparing) and last.kept_sha256 in driver.kept(chain)
    _demand(
        kept or last.leaf_sha256 == sha256(chain[0]).digest(), "identify", "it does not tell the certificate it holds"
    )
    yield Step("identify", "tells the certificate that it holds")
    if Capability.OBSERVE_LOCK in driver.capabilities:
        yield Step("lock_state", f"closed: {(await driver.lock_state()).name}; nothing was closed here")


async def _held(driver: Driver, chain: Sequence[bytes]) -> AsyncIterator[Step]:
    _demand(await driver.read_back(chain) == chain[0], "read_back", "it returns another leaf than was installed")
    if Capability.READ_BACK in driver.capabilities:
        _demand(await driver.read_back(None) == chain[0], "read_back", "without the chain it returns another leaf")
        yield Step("read_back", "the same certificate, byte for byte")
    else:
        yield Step("read_back", "the digest of the same chain (the product has to accept that)")


async def _proven(driver: Driver, leaf: bytes) -> Step:
    if Capability.PROVE in driver.capabilities:
        challenge = secrets.token_bytes(NONCE_SIZE)
        message, signature = await driver.prove(challenge)
        verify_proof(leaf, challenge, message, signature)
        return Step("prove", "a signature over a fresh challenge, by the key of the certificate")
    if isinstance(driver, Attesting):
        nonce = secrets.token_bytes(16)
        verify_attestation(await driver.attest(nonce), nonce)
        return Step("attest", "a statement over a fresh nonce (the product has to accept that)")
    raise Unfit("the driver has neither PROVE nor ATTEST: no unit can pass with it", verb="prove")


def worthless_chain(csr: Csr) -> list[bytes]:
    """Return a leaf for a CSR and its issuer (DER), signed by a key that is thrown away."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "worthless")])
    now = datetime.now(UTC).replace(microsecond=0)
    leaf_key = load_der_public_key(csr.spki)
    chain = []
    for name, public_key, is_ca in ((subject, leaf_key, False), (issuer, key.public_key(), True)):
        builder = x509.CertificateBuilder(issuer, name, public_key, x509.random_serial_number(), now, _far(now))  # type: ignore[arg-type]  # what a Csr holds may be certified
        builder = builder.add_extension(
            x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True
        )
        chain.append(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    return chain


def _far(now: datetime) -> datetime:
    return now.replace(year=now.year + 20, day=min(now.day, 28))


def _saying(identity: Identity) -> str:
    holds = "holds a certificate" if identity.leaf_sha256 or identity.kept_sha256 else "holds no certificate"
    return f"{identity.hardware_id}, {identity.model}, firmware {identity.firmware_version}, {holds}"


def _demand(kept: bool, verb: str, otherwise: str) -> None:  # noqa: FBT001  # reads as the sentence it is
    if not kept:
        raise Unfit(f"{verb}: {otherwise}", verb=verb)
