"""What each mode of a ceremony does."""

from dataclasses import replace
from typing import assert_never

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from hsm.algorithms import PublicKey
from hsm.ceremony import lint
from hsm.ceremony.bench import Bench
from hsm.ceremony.certificates import (
    CA_USAGE,
    Extensions,
    Wish,
    check_issued_by,
    extensions_again,
    extensions_of,
    known_key,
    pem,
    prove,
    request,
    subject_key_identifier,
)
from hsm.ceremony.copying import close_key, copy_key
from hsm.ceremony.plan import (
    Backup,
    Crl,
    CrossSign,
    Import,
    Intermediate,
    Lifetime,
    Renew,
    Request,
    RestoreDrill,
    RollOver,
    Root,
    Step,
)
from hsm.ceremony.revoking import make_crl
from hsm.errors import CeremonyError, LintError
from hsm.keys import AnyTokenKey


def perform(step: Step, bench: Bench, *, last_backup: bool) -> None:
    """Do one step.

    Args:
        step: what to do.
        bench: what to do it with.
        last_backup: no later step copies this step's key.

    Raises:
        HsmError: it can't be done; the caller undoes what was.
        OSError: a file can't be read or written.
    """
    match step:
        case Root():
            key = bench.make_key(step.key, step.certificate, root=True)
            bench.sign(_first_wish(step, bench, key.public_key()), None, key, step.certificate)
        case Intermediate():
            issuer, signing = bench.certificate(step.issuer.certificate), bench.key_of(*_where(step))
            key = bench.make_key(step.key, step.certificate)
            bench.sign(_first_wish(step, bench, key.public_key()), issuer, signing, step.certificate)
        case CrossSign():
            _cross_sign(step, bench)
        case Renew():
            _renew(step, bench)
        case RollOver():
            _roll_over(step, bench)
        case Request():
            _request(step, bench)
        case Import():
            _import(step, bench)
        case Crl():
            make_crl(step, bench)
        case Backup():
            _backup(step, bench, close=last_backup)
        case RestoreDrill():
            _prove(bench, bench.key_of(step.of, step.token), "restore-drill", step.of)
        case _:
            assert_never(step)


def _where(step: Intermediate | CrossSign | Renew) -> tuple[str, str]:
    return step.issuer.certificate, step.issuer.token


def _first_wish(step: Root | Intermediate, bench: Bench, key: PublicKey) -> Wish:
    wish = _wish(bench, bench.marked(step.subject), key, step.lifetime, extensions_of(step.limits))
    return replace(wish, profile=step.profile)


def _wish(bench: Bench, subject: x509.Name, key: PublicKey, lifetime: Lifetime, extensions: Extensions) -> Wish:
    return Wish(subject, key, bench.now, lifetime.end(bench.now), extensions)


def _cross_sign(step: CrossSign, bench: Bench) -> None:
    of, issuer = bench.certificate(step.of), bench.certificate(step.issuer.certificate)
    signing = bench.key_of(*_where(step))
    if of.subject == of.issuer:
        check_issued_by(of, of, step.of)  # whoever made it holds the key
    identifier = subject_key_identifier(of)
    extensions = {**extensions_of(step.limits), identifier.oid: identifier}
    bench.sign(_wish(bench, of.subject, known_key(of), step.lifetime, extensions), issuer, signing, step.certificate)


def _renew(step: Renew, bench: Bench) -> None:
    of, signing = bench.certificate(step.of), bench.key_of(*_where(step))
    itself = step.issuer.certificate == step.of
    issuer = None if itself else bench.certificate(step.issuer.certificate)
    if issuer is not None and issuer.subject != of.issuer:
        raise CeremonyError(
            f"{step.of} was issued by {of.issuer.rfc4514_string()}, not by {issuer.subject.rfc4514_string()}; "
            'a certificate below another issuer is made with mode = "cross-sign"',
            code="ceremony.other_issuer",
        )
    extensions = extensions_again(of, keep_key=True)
    bench.sign(_wish(bench, of.subject, known_key(of), step.lifetime, extensions), issuer, signing, step.certificate)


def _roll_over(step: RollOver, bench: Bench) -> None:
    of = bench.certificate(step.of)
    issuer = signing = None
    if step.issuer is not None:
        issuer = bench.certificate(step.issuer.certificate)
        signing = bench.key_of(step.issuer.certificate, step.issuer.token)
    key = bench.make_key(step.key, step.certificate, root=issuer is None)
    extensions = extensions_again(of, keep_key=False)
    wish = _wish(bench, of.subject, key.public_key(), step.lifetime, extensions)
    bench.sign(wish, issuer, signing or key, step.certificate)


def _request(step: Request, bench: Bench) -> None:
    if step.key is not None:
        key, subject = bench.make_key(step.key, step.request), bench.marked(step.subject or x509.Name([]))
    else:
        key, subject = bench.key_of(step.of or "", step.token), bench.certificate(step.of or "").subject
    bench.transcript.add(
        "sign", what="request", token=key.signer.token.serial, label=key.label, subject=subject.rfc4514_string()
    )
    bench.write(step.request, pem(request(subject, key)))
    bench.say(f"wrote the request of {subject.rfc4514_string()}: {step.request}")


def _backup(step: Backup, bench: Bench, *, close: bool) -> None:
    key = bench.key_of(step.of, step.token)
    target = bench.signers[step.to]
    bench.note_copy(target, step.label, key)
    copy = copy_key(key, target, step.label)
    bench.note_key("copy", copy)
    _prove(bench, copy, "backup", step.of)
    if close:
        key = bench.found_again(step.of, close_key(key))
        bench.note_key("key-closed", key)
        bench.say(f"closed '{key.label}' in token '{key.signer.token.label}': it can't be copied again")


def _prove(bench: Bench, key: AnyTokenKey, purpose: str, file: str) -> None:
    token = key.signer.token
    bench.transcript.add("sign", what="challenge", token=token.serial, label=key.label)
    challenge = prove(key, purpose)
    bench.transcript.add(purpose, token=token.serial, label=key.label, file=file, challenge=challenge, verified=True)
    bench.say(f"token '{token.label}' signs for the public key of {file}: '{key.label}'")


# -- a certificate that came back


def _import(step: Import, bench: Bench) -> None:
    answer = bench.certificate(step.answer)
    chain = [bench.certificate(file) for file in step.chain]
    key = bench.key_of(step.answer, step.token)
    subject = answer.subject
    if step.request is not None:
        asked = x509.load_pem_x509_csr(bench.read(step.request))
        subject = asked.subject
        if asked.public_key() != key.public_key():
            raise CeremonyError(f"{step.answer} is for another key than {step.request}", code="import.other_key")
    names = [step.answer, *step.chain]
    certificates = [answer, *chain]
    for file, below, above in zip(names, certificates, [*chain, chain[-1]], strict=True):
        check_issued_by(below, above, file)
    _check_depths(step, chain)
    for file, certificate in zip(names, certificates, strict=True):
        if not certificate.not_valid_before_utc <= bench.now <= certificate.not_valid_after_utc:
            raise CeremonyError(
                f"{file} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} to "
                f"{certificate.not_valid_after_utc:%Y-%m-%d}, which is not now; check the clock",
                code="import.not_valid",
            )
    wanted = _wanted_of(step, answer, chain[0])
    expected = lint.Expected(subject.public_bytes(), key.public_key(), wanted, from_elsewhere=True)
    findings = lint.check(answer, chain[0], expected, above=chain[1:])
    if findings:
        raise LintError(
            f"{step.answer} is not taken: " + "; ".join(f"{each.code}: {each.message}" for each in findings),
            code=findings[0].code,
            operator="The certificate that came back breaks the rules. Send it back.",
        )
    _prove(bench, key, "import", step.answer)
    bench.write(step.certificate, pem(answer))
    bench.say(f"took {answer.subject.rfc4514_string()} as {step.certificate}")


def _wanted_of(step: Import, answer: x509.Certificate, issuer: x509.Certificate) -> Extensions:
    """Return the extensions that an answer must have; where others may choose, what they chose."""
    usage: x509.KeyUsage = CA_USAGE
    own = _value(answer, ExtensionOID.KEY_USAGE)
    if isinstance(own, x509.KeyUsage) and own.key_cert_sign and own.crl_sign:
        usage = own
    above = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key_identifier(issuer))
    theirs = _value(answer, ExtensionOID.AUTHORITY_KEY_IDENTIFIER)
    if isinstance(theirs, x509.AuthorityKeyIdentifier) and theirs.key_identifier == above.key_identifier:
        above = theirs  # it may name issuer and serial number too
    wanted: list[x509.ExtensionType] = [
        x509.BasicConstraints(ca=True, path_length=step.pathlen),
        usage,
        subject_key_identifier(answer),
        above,
    ]
    wanted += [step.names] if step.names is not None else []
    wanted += [x509.ExtendedKeyUsage(step.usages)] if step.usages else []
    return {value.oid: value for value in wanted}


def _value(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> x509.ExtensionType | None:
    try:
        return certificate.extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        return None


def _check_depths(step: Import, chain: list[x509.Certificate]) -> None:
    """See that each one above is a CA that may have so many below it (RFC 5280 6.1.4)."""
    for depth, (file, certificate) in enumerate(zip(step.chain, chain, strict=True), start=1):
        constraints = _value(certificate, ExtensionOID.BASIC_CONSTRAINTS)
        usage = _value(certificate, ExtensionOID.KEY_USAGE)
        if (
            not isinstance(constraints, x509.BasicConstraints)
            or not constraints.ca
            or (isinstance(usage, x509.KeyUsage) and not usage.key_cert_sign)
            or (constraints.path_length is not None and constraints.path_length < depth)
        ):
            raise CeremonyError(f"{file} may not issue a CA that stands {depth} below it", code="ceremony.chain")
