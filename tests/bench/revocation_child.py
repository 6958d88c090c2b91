"""The child processes of ``revocation``; each prints one JSON object.

Usage: ``python -m bench.revocation_child prepare|rates|list CONFIG NUMBER``.
"""

import asyncio
import json
import resource
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import Mechanism

from hsm import Authority, Profile, Signer, TokenUri, find_key, new_serial
from hsm.journal import CaJournal, JournalReader, Reservation, certificate_sha256
from hsm.ocsp import JournalStatuses, OcspResponder, PresignedFolder, Presigning, Responder, Signing, presign
from hsm.ocsp.delegation import delegate
from hsm.ocsp.identity import IssuerIdentity
from hsm.revocation import DELTA, FULL, CrlFolder, CrlIssuer, CrlPolicy, Reason, Scope, Target, publish, revoke
from station.config import Config, load
from station.config.certificates import load_certificate

BATCH: Final = 250
FOLDER: Final = "ocsp"
CERTIFICATE: Final = "ocsp.pem"


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def main(work: str, path: Path, number: int) -> None:
    """Do one piece of work."""
    config = load(path)
    tasks = {"prepare": _prepare, "rates": _rates, "list": _list}
    print(json.dumps(tasks[work](config, number)))  # noqa: T201 - this is the output


@contextmanager
def _signer(config: Config, *, writable: bool = False) -> Iterator[Signer]:
    uri = TokenUri.parse(config.ca.token)
    with Signer.open(uri, environment=config.ca.environment, writable=writable) as signer:
        yield signer


def _prepare(config: Config, number: int) -> dict[str, Any]:
    """Issue certificates and presign answers about them."""
    return asyncio.run(_prepared(config, number))


async def _prepared(config: Config, number: int) -> dict[str, Any]:
    issuer = load_certificate(config.ca.certificate)
    config.ca.journal.parent.mkdir(parents=True, exist_ok=True)
    with _signer(config, writable=True) as signer, CaJournal.open(config.ca.journal) as journal:
        authority = await Authority.open(signer, issuer=issuer)
        certificate = await delegate(authority, journal, signer, station_id=1, now=now())
        config.ca.certificate.with_name(CERTIFICATE).write_bytes(certificate.public_bytes(Encoding.PEM))
        serials = await _issued(authority, journal, number)
        statuses = JournalStatuses(config.ca.journal, issuer)
        responder = Responder(certificate, find_key(signer, certificate.public_key()))  # type: ignore[arg-type]

        async def count(_: int) -> None:
            """Nobody audits a benchmark."""

        signing = Presigning(responder, timedelta(days=7), timedelta(days=2), count)
        folder = PresignedFolder(config.path.parent.parent / FOLDER, issuer)
        began = time.monotonic()
        await presign(folder, signing, [(serial, statuses.status(serial)) for serial in serials], now)
        seconds = time.monotonic() - began
        statuses.close()
    identity = IssuerIdentity(issuer)
    return {"presigned": number / seconds, "requests": [identity.request(serial).hex() for serial in serials]}


async def _issued(authority: Authority, journal: CaJournal, number: int) -> list[int]:
    profile, issuer = Profile.load("tls-client"), certificate_sha256(authority.issuer)
    serials: list[int] = []
    while len(serials) < number:
        drafts = [
            authority.draft(
                profile,
                ec.generate_private_key(ec.SECP256R1()).public_key(),
                fields={"product_serial": f"SN{count:06d}"},
                serial=new_serial(1),
                now=now(),
            )
            for count in range(min(BATCH, number - len(serials)))
        ]
        wanted = [Reservation(issuer, profile.name, "bench", draft.spki_sha256, draft, "bench") for draft in drafts]
        intents = await journal.reserve_all(wanted)
        signed = await asyncio.gather(*(authority.issue(draft) for draft in drafts))
        await journal.record_all(list(zip(intents, signed, strict=True)))
        serials += [draft.serial for draft in drafts]
    return serials


def _rates(config: Config, number: int) -> dict[str, Any]:
    """Measure what the parts of the responder can do alone."""
    return asyncio.run(_measured(config, number))


async def _measured(config: Config, number: int) -> dict[str, Any]:
    issuer = load_certificate(config.ca.certificate)
    certificate = load_certificate(config.ca.certificate.with_name(CERTIFICATE))
    with JournalReader(config.ca.journal) as reader:
        serials = [record.serial for record in reader.by_batch("bench")][:number]
    identity = IssuerIdentity(issuer)
    plain = [identity.request(serial) for serial in serials]
    with _signer(config) as signer, CaJournal.open(config.path.with_name("counts.db")) as counts:
        key = find_key(signer, certificate.public_key())  # type: ignore[arg-type]
        statuses = JournalStatuses(config.ca.journal, issuer)
        sha256 = certificate_sha256(certificate)
        signing = Signing(Responder(certificate, key), lambda: counts.count_signature("ocsp", sha256))
        folder = PresignedFolder(config.path.parent.parent / FOLDER, issuer)
        responder = OcspResponder(issuer, signing, statuses, clock=now, presigned=folder)
        for request in plain:
            await responder.answer(request)
        core = await _timed([responder.answer(request) for request in plain * 5])
        nonces = [_with_nonce(identity, serial) for serial in serials]
        nonce = 0.0
        for begin in range(0, len(nonces), 64):  # as many at once as ask at once
            part = nonces[begin : begin + 64]
            started = time.monotonic()
            await asyncio.gather(*(responder.answer(request) for request in part))
            nonce += time.monotonic() - started
        statuses.close()
        sign = signer.call_blocking(lambda session: _raw_signatures(session, key.label, number))
    return {"core": core, "nonce": len(nonces) / nonce, "sign": sign}


async def _timed(answers: list[Any]) -> float:
    began = time.monotonic()
    for answer in answers:
        await answer
    return len(answers) / (time.monotonic() - began)


def _with_nonce(identity: IssuerIdentity, serial: int) -> bytes:
    named = identity.certificate(serial)
    sha1 = hashes.SHA1()  # noqa: S303 - what clients name issuers by
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(named.name_hash, named.key_hash, serial, sha1)
    builder = builder.add_extension(x509.OCSPNonce(secrets.token_bytes(32)), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def _raw_signatures(session: Any, label: str, number: int) -> float:
    (key,) = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: label})
    digest = bytes(32)
    began = time.monotonic()
    for _ in range(number):
        key.sign(digest, mechanism=Mechanism.ECDSA)
    return number / (time.monotonic() - began)


def _list(config: Config, number: int) -> dict[str, Any]:
    """Revoke many, and publish the list; in a journal of its own."""
    issuer = load_certificate(config.ca.certificate)
    path = config.path.with_name("list.db")
    policy = CrlPolicy(url="http://crl.example.com")
    with _signer(config) as signer, CaJournal.open(path) as journal:
        signing = CrlIssuer(issuer, find_key(signer, issuer.public_key()), policy)  # type: ignore[arg-type]
        revoked = _revoked(journal, signing, number)
        folder = CrlFolder(config.path.parent / "crl", issuer)
        began = time.monotonic()
        (made,) = publish(journal, signing, folder, [FULL], now())
        seconds = time.monotonic() - began
        assert made.crl.entries == number
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        revoke(journal, signing.revoker, [Target(new_serial(1), "recall")], Reason.KEY_COMPROMISE)
        began = time.monotonic()
        publish(journal, signing, folder, [DELTA, Scope.of_shard("recall")], now())
        small = time.monotonic() - began
    began = time.monotonic()
    assert made.path is not None
    assert len(folder.read(made.path)) == number
    verify = time.monotonic() - began
    size = len(made.crl.der)
    facts = {"seconds": seconds, "megabytes": megabytes, "revoked": revoked, "small": small, "verify": verify}
    return {**facts, "bytes": size}


def _revoked(journal: CaJournal, signing: CrlIssuer, number: int) -> float:
    targets = [Target(new_serial(1), "bench") for _ in range(number)]
    began = time.monotonic()
    revoke(journal, signing.revoker, targets, Reason.CESSATION_OF_OPERATION)
    return time.monotonic() - began


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
