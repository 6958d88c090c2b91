"""What ``station doctor`` looks at in the tokens: one login each, with the PIN of the configuration, and one probe.

A token that stands by is examined like the first: its lines say ``token 2``, ``key 2`` and so on.
"""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from hsm import Authority, HsmError, KeyMissing, Profile, Signer, TokenFacts, TokenUri, find_key, read_facts
from hsm.quirks import NONE
from hsm.survey import Survey, survey
from station.checks import preflight
from station.checks.findings import Finding, fail, ok, warn
from station.config import Config, TokensSection
from station.config.certificates import is_root
from station.errors import ConfigError
from station.manifest import ManifestReader
from station.orders.binding import notes_kept
from station.signing import refuse_root, rules_of

_EXPIRES_SOON: Final = timedelta(days=30)


def examine(config: Config) -> Iterator[Finding]:
    """Examine the tokens of ``[ca]`` and of each ``[[issuer]]``."""
    ca = config.ca
    sections = [(ca.tokens, ca.certificate, ca.root)]
    sections += [(issuer.tokens, issuer.certificate, issuer.root) for issuer in config.issuers]
    number = 0
    for tokens, certificate, root in sections:
        for uri in tokens.uris:
            number += 1
            yield from _token(config, tokens, uri, (certificate, root), "" if number == 1 else f" {number}")


def _token(config: Config, tokens: TokensSection, uri: str, files: tuple[Path, Path], number: str) -> Iterator[Finding]:
    issuer, root = (preflight.read_certificate(path) for path in files)
    if not isinstance(issuer, str) and is_root(issuer, files[0].parent):
        return  # said by the checks of the certificates; its token stays closed
    try:
        signer = Signer.open(TokenUri.parse(uri), environment=config.ca.environment, counts=config.ca.signatures)
    except HsmError as error:
        yield fail(f"token{number}", str(error), _advice(error))
        return
    with signer:
        try:
            refuse_root(config.ca, signer)
        except (ConfigError, HsmError) as error:
            yield fail(f"token{number}", str(error), _advice(error))
            return
        yield _facts(signer.token, number)
        yield _pin(signer.token, number)
        missing = isinstance(issuer, str) or isinstance(root, str)
        seen = survey(signer, None if isinstance(issuer, str) else issuer.public_key())  # type: ignore[arg-type]
        if seen is not None:
            yield _quirks(seen, number)
            yield _sessions(seen, number)
        if missing:
            yield warn(f"key{number}", "not examined: there is no issuer certificate yet", preflight.CA_MISSING)
            return
        assert not isinstance(issuer, str)  # noqa: S101 - for mypy
        assert not isinstance(root, str)  # noqa: S101
        try:
            yield _key(signer, tokens, issuer, number)
            asyncio.run(Authority.open(signer, issuer=issuer, chain=(root,), rules=rules_of(tokens)))
        except HsmError as error:
            yield fail(f"key{number}", str(error), _advice(error))
            return
        yield ok(f"signature{number}", "the key signed a probe, and the issuer certificate verified it")
        yield from _order_note(config, signer, number)
        yield _lifetime(config, issuer, number)


def _advice(error: ConfigError | HsmError) -> str:
    """Return what the engineer does, where the error does not say it; its sentence for the operator is for the line."""
    if isinstance(error, KeyMissing):
        return "name the token that holds it in [ca], or the certificate that belongs to this token's key"
    if error.code == "token.missing":
        return "connect the token, or correct its URI in [ca]"
    return ""


def _facts(token: TokenFacts, number: str) -> Finding:
    return ok(f"token{number}", f"{token.label}: {token.manufacturer} {token.model}, serial {token.serial}")


def _pin(token: TokenFacts, number: str) -> Finding:
    """Say what the token tells about PIN tries; PKCS#11 has no number, only flags."""
    check = f"PIN{number}"
    if token.pin_locked:
        return fail(check, "locked", "let the security officer set a new PIN")
    if token.pin_final_try:
        return fail(check, "had one try left before this one", "find out who tried wrong ones")
    if token.pin_count_low:
        return warn(check, "somebody gave a wrong one since the last right one", "find out who")
    return ok(check, "right, and no wrong one was given since the last time")


def _quirks(seen: Survey, number: str) -> Finding:
    """Say how the library differs from others, as known and as seen."""
    row = seen.quirks
    said = [seen.library, f"signs with {', '.join(family.value for family in seen.families) or 'nothing that we know'}"]
    if seen.point is not None:
        said.append(f"public points are {seen.point}")
    said.extend(seen.detours)
    if not seen.has_random:
        said.append("has no random generator: it is kept awake by searching")
    if row.unreliable:
        said.append(f"not believed: {', '.join(sorted(one.name for one in row.unreliable))}")
    if row.refused:
        said.append(f"not asked for: {', '.join(sorted(one.name for one in row.refused))}")
    if row.note:
        said.append(row.note)
    said.append("our tests run with " + row.ran if row.ran else "our tests do not run with it")
    text = "; ".join(said)
    if row is NONE:
        return warn(f"quirks{number}", text, "nothing peculiar is known of this library: rehearse (docs/real-hsm.md)")
    return ok(f"quirks{number}", f"{row.name}: {text}")


def _sessions(seen: Survey, number: str) -> Finding:
    check = f"sessions{number}"
    if seen.sessions is None:
        return ok(check, "one is used; the token does not say how many are open")
    limit = "no limit" if seen.max_sessions is None else f"at most {seen.max_sessions}"
    text = f"{seen.sessions} open, one of them ours; {limit}"
    if seen.max_sessions is not None and seen.sessions >= seen.max_sessions:
        return warn(check, text, "end the other programs that use this token")
    return ok(check, text)


def _key(signer: Signer, tokens: TokensSection, issuer: x509.Certificate, number: str) -> Finding:
    public = issuer.public_key()
    key = find_key(signer, public, rules=rules_of(tokens))  # type: ignore[arg-type]  # another kind is not found
    facts = read_facts(key)
    said = {
        is_set: [name.lower() for name, value in facts.attributes.items() if value is is_set]
        for is_set in (True, False)
    }
    text = f"'{facts.label}' is the issuer's: {', '.join(said[True])}; not {', '.join(said[False])}"
    if tokens.backed_up:
        text += "; backed_up: it could leave a token once"
    return ok(f"key{number}", text)


def _order_note(config: Config, signer: Signer, number: str) -> Iterator[Finding]:
    """Say whether the token itself remembers where the order that runs is used."""
    if not config.station.manifest.exists():
        return
    with ManifestReader(config.station.manifest) as reader:
        seals = [one.terms.seal for one in reader.orders() if one.terms.name == config.order.name]
    if not seals or seals[0] is None:
        return
    check = f"order note{number}"
    if notes_kept(signer, seals[0]):
        yield ok(check, f"the token remembers in which manifest order {config.order.name} is used")
    else:
        yield warn(
            check,
            f"the token does not remember order {config.order.name}: it keeps no notes, or was exchanged",
            "import the order's file again; for a token that keeps none, guard ca.db, which remembers in its place",
        )


def _lifetime(config: Config, issuer: x509.Certificate, number: str) -> Finding:
    """Compare the end of the certificates that will be made with the issuer's."""
    check = f"lifetime{number}"
    now, end = datetime.now(UTC), issuer.not_valid_after_utc
    try:
        leaf = Profile.load(config.ca.profile).validity.not_after(now, end)
    except HsmError as error:
        return fail(check, str(error), "make an issuer that lives longer, or choose another profile")
    if end < now + _EXPIRES_SOON:
        return warn(check, f"the issuer ends on {end:%Y-%m-%d}", "plan the next key ceremony")
    return ok(check, f"a certificate made now ends on {leaf:%Y-%m-%d}, its issuer on {end:%Y-%m-%d}")
