"""Issuing certificates.

One certificate is made in these steps, and nothing can skip one:

1. ``draft`` builds it with a blank in place of the signature and lints it (``drafting.py``). The result is a
   ``LintedTbs``: proof that these bytes were linted, good for one signature.
2. The caller writes the TBS into its journal. After a crash, ``redraft`` makes a ``LintedTbs`` of journalled bytes.
3. ``issue`` asks the warrant, which the profile may demand (``warrant.py``), lets the token sign exactly these bytes,
   puts the certificate together, reads it again, and verifies the signature with the issuer's public key before anybody
   sees it: tokens have been seen to return signatures that don't verify.

The private key is found by the public key in the issuer's certificate, so the two can't be mismatched.
"""

import datetime as dt
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from pkcs11.constants import Attribute

from hsm import der
from hsm.algorithms import RSA_PSS, SCHEMES, PublicKey, SignatureScheme, family_of, is_pss_key, pss_padding, verify
from hsm.blank import signature_size
from hsm.columns import sole
from hsm.drafting import Drafter, LintedTbs, Wish
from hsm.errors import HsmError, IssuanceError
from hsm.key_store import RULES, find
from hsm.keys import AnyTokenKey, Signing
from hsm.lint import Extra, IssuerFacts
from hsm.path_limits import PathLimits
from hsm.profiles import Profile
from hsm.request import Purpose, SignRequest, message_request, rsa_request
from hsm.signer import Again, AgainAt
from hsm.warrant import Warrant, check_there

__all__ = ["Authority", "LintedTbs", "Wish", "issue_root"]

_PROBE: Final = b"hsm: is this the issuer's key? "
"""Starts what is signed to see whether key and certificate belong together; it is no DER, so no certificate either."""


class Authority:
    """An issuing CA: a certificate, and its private key in a token."""

    issuer: x509.Certificate
    chain: tuple[bytes, ...]
    """DER of the issuer's certificate and of those above it, the root left out: what a device gets after its own."""

    def __init__(
        self,
        key: AnyTokenKey,
        issuer: x509.Certificate,
        above: Sequence[x509.Certificate],
        *,
        extra_lint: Extra | None = None,
    ) -> None:
        """Use ``Authority.open``."""
        self.issuer = issuer
        self.chain = tuple(
            certificate.public_bytes(serialization.Encoding.DER)
            for certificate in (issuer, *above)
            if certificate is issuer or certificate.subject != certificate.issuer
        )
        self._key = key
        self._public: PublicKey = key.public_key()
        self._drafter = Drafter(_issuer_facts(issuer, above, key), self._public, extra=extra_lint)

    @classmethod
    async def open(
        cls,
        signer: Signing,
        *,
        issuer: x509.Certificate,
        chain: Sequence[x509.Certificate] = (),
        rules: Mapping[Attribute, bool] = RULES,
        extra_lint: Extra | None = None,
    ) -> Self:
        """Find the issuer's key in the token and see that the two belong together.

        Args:
            signer: logged in to the token, or to several that hold the key (``hsm.failover``).
            issuer: the certificate of the issuing CA.
            chain: the certificates above it, its own issuer first; the root may be among them.
            rules: what the private key must be; ``BACKED_UP`` for one that a ceremony copied.
            extra_lint: asked when our own rules found nothing, like ``hsm.lint_pkilint.pkilint()``.

        Raises:
            IssuanceError: the certificate is no CA's, the chain does not fit, or the key signs wrongly.
            KeyMissing: the token does not hold the private key.
            KeyUnfit: the private key could leave the token.
        """
        public = _check_issuer(issuer)
        _check_chain(issuer, chain)
        authority = cls(await find(signer, public, rules=rules), issuer, chain, extra_lint=extra_lint)
        await authority._probe()
        return authority

    @property
    def key(self) -> AnyTokenKey:
        """The private key, for what else an issuer signs: CRLs, checkpoints."""
        return self._key

    def draft(  # noqa: PLR0913 - what a certificate is made of, by name
        self,
        profile: Profile,
        public_key: PublicKey,
        *,
        fields: Mapping[str, str],
        serial: int,
        now: dt.datetime,
        names: Sequence[x509.GeneralName] = (),
        spki: bytes | None = None,
    ) -> LintedTbs:
        """Build and lint a certificate; nothing is signed. Pure computing, safe from any thread.

        Args:
            profile: which kind of certificate.
            public_key: the device's, from a checked ``Csr``.
            fields: values for the profile's templates; ``shard`` for its URLs, "main" if left out.
            serial: from ``new_serial``.
            now: start of validity, with a time zone; microseconds are cut off.
            names: what operator or request add to the profile's own names; the profile's policy decides on the sum.
            spki: DER of the key, where the caller has it (``Csr.spki``).

        Raises:
            IssuanceError: the issuer is not valid now, or not long enough.
            FieldError: a field is missing or can't stand in its place, or a name is not allowed.
            LintError: the certificate would break the profile.
            ValueError: ``now`` has no time zone.
        """
        return sole(self.draft_all([Wish(profile, public_key, fields, serial, now, names, spki)]))

    def draft_all(self, wishes: Iterable[Wish | HsmError]) -> list[LintedTbs | HsmError]:
        """Do as ``draft``, for several (``hsm.columns``): each for itself."""
        return self._drafter.draft_all(wishes)

    def redraft(self, profile: Profile, tbs: bytes, *, fields: Mapping[str, str] | None = None) -> LintedTbs:
        """Lint a TBS that was journalled before a crash, so that it can be issued.

        The serial number and the key are taken as they stand; that they are the journal's own is for the caller to
        know (``LintedTbs.tbs_sha256``).

        Args:
            profile: which kind of certificate.
            tbs: from the journal.
            fields: values for the profile's templates: subject, names and end of validity then have to be those that
                ``draft`` would write, so that no altered row gets a name signed. None: only their form is checked.

        Raises:
            FieldError: a field is missing or can't stand in its place.
            LintError: it is not one that this authority would draft.
        """
        return self._drafter.redraft(profile, tbs, fields)

    def issued(self, certificate: bytes) -> bool:
        """Tell whether this authority's key signed a certificate (DER)."""
        try:
            x509.load_der_x509_certificate(certificate).verify_directly_issued_by(self.issuer)
        except (InvalidSignature, ValueError, TypeError):
            return False
        return True

    async def issue(self, draft: LintedTbs, *, again: Again | None = None, warrant: Warrant | None = None) -> bytes:
        """Let the token sign a draft.

        Args:
            draft: from ``draft`` or ``redraft``.
            again: awaited before the token is asked a second time, after a failure that left no signature: a journal
                counts the try there.

            warrant: leave to sign; asked right before the token is, each time. A profile may demand one.

        Returns:
            The certificate in DER, its signature verified.

        Raises:
            WarrantError: the profile demands a warrant and there is none, or it does not allow this now.
            IssuanceError: the draft was used before, or what the token returned does not verify.
            TokenError: the token refused; ``recovery`` says what may be tried, with a ``redraft`` of the same TBS.
        """
        check_there(draft, warrant)
        tbs = draft.spend(self._drafter)
        request = _gated(_request(self._key, tbs, draft.scheme), draft, warrant)
        signature = await self._key.signer.sign(request, again=again)
        return _joined(tbs, signature, draft.scheme).verified(self._public)

    async def issue_all(
        self,
        drafts: Sequence[LintedTbs],
        *,
        warrants: Sequence[Warrant | None] | None = None,
        again: AgainAt | None = None,
    ) -> list[bytes | HsmError]:
        """Let the token sign drafts in one go.

        Args:
            drafts: from ``draft`` or ``redraft``.
            warrants: leave to sign, one a draft; None where no draft needs any.
            again: as for ``issue``; gets the place of the draft in the list.

        Returns:
            The certificates, in the order of the drafts. Where the token refused, that one and all after it are its
            error; they are to be drafted again from the journal.

        Raises:
            WarrantError: a draft has none, and needs one.
            IssuanceError: a draft was used before, or what the token returned does not verify.
        """
        leave = warrants or [None] * len(drafts)
        for draft, warrant in zip(drafts, leave, strict=True):
            check_there(draft, warrant)
        every = [(draft.spend(self._drafter), draft.scheme) for draft in drafts]
        requests = [_request(self._key, tbs, scheme) for tbs, scheme in every]
        signatures = await self._key.signer.sign_all(
            [_gated(*one) for one in zip(requests, drafts, leave, strict=True)], again=again
        )
        # All are put together before the first is verified, for the sake of the caches (``hsm.columns``).
        joined = [
            signature if isinstance(signature, HsmError) else _joined(tbs, signature, scheme)
            for (tbs, scheme), signature in zip(every, signatures, strict=True)
        ]
        return [one if isinstance(one, HsmError) else one.verified(self._public) for one in joined]

    def issue_blocking(
        self, draft: LintedTbs, *, again: Callable[[], object] | None = None, warrant: Warrant | None = None
    ) -> bytes:
        """Do as ``issue``, and block this thread meanwhile."""
        check_there(draft, warrant)
        tbs = draft.spend(self._drafter)
        request = _gated(_request(self._key, tbs, draft.scheme), draft, warrant)
        signature = self._key.signer.sign_blocking(request, again=again)
        return _joined(tbs, signature, draft.scheme).verified(self._public)

    async def _probe(self) -> None:
        """Sign and verify something that is no certificate: better now than at the first board."""
        message = _PROBE + secrets.token_bytes(32)
        signature = await self._key.sign_message(message, purpose=Purpose.PROBE)
        try:
            verify(self._public, signature, message, self._drafter.facts.scheme.hash)
        except InvalidSignature:
            raise IssuanceError(
                f"the key {self._key.label!r} in the token does not sign for the issuer's certificate",
                code="issuer.key_mismatch",
            ) from None


async def issue_root(  # noqa: PLR0913 - what a certificate is made of, by name
    key: AnyTokenKey,
    profile: Profile,
    *,
    fields: Mapping[str, str],
    serial: int,
    now: dt.datetime,
    end: dt.datetime,
    again: Again | None = None,
) -> bytes:
    """Let a key sign its own certificate, by a profile of a root: linted, signed, verified like any other.

    Args:
        key: in the token.
        profile: one with ``self_signed = true``.
        fields: values for the profile's templates.
        serial: from ``new_serial``.
        now: start of validity, with a time zone.
        end: the last moment that the profile may reach.
        again: see ``Authority.issue``.

    Returns:
        The certificate in DER.

    Raises:
        FieldError: a field is missing or can't stand in its place.
        LintError: the certificate would break the profile.
        IssuanceError: what the token returned does not verify.
    """
    public: PublicKey = key.public_key()
    subject = profile.subject(fields)
    facts = IssuerFacts(
        subject=subject.public_bytes(),
        key_identifier=x509.SubjectKeyIdentifier.from_public_key(public).digest,
        scheme=SCHEMES[key.family],
        signature_size=signature_size(public),
        not_before=now.astimezone(dt.UTC).replace(microsecond=0),
        not_after=end,
        name=subject,
        family=key.family,
        self_issued=True,
    )
    draft = sole(Drafter(facts, public).draft_all([Wish(profile, public, fields, serial, now)]))
    signature = await key.signer.sign(_request(key, draft.tbs, draft.scheme), again=again)
    return _joined(draft.tbs, signature, draft.scheme).verified(public)


def _request(key: AnyTokenKey, tbs: bytes, scheme: SignatureScheme) -> SignRequest:
    if scheme.pss and scheme.hash is not None:
        return rsa_request(key.name, tbs, pss_padding(scheme.hash), scheme.hash)
    return message_request(key.name, tbs)


def _gated(request: SignRequest, draft: LintedTbs, warrant: Warrant | None) -> SignRequest:
    """Let the warrant be asked where the token is."""
    return request if warrant is None else replace(request, gate=partial(warrant.allow, draft))


class _Joined(NamedTuple):
    """A certificate whose signature is still to be verified."""

    der: bytes
    tbs: bytes
    signature: bytes
    scheme: SignatureScheme

    def verified(self, public: PublicKey) -> bytes:
        """Return the DER of the certificate, if the issuer's key signed it.

        Raises:
            IssuanceError: ``issuance.signature_invalid``.
        """
        try:
            verify(public, self.signature, self.tbs, self.scheme.hash, pss=self.scheme.pss)
        except InvalidSignature:
            raise IssuanceError(
                "the token returned a signature that does not verify; nothing left the station. "
                "Compare the token's firmware with the vendor's list of faults",
                code="issuance.signature_invalid",
                operator="The HSM signs wrongly. Stop the line and call the security officer.",
            ) from None
        return self.der


def _joined(tbs: bytes, signature: bytes, scheme: SignatureScheme) -> _Joined:
    """Put a certificate together, and see that it says what was asked for.

    Raises:
        IssuanceError: ``issuance.tbs_changed``.
    """
    certificate = der.join_signed(tbs, scheme.identifier, signature)
    read = x509.load_der_x509_certificate(certificate)
    if read.tbs_certificate_bytes != tbs:
        raise IssuanceError("the certificate does not hold the bytes that were signed", code="issuance.tbs_changed")
    return _Joined(certificate, tbs, read.signature, scheme)


def _check_issuer(issuer: x509.Certificate) -> PublicKey:
    public = issuer.public_key()
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound as error:
        raise IssuanceError(
            "the issuer's certificate lacks BasicConstraints, KeyUsage or SubjectKeyIdentifier: it is not a CA's",
            code="issuer.not_ca",
        ) from error
    if not constraints.ca or not usage.key_cert_sign:
        raise IssuanceError("the issuer's certificate may not sign certificates", code="issuer.not_ca")
    if family_of(public) is None:
        raise IssuanceError("the issuer's key is not P-256, P-384, RSA or Ed25519", code="issuer.key_type")
    return public  # type: ignore[return-value]  # family_of knows no others


def _check_chain(issuer: x509.Certificate, above: Sequence[x509.Certificate]) -> None:
    for child, parent in zip((issuer, *above), above, strict=False):
        try:
            child.verify_directly_issued_by(parent)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise IssuanceError(
                f"{child.subject.rfc4514_string()} was not issued by {parent.subject.rfc4514_string()}; "
                "give the chain upwards, the issuer's own issuer first",
                code="issuer.chain",
            ) from error


def _issuer_facts(issuer: x509.Certificate, above: Sequence[x509.Certificate], key: AnyTokenKey) -> IssuerFacts:
    return IssuerFacts(
        subject=issuer.subject.public_bytes(),
        key_identifier=issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest,
        scheme=RSA_PSS if is_pss_key(issuer) else SCHEMES[key.family],
        signature_size=signature_size(key.public_key()),
        not_before=issuer.not_valid_before_utc,
        not_after=issuer.not_valid_after_utc,
        name=issuer.subject,
        family=key.family,
        path_length=issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length,
        limits=PathLimits.of((issuer, *above)),
    )
