"""A key of its own for a responder, certified by the CA that it speaks for (RFC 6960 4.2.2.2)."""

import asyncio
import datetime as dt
import secrets
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hsm.algorithms import KeyFamily, KeyKind
from hsm.authority import Authority
from hsm.errors import HsmError, OcspError
from hsm.journal import CaJournal, certificate_sha256
from hsm.key_store import destroy_key, generate_key
from hsm.profiles import Profile
from hsm.serials import new_serial
from hsm.signer import Signer

PROFILE: Final = "ocsp-signer"
_NAME_MOST: Final = 64


async def delegate(  # noqa: PLR0913 - what a ceremony decides
    authority: Authority,
    journal: CaJournal,
    signer: Signer,
    *,
    station_id: int,
    now: dt.datetime,
    kind: KeyKind = KeyKind.P256,
    profile: Profile | None = None,
) -> x509.Certificate:
    """Make a key in a token and a certificate that lets it sign OCSP answers. Each time both are new.

    Args:
        authority: the CA.
        journal: of the CA; the certificate stands in it like every other one.
        signer: opened ``writable``, on the token that gets the key: another one than the CA's for a responder on the
            web, so that it never sees the CA's key.
        station_id: first octet of the serial number.
        now: start of validity.
        kind: the key; not Ed25519, which OCSP clients don't know.
        profile: in place of ``ocsp-signer``.

    Raises:
        OcspError: ``ocsp.key_type``.
        HsmError: nothing is left of what was begun, but for the journal's row if it got so far.
    """
    if kind.family is KeyFamily.ED25519:
        raise OcspError("OCSP clients don't know Ed25519; take p256, p384 or rsa2048", code="ocsp.key_type")
    rules = profile or Profile.load(PROFILE)
    label = f"ocsp-{now.astimezone(dt.UTC):%Y%m%d}-{secrets.token_hex(4)}"
    key = await asyncio.to_thread(generate_key, signer, kind, label)
    try:
        draft = authority.draft(
            rules,
            key.public_key(),
            fields={"name": _name(authority.issuer)},
            serial=new_serial(station_id),
            now=now,
        )
        intent = await journal.reserve(
            issuer=certificate_sha256(authority.issuer),
            profile=rules.name,
            subject=draft.subject.rfc4514_string(),
            spki_sha256=draft.spki_sha256,
            draft=draft,
        )
        issued = await journal.record(intent, await authority.issue(draft))
    except HsmError:
        await asyncio.to_thread(destroy_key, key)
        raise
    return x509.load_der_x509_certificate(issued.der)


def _name(issuer: x509.Certificate) -> str:
    names = issuer.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    above = str(names[0].value) if names else issuer.subject.rfc4514_string()
    return f"{above[: _NAME_MOST - len(' OCSP')]} OCSP"


def check_delegation(responder: x509.Certificate, issuer: x509.Certificate) -> None:
    """See that a certificate may sign answers for an issuer.

    Raises:
        OcspError: ``ocsp.not_delegated``.
    """
    if responder == issuer:
        return  # a CA may answer for itself
    try:
        responder.verify_directly_issued_by(issuer)
        usages = responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise _not_delegated(responder, issuer) from error
    if ExtendedKeyUsageOID.OCSP_SIGNING not in usages:
        raise _not_delegated(responder, issuer)


def _not_delegated(responder: x509.Certificate, issuer: x509.Certificate) -> OcspError:
    return OcspError(
        f"{responder.subject.rfc4514_string()} may not sign OCSP answers for {issuer.subject.rfc4514_string()}: the CA "
        "has to issue it itself, with OCSPSigning; make one with 'station ca ocsp init'",
        code="ocsp.not_delegated",
    )
