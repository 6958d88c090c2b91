"""The proof that a board holds the key of the certificate it carries (invariant I4)."""

from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from station.errors import DeviceError


def verify_proof(certificate: bytes, challenge: bytes, message: bytes, signature: bytes) -> None:
    """Check what a board signed, with the certificate that was read back from it.

    Args:
        certificate: leaf certificate (DER) as read back from the board.
        challenge: the 32 fresh bytes that the station chose.
        message: the bytes that the board's driver says were signed; they have to hold the challenge and the SHA-256
            of the certificate, so that an answer for another board or another day is worth nothing.
        signature: ECDSA with SHA-256 in DER (RFC 3279 2.2.3), RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 8.2), or
            Ed25519 (RFC 8032 5.1.6).

    Raises:
        DeviceError: the signature is not by the key of the certificate, or not over this challenge.
    """
    if challenge not in message or sha256(certificate).digest() not in message:
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
