"""The proof that a board holds the key of its certificate (invariant I4), and what may stand in its place."""

from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from station.devices import Attestation
from station.devices.csr_proof import committed_name
from station.errors import DeviceError


def verify_proof(certificate: bytes, challenge: bytes, message: bytes, signature: bytes) -> None:
    """Check what a board signed, with the certificate that was read back from it.

    Args:
        certificate: leaf certificate (DER) as read back from the board.
        challenge: the 32 fresh bytes that the station chose.
        message: the bytes that the board's driver says were signed; they have to hold the challenge and the SHA-256
            of the certificate, or the name that commits to both (``csr_proof``), so that an answer for another board
            or another day is worth nothing.
        signature: ECDSA with SHA-256 in DER (RFC 3279 2.2.3), RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 8.2), or
            Ed25519 (RFC 8032 5.1.6).

    Raises:
        DeviceError: the signature is not by the key of the certificate, or not over this challenge.
    """
    leaf = sha256(certificate).digest()
    is_committed = committed_name(challenge, leaf).encode() in message
    if not is_committed and (challenge not in message or leaf not in message):
        raise DeviceError(
            "the proof is over another challenge or another certificate",
            code="device.proof_unbound",
            challenge=challenge,
            message=message,
        )
    key = x509.load_der_x509_certificate(certificate).public_key()
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                key.verify(signature, message, ec.ECDSA(SHA256()))
            case rsa.RSAPublicKey():
                key.verify(signature, message, padding.PKCS1v15(), SHA256())
            case ed25519.Ed25519PublicKey():
                key.verify(signature, message)
            case _:
                raise DeviceError(
                    f"no rule for a proof with a {type(key).__name__}", code="device.proof_key_type_unknown"
                )
    except InvalidSignature:
        raise DeviceError(
            "the board's signature does not verify with the certificate it carries",
            code="device.proof_invalid",
            signature=signature,
        ) from None


def verify_attestation(stated: Attestation, nonce: bytes) -> None:
    """Check what a board stated of itself in place of a proof.

    Args:
        stated: message, signature (ECDSA with SHA-256, DER) and the key (SubjectPublicKeyInfo, DER) that signed. That
            this is the board's identity key is the driver's to know.
        nonce: what the message has to hold; empty for a statement of another day.

    Raises:
        DeviceError: ``device.proof_unbound`` or ``device.proof_invalid``.
    """
    if nonce not in stated.message:
        raise DeviceError(
            "the board's statement is over another challenge",
            code="device.proof_unbound",
            challenge=nonce,
            message=stated.message,
        )
    key = load_der_public_key(stated.public_key)
    assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101  # as ``Attestation`` says
    try:
        key.verify(stated.signature, stated.message, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise DeviceError(
            "the board's statement does not verify with its identity key",
            code="device.proof_invalid",
            signature=stated.signature,
        ) from None
