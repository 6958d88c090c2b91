"""What a board shows of the certificate it holds and of the key behind it, and what stands in the place of that.

A board that can, hands its certificate out and signs a challenge with its key. One that can't tells a digest of what it
keeps (``Comparing``), and states, signed with a key it had before, who it is (``Attesting``). ``policy.check_driver``
has seen to it that the product accepts this; the unit's events and its proof say that it was so.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Final

from firmware_tools.provisioning import NONCE_SIZE
from hsm import Authority
from station.devices import Attestation, Attesting, Capability, Comparing, Driver, Identity
from station.errors import DeviceError
from station.line.proof import verify_attestation, verify_proof
from station.manifest import Proof, ProofRecord

ATTESTATION_DOMAIN: Final = b"provisioning-station attestation v1\x00"
"""Goes before challenge and certificate, so that no other protocol's nonce can be one of ours."""

ATTESTATION_NONCE: Final = 16
"""Bytes that a board's statement has room for."""

NOT_PROVEN: Final = frozenset({"device.proof_invalid", "device.proof_unbound"})
"""A proof that does not verify is asked for once more, over another challenge."""


def attestation_nonce(challenge: bytes, certificate: bytes) -> bytes:
    """Return the 16 bytes that commit to a challenge and to the certificate (DER) it is about."""
    return sha256(ATTESTATION_DOMAIN + challenge + sha256(certificate).digest()).digest()[:ATTESTATION_NONCE]


class Evidence:
    """What one board shows, through its driver."""

    def __init__(self, driver: Driver, issuer_of: Callable[[bytes], Authority | None]) -> None:
        """Prepare; ``issuer_of`` finds the authority of this line that signed a certificate."""
        self._driver = driver
        self._issuer_of = issuer_of
        self._kept: Sequence[bytes] | None = None
        self.attestation: Attestation | None = None
        """What the board stated in place of a proof, if it did."""

    def compared(self, identity: Identity, certificate: bytes | None) -> Identity:
        """Give an identity its ``leaf_sha256``, where the board tells only a digest of all that it keeps.

        A digest that is not that of ``certificate``, alone or with the chain of its issuer, becomes the digest of some
        leaf that nobody here knows.

        Args:
            identity: as the driver gives it.
            certificate: what the board should hold (DER), or None where nothing was recorded for it.
        """
        driver = self._driver
        if identity.kept_sha256 is None or not isinstance(driver, Comparing):
            return identity
        for chain in self._chains(certificate):
            if identity.kept_sha256 in driver.kept(chain):
                self._kept = chain
                return replace(identity, leaf_sha256=sha256(chain[0]).digest())
        return replace(identity, leaf_sha256=identity.kept_sha256)

    def _chains(self, certificate: bytes | None) -> list[Sequence[bytes]]:
        if certificate is None:
            return []
        issuer = self._issuer_of(certificate)
        return [(certificate,)] if issuer is None else [(certificate, *issuer.chain), (certificate,)]

    async def read_back(self, chain: Sequence[bytes] | None) -> bytes:
        """Return the leaf (DER) that the board holds; see ``Driver.read_back``."""
        if Capability.READ_BACK in self._driver.capabilities:
            return await self._driver.read_back(chain)
        return await self._driver.read_back(chain or self._kept)

    async def proof(self, held: bytes) -> Proof:
        """Let the board prove that it holds the key of its certificate, or state what stands in the place of that.

        Args:
            held: the certificate (DER) that was read back.

        Raises:
            DeviceError: it does not verify.
        """
        driver = self._driver
        if Capability.PROVE in driver.capabilities or not isinstance(driver, Attesting):
            try:
                return await self._challenged(held)
            except DeviceError as error:  # a letter was harmed, perhaps: consoles have no checksums
                if error.code not in NOT_PROVEN:
                    raise
                return await self._challenged(held)
        challenge = secrets.token_bytes(NONCE_SIZE)
        nonce = attestation_nonce(challenge, held)
        self.attestation = stated = await driver.attest(nonce)
        verify_attestation(stated, nonce)
        return Proof(challenge=challenge, message=stated.message, signature=stated.signature, certificate=held)

    async def _challenged(self, held: bytes) -> Proof:
        challenge = secrets.token_bytes(NONCE_SIZE)
        message, signature = await self._driver.prove(challenge)
        verify_proof(held, challenge, message, signature)
        return Proof(challenge=challenge, message=message, signature=signature, certificate=held)

    def check_signer(self, before: ProofRecord | None) -> None:
        """Hold a board that passed on another day to the key that signed its statement then.

        Raises:
            DeviceError: ``device.other_signer``: it is another board, which copied what that one says.
        """
        if self.attestation is None or before is None:
            return
        then = Attestation(before.message, before.signature, self.attestation.public_key)
        try:
            verify_attestation(then, b"")
        except DeviceError:
            raise DeviceError(
                "the board that answers is not the one that passed: another identity key signed its statement then",
                code="device.other_signer",
                operator="This board pretends to be another one. Give it to the line engineer.",
                expected=before.signature,
            ) from None

    def stands_in(self) -> dict[str, str]:
        """Return, as facts for the record, what stood in the place of what this kind of board can't do."""
        facts = {}
        if Capability.READ_BACK not in self._driver.capabilities:
            facts["read_back"] = "digest"
        if self.attestation is not None:
            facts["proof"] = "attestation"
            facts["identity_key"] = self.attestation.public_key.hex()
        return facts
