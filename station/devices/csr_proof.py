"""A proof by CSR, for boards that sign CSRs of any subject and nothing else.

A CSR is signed with the new key, and its subject is the station's to choose (PKCS #10, RFC 2986 4.2). So a board is
asked for one more CSR, whose common name nobody could have known before::

    CN = hex(SHA-256("provisioning-station csr proof v1" 0x00, challenge, SHA-256 of the leaf certificate))

What is signed is the CertificationRequestInfo with that name in it. It is worth what a signed challenge is worth: it is
fresh, it is bound to the certificate, and only the key can make it. As a CSR it is worth nothing: it asks for the key
that is already certified, under a name that no profile of ours takes over.
"""

from hashlib import sha256
from typing import Final

from asn1crypto.csr import CertificationRequest

from station.errors import Garbled

DOMAIN: Final = b"provisioning-station csr proof v1\x00"
"""Goes before what is hashed, so that no other protocol's name can be one of ours."""


def committed_name(challenge: bytes, leaf_sha256: bytes) -> str:
    """Return the common name, 64 characters: as many as one may have (ub-common-name, RFC 5280 Appendix A)."""
    return sha256(DOMAIN + challenge + leaf_sha256).hexdigest()


def signed_parts(csr: bytes) -> tuple[bytes, bytes]:
    """Return what a CSR (DER) signs, and the signature.

    Raises:
        Garbled: it is no CSR.
    """
    try:
        request = CertificationRequest.load(csr, strict=True)
        return request["certification_request_info"].dump(), request["signature"].native
    except (ValueError, TypeError) as error:
        raise Garbled(f"the proof is no CSR: {error}") from error
