"""The CRL of a CA whose token rests in a safe; those of a line are made by ``hsm.revocation``."""

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from hsm.algorithms import SCHEMES
from hsm.ceremony.bench import Bench
from hsm.ceremony.certificates import check_issued_by, subject_key_identifier
from hsm.ceremony.plan import Crl
from hsm.errors import CeremonyError
from hsm.keys import AnyTokenKey


def make_crl(step: Crl, bench: Bench) -> None:
    """Make the next CRL: what the one before holds, and what is revoked now.

    Raises:
        CeremonyError: the one before is another CA's or from the future, or a certificate is not to be revoked.
        HsmError: the token refuses.
    """
    issuer = bench.certificate(step.issuer.certificate)
    key = bench.key_of(step.issuer.certificate, step.issuer.token)
    number, entries = 1, dict[int, x509.RevokedCertificate]()
    if step.previous is not None:
        before = _previous(bench.read(step.previous), step.previous, issuer, bench.now)
        number = before.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
        entries = {entry.serial_number: entry for entry in before}
    for file, reason in step.revoke:
        certificate = bench.certificate(file)
        check_issued_by(certificate, issuer, file)
        if certificate.serial_number in entries:
            raise CeremonyError(f"{file} is on the list already", code="ceremony.revoked_already")
        entry = x509.RevokedCertificateBuilder(certificate.serial_number, bench.now)
        if reason is not x509.ReasonFlags.unspecified:  # RFC 5280 5.3.1: it should be left out
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        entries[certificate.serial_number] = entry.build()
        bench.say(f"revoked {certificate.subject.rfc4514_string()}: {reason.value}")
    end = bench.now + dt.timedelta(days=step.days)
    builder = x509.CertificateRevocationListBuilder(
        issuer.subject, bench.now, end, revoked_certificates=list(entries.values())
    )
    above = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key_identifier(issuer))
    builder = builder.add_extension(above, critical=False).add_extension(x509.CRLNumber(number), critical=False)
    token = key.signer.token.serial
    bench.transcript.add("sign", what="crl", token=token, label=key.label, number=number, revoked=len(entries))
    bench.write(step.crl, _signed(builder, key))
    bench.say(f"signed CRL {number} of {issuer.subject.rfc4514_string()}, {len(entries)} revoked: {step.crl}")


def _previous(content: bytes, file: str, issuer: x509.Certificate, now: dt.datetime) -> x509.CertificateRevocationList:
    try:
        load = x509.load_pem_x509_crl if content.startswith(b"-----") else x509.load_der_x509_crl
        before = load(content)
        ours = before.issuer == issuer.subject and before.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (ValueError, TypeError):
        ours = False
    if not ours:
        raise CeremonyError(f"{file} is not a CRL that {issuer.subject.rfc4514_string()} signed", code="ceremony.chain")
    if before.last_update_utc > now:
        raise CeremonyError(
            f"{file} was made at {before.last_update_utc:%Y-%m-%d %H:%M:%S}, which is to come; check the clock",
            code="ceremony.clock",
        )
    return before


def _signed(builder: x509.CertificateRevocationListBuilder, key: AnyTokenKey) -> bytes:
    made = builder.sign(key, SCHEMES[key.family].hash)
    if not made.is_signature_valid(key.public_key()):
        raise CeremonyError("the token signed a CRL wrongly", code="ceremony.signature_invalid")
    return made.public_bytes(serialization.Encoding.DER)  # RFC 5280 4.2.1.13: what an http URL serves
