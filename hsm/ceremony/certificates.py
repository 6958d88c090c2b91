"""A CA's certificate: built, linted, signed by the token, verified; and requests for one.

As with a device's (``hsm.authority``), the token signs exactly the bytes that were linted.
"""

import datetime as dt
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID

from hsm import der
from hsm.algorithms import SCHEMES, PublicKey, family_of, verify
from hsm.blank import blank_key, signature_size
from hsm.ceremony.lint import EXTENSIONS, Expected, check, check_by_profile
from hsm.ceremony.plan import Limits
from hsm.errors import CeremonyError, LintError
from hsm.keys import AnyTokenKey
from hsm.profiles import Profile
from hsm.request import Purpose

CA_USAGE: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
"""keyCertSign and cRLSign, and no other."""

REHEARSAL_MARK: Final = "REHEARSAL - NOT VALID"
"""Organisational unit in every name that a rehearsal makes."""

Extensions = Mapping[x509.ObjectIdentifier, x509.ExtensionType]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a certificate is to say."""

    subject: x509.Name
    key: PublicKey
    not_before: dt.datetime
    not_after: dt.datetime
    extensions: Extensions
    """All but SubjectKeyIdentifier (of the key, when left out) and AuthorityKeyIdentifier (of the issuer)."""
    profile: Profile | None = None
    """Whose rules it has to pass, too."""


def extensions_of(limits: Limits) -> dict[x509.ObjectIdentifier, x509.ExtensionType]:
    """Return the extensions that say what a CA may do."""
    values: list[x509.ExtensionType] = [x509.BasicConstraints(ca=True, path_length=limits.pathlen), CA_USAGE]
    if limits.names is not None:
        values.append(limits.names)
    if limits.usages:
        values.append(x509.ExtendedKeyUsage(limits.usages))
    if limits.crl_urls:
        points = [x509.UniformResourceIdentifier(url) for url in limits.crl_urls]
        values.append(x509.CRLDistributionPoints([x509.DistributionPoint(points, None, None, None)]))
    if limits.issuer_urls:
        places = [x509.UniformResourceIdentifier(url) for url in limits.issuer_urls]
        values.append(
            x509.AuthorityInformationAccess(
                [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, place) for place in places]
            )
        )
    return {value.oid: value for value in values}


def extensions_again(
    certificate: x509.Certificate, *, keep_key: bool
) -> dict[x509.ObjectIdentifier, x509.ExtensionType]:
    """Return the extensions of a certificate for its successor.

    Args:
        certificate: the one before.
        keep_key: the successor has the same key, and so the same SubjectKeyIdentifier.
    """
    left_out = {ExtensionOID.AUTHORITY_KEY_IDENTIFIER} | (set() if keep_key else {ExtensionOID.SUBJECT_KEY_IDENTIFIER})
    return {found.oid: found.value for found in certificate.extensions if found.oid not in left_out}


def marked(subject: x509.Name) -> x509.Name:
    """Return a name that can't be taken for a real one, for a rehearsal."""
    mark = x509.RelativeDistinguishedName([x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, REHEARSAL_MARK)])
    # at the end: a constraint on directory names looks at the start
    return subject if mark in subject.rdns else x509.Name([*subject.rdns, mark])


def subject_key_identifier(certificate: x509.Certificate) -> x509.SubjectKeyIdentifier:
    """Return the SubjectKeyIdentifier of a certificate, or the one that it should have."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier.from_public_key(known_key(certificate))


def known_key(certificate: x509.Certificate) -> PublicKey:
    """Return the key of a certificate.

    Raises:
        CeremonyError: it is of a kind that a CA does not have.
    """
    key = certificate.public_key()
    if family_of(key) is None:
        raise CeremonyError(
            f"the key of {certificate.subject.rfc4514_string()} is not P-256, P-384, RSA or Ed25519",
            code="ceremony.key_type",
        )
    return key  # type: ignore[return-value]  # family_of knows no others


def draft(
    wish: Wish, issuer: x509.Certificate | None, signing: PublicKey, *, above: Sequence[x509.Certificate] = ()
) -> x509.Certificate:
    """Build and lint a certificate with a blank signature.

    Args:
        wish: what it says.
        issuer: the certificate above it; None for a root.
        signing: the key that will sign it.
        above: the certificates above the issuer, as far as they are known; the nearest first.

    Raises:
        LintError: it breaks a rule; the message names all findings.
    """
    own = wish.extensions.get(ExtensionOID.SUBJECT_KEY_IDENTIFIER)
    identifier = own or x509.SubjectKeyIdentifier.from_public_key(wish.key)
    assert isinstance(identifier, x509.SubjectKeyIdentifier)  # noqa: S101 - for mypy: its OID says so
    signing_id = subject_key_identifier(issuer) if issuer is not None else identifier
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signing_id)
    extensions = {**wish.extensions, identifier.oid: identifier, authority.oid: authority}
    builder = (
        x509.CertificateBuilder()
        .subject_name(wish.subject)
        .issuer_name(wish.subject if issuer is None else issuer.subject)
        .public_key(wish.key)
        .serial_number(int.from_bytes(bytes((1,)) + secrets.token_bytes(15)))
        .not_valid_before(wish.not_before)
        .not_valid_after(wish.not_after)
    )
    for oid, value in extensions.items():
        builder = builder.add_extension(value, critical=EXTENSIONS.get(oid, ("", False))[1])
    family = family_of(signing)
    assert family is not None  # noqa: S101 - for mypy: PublicKey is one of ours
    built = builder.sign(blank_key(signing, signature_size(signing)), SCHEMES[family].hash)
    expected = Expected(
        wish.subject.public_bytes(), wish.key, extensions, not_before=wish.not_before, not_after=wish.not_after
    )
    findings = check(built, issuer, expected, above=above)
    if wish.profile is not None:
        findings += check_by_profile(wish.profile, built, issuer, signing, expected)
    if findings:
        raise LintError(
            f"the certificate for {wish.subject.rfc4514_string()} is not signed: "
            + "; ".join(f"{finding.code}: {finding.message}" for finding in findings),
            code=findings[0].code,
            operator="The certificate breaks the rules and was not signed. Correct the ceremony's file.",
        )
    return built


def sign(drafted: x509.Certificate, key: AnyTokenKey) -> x509.Certificate:
    """Let the token sign a draft, and verify what it returns. Blocks.

    Raises:
        CeremonyError: the signature does not verify (``ceremony.signature_invalid``).
        HsmError: the token refuses.
    """
    tbs, scheme = drafted.tbs_certificate_bytes, SCHEMES[key.family]
    signature = _signature(key, tbs)
    made = x509.load_der_x509_certificate(der.join_signed(tbs, scheme.identifier, signature))
    if made.tbs_certificate_bytes != tbs:
        raise CeremonyError("the certificate does not hold the bytes that were signed", code="ceremony.tbs_changed")
    return made


def request(subject: x509.Name, key: AnyTokenKey) -> x509.CertificateSigningRequest:
    """Make a request (PKCS #10) for a CA's certificate. Blocks.

    Raises:
        CeremonyError: the signature does not verify (``ceremony.signature_invalid``).
        HsmError: the token refuses.
    """
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    made = builder.sign(key, SCHEMES[key.family].hash)
    if not made.is_signature_valid:
        raise _invalid()
    return made


def prove(key: AnyTokenKey, purpose: str) -> str:
    """Let a key sign a fresh challenge, and verify it; return the challenge in hex. Blocks.

    Raises:
        CeremonyError: the signature does not verify (``ceremony.signature_invalid``).
        HsmError: the token refuses.
    """
    challenge = f"ceremony: {purpose} {secrets.token_hex(32)}"  # no DER, so it can't be taken for a certificate
    _signature(key, challenge.encode(), Purpose.PROBE)
    return challenge


def check_issued_by(below: x509.Certificate, above: x509.Certificate, file: str) -> None:
    """See that a certificate was signed by another one.

    Raises:
        CeremonyError: it was not (``ceremony.chain``).
    """
    try:
        below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature):
        raise CeremonyError(
            f"{file} is not signed by {above.subject.rfc4514_string()}; "
            "a chain goes upwards, its own issuer first, the root last",
            code="ceremony.chain",
        ) from None


def climbed(issuer: x509.Certificate, known: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    """Return the certificates above an issuer, the nearest first, as far as they are among those that are known.

    Of several certificates of one key, its own comes first (a root's): below another issuer it stands in another path.
    """
    rest, path = list(known), [issuer]
    while path[-1].subject != path[-1].issuer:
        below = path[-1]
        signers = [each for each in rest if each.subject == below.issuer and _signed(below, each)]
        if not signers:
            break
        path.append(next((each for each in signers if each.subject == each.issuer), signers[0]))
        rest = [each for each in rest if each not in signers]
    return path[1:]


def _signed(below: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def pem(made: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """Return PEM."""
    return made.public_bytes(serialization.Encoding.PEM)


def _signature(key: AnyTokenKey, data: bytes, purpose: Purpose = Purpose.SIGNATURE) -> bytes:
    signature = key.sign_message_blocking(data, purpose=purpose)
    try:
        verify(key.public_key(), signature, data, SCHEMES[key.family].hash)
    except InvalidSignature:
        raise _invalid() from None
    return signature


def _invalid() -> CeremonyError:
    return CeremonyError(
        "the token returned a signature that does not verify; compare its firmware with the vendor's list of faults",
        code="ceremony.signature_invalid",
    )
