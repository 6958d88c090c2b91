"""Making a CRL of any length (RFC 5280 5).

pyca/cryptography's builder copies its list of entries for each one that is added, so it can't be used for a million of
them. Here the entries are written one after the other as DER; what is signed is one run of bytes, and the token sees
its hash, not the megabytes (Ed25519 aside: it has to read all of them, RFC 8032). The result is read again with
pyca/cryptography and its signature verified before anybody sees it.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from hsm import der
from hsm.algorithms import SignatureScheme, pss_padding, verify
from hsm.errors import CrlError
from hsm.keys import AnyTokenKey, RsaTokenKey
from hsm.request import rsa_request
from hsm.revocation.reasons import Reason

_INTEGER: Final = 0x02
_ENUMERATED: Final = 0x0A
_BOOLEAN_TRUE: Final = bytes((0x01, 0x01, 0xFF))
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_EXPLICIT_0: Final = 0xA0
_V2: Final = bytes((_INTEGER, 1, 1))
_UTC_TIME_ENDS: Final = 2050
_CRL_REASON: Final = der.object_identifier("2.5.29.21")
_INVALIDITY_DATE: Final = der.object_identifier("2.5.29.24")

MAX_ENTRIES_SIZE: Final = 1 << 30
"""Bytes of entries in one CRL: twenty million certificates. What is larger is sharded, not signed."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """One entry of a CRL."""

    serial: int
    at: dt.datetime
    """When the CA revoked it, in UTC; seconds count."""
    reason: Reason = Reason.UNSPECIFIED
    invalid_since: dt.datetime | None = None
    """Since when it is not to be trusted, as far as that is known (InvalidityDate)."""


@dataclass(frozen=True, slots=True)
class CrlTerms:
    """What stands in a CRL beside its entries."""

    number: int
    """CRLNumber (RFC 5280 5.2.3)."""
    this_update: dt.datetime
    next_update: dt.datetime
    base: int | None = None
    """For a delta CRL: the number of the complete CRL that it adds to (5.2.4)."""
    distribution_point: str | None = None
    """For a shard: the URL that stands in its certificates and, critical, in its IssuingDistributionPoint (5.2.5)."""
    freshest: str | None = None
    """URL of the delta CRL that adds to this one (5.2.6)."""


@dataclass(frozen=True, slots=True)
class SignedCrl:
    """A CRL whose signature was verified."""

    der: bytes
    terms: CrlTerms
    entries: int

    @property
    def sha256(self) -> bytes:
        """Its digest."""
        return hashlib.sha256(self.der).digest()


class TbsCrl:
    """A TBSCertList that is being written: entries are added, and ``finish`` returns the bytes to be signed."""

    def __init__(self, issuer: x509.Certificate, scheme: SignatureScheme, terms: CrlTerms) -> None:
        """Begin.

        Args:
            issuer: whose CRL it is; has a SubjectKeyIdentifier.
            scheme: how its key signs.
            terms: all but the entries.
        """
        self.entries = 0
        self.scheme = scheme
        """How it is signed."""
        self._issuer = issuer
        self._terms = terms
        self._revoked = bytearray()

    def add(self, entries: Iterable[Revoked]) -> None:
        """Append entries. A serial number must come once only.

        Raises:
            CrlError: there are too many (``crl.too_large``).
        """
        revoked, count = self._revoked, 0
        for entry in entries:
            revoked += encode_entry(entry)
            count += 1
        self.entries += count
        if len(revoked) > MAX_ENTRIES_SIZE:
            raise CrlError(
                f"{self.entries} entries are too many for one CRL; hand out the shards", code="crl.too_large"
            )

    def finish(self) -> bytes:
        """Return the TBSCertList (RFC 5280 5.1.2)."""
        terms = self._terms
        parts = [
            _V2,
            self.scheme.identifier,
            self._issuer.subject.public_bytes(),
            encode_time(terms.this_update),
            encode_time(terms.next_update),
            der.encode(der.SEQUENCE, bytes(self._revoked)) if self.entries else b"",  # must be absent if empty
            der.encode(_EXPLICIT_0, der.encode(der.SEQUENCE, b"".join(_extensions(self._issuer, terms)))),
        ]
        return der.encode(der.SEQUENCE, b"".join(parts))


def encode_entry(entry: Revoked) -> bytes:
    """Return the DER of one entry of ``revokedCertificates``."""
    serial = entry.serial.to_bytes(entry.serial.bit_length() // 8 + 1)  # one bit more, for the sign
    body = bytes((_INTEGER, len(serial))) + serial + encode_time(entry.at)
    return der.encode(der.SEQUENCE, body + entry_extensions(entry.reason, entry.invalid_since))


@lru_cache(maxsize=4096)
def encode_time(moment: dt.datetime) -> bytes:
    """Return a Time: UTCTime through 2049, GeneralizedTime after (RFC 5280 5.1.2.4)."""
    utc = moment.astimezone(dt.UTC)
    if utc.year < _UTC_TIME_ENDS:
        return der.encode(_UTC_TIME, f"{utc:%y%m%d%H%M%S}Z".encode())
    return generalized_time(utc)


def generalized_time(moment: dt.datetime) -> bytes:
    """Return a GeneralizedTime, without fractions of a second."""
    utc = moment.astimezone(dt.UTC)
    return der.encode(_GENERALIZED_TIME, f"{utc.year:04d}{utc:%m%d%H%M%S}Z".encode())


@lru_cache(maxsize=4096)
def entry_extensions(reason: Reason, invalid_since: dt.datetime | None) -> bytes:
    """Return the extensions of an entry, or nothing; an OCSP answer has the same ones."""
    found = []
    if reason is not Reason.UNSPECIFIED:  # should be absent rather than say so (RFC 5280 5.3.1)
        found.append(_extension(_CRL_REASON, der.encode(_ENUMERATED, bytes((reason,)))))
    if invalid_since is not None:
        found.append(invalidity_date(invalid_since))
    return der.encode(der.SEQUENCE, b"".join(found)) if found else b""


def invalidity_date(moment: dt.datetime) -> bytes:
    """Return the extension InvalidityDate (RFC 5280 5.3.2)."""
    return _extension(_INVALIDITY_DATE, generalized_time(moment))


def _extension(oid: bytes, value: bytes, *, critical: bool = False) -> bytes:
    content = oid + (_BOOLEAN_TRUE if critical else b"") + der.encode(der.OCTET_STRING, value)
    return der.encode(der.SEQUENCE, content)


def _extensions(issuer: x509.Certificate, terms: CrlTerms) -> Iterable[bytes]:
    key_identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    wanted: list[tuple[x509.ExtensionType, bool]] = [
        (x509.AuthorityKeyIdentifier(key_identifier, None, None), False),
        (x509.CRLNumber(terms.number), False),
    ]
    if terms.base is not None:
        wanted.append((x509.DeltaCRLIndicator(terms.base), True))
    if terms.distribution_point is not None:
        wanted.append((_distribution_point(terms.distribution_point), True))
    if terms.freshest is not None:
        name = x509.UniformResourceIdentifier(terms.freshest)
        wanted.append((x509.FreshestCRL([x509.DistributionPoint([name], None, None, None)]), False))
    for value, critical in wanted:
        yield _extension(der.object_identifier(value.oid.dotted_string), value.public_bytes(), critical=critical)


def _distribution_point(url: str) -> x509.IssuingDistributionPoint:
    return x509.IssuingDistributionPoint(
        full_name=[x509.UniformResourceIdentifier(url)],
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=False,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )


def sign_crl(
    issuer: x509.Certificate, key: AnyTokenKey, tbs: TbsCrl, terms: CrlTerms, *, again: Callable[[], object]
) -> SignedCrl:
    """Let the token sign a CRL, read it again, and verify it. Blocks.

    Args:
        issuer: whose CRL it is.
        key: signs.
        tbs: what is signed.
        terms: with which it was begun.
        again: called before the token is asked a second time, after a failure that left no signature.

    Raises:
        CrlError: what the token returned does not verify (``crl.signature_invalid``).
        TokenError: the token refused.
    """
    scheme = tbs.scheme
    content = tbs.finish()
    signed = der.join_signed(content, scheme.identifier, sign_hashed(key, content, scheme, again))
    read = x509.load_der_x509_crl(signed)
    if read.tbs_certlist_bytes != content:
        raise CrlError("the CRL does not hold the bytes that were signed", code="crl.tbs_changed")
    try:
        verify(key.public_key(), read.signature, content, scheme.hash, pss=scheme.pss)
    except InvalidSignature:
        raise CrlError(
            f"the token returned a signature that does not verify for {issuer.subject.rfc4514_string()}; nothing was "
            "published. Compare the token's firmware with the vendor's list of faults",
            code="crl.signature_invalid",
        ) from None
    return SignedCrl(signed, terms, tbs.entries)


def sign_hashed(key: AnyTokenKey, content: bytes, scheme: SignatureScheme, again: Callable[[], object]) -> bytes:
    """Sign with a scheme of the key's family. An RSA token gets the hash too, not megabytes to hash by itself."""
    digest = scheme.hash
    if isinstance(key, RsaTokenKey) and digest is not None:
        hashed = hashlib.new(digest.name, content).digest()
        pad = pss_padding(digest) if scheme.pss else padding.PKCS1v15()
        request = rsa_request(key.name, hashed, pad, Prehashed(digest))
        return key.signer.sign_blocking(request, again=again)
    return key.sign_message_blocking(content, again=again)


def without_entries(tbs: bytes) -> bytes:
    """Return a TBSCertList without its entries, which are most of it: the rest is read in no time then.

    Raises:
        DerError: it is no TBSCertList.
    """
    parts = der.children(tbs, der.read(tbs, 0, len(tbs)))
    times = [index for index, part in enumerate(parts) if part.tag in {_UTC_TIME, _GENERALIZED_TIME}]
    if not times:
        raise der.DerError("it has no thisUpdate")
    kept = [part for index, part in enumerate(parts) if index <= times[-1] or part.tag != der.SEQUENCE]
    return der.encode(der.SEQUENCE, b"".join(tbs[part.start : part.end] for part in kept))
