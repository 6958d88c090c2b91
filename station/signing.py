"""The CA of a station, opened: its tokens, and who signs what.

Every command that signs opens its tokens here, so that each signature is counted beside the CA's journal, a key that is
not what it should be is refused, and a spare token stands in wherever the first one fails. A SoftHSM token of ours that
a killed process left half written is mended first (``softhsm.spare``). Ceremonies alone open tokens by themselves: each
signature of theirs stands in a transcript. A token with a root's key is closed again before it is asked for anything.
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from pkcs11.constants import Attribute

from hsm import Authority, Issuer, Issuers, Signer, TokenGroup, TokenUri
from hsm.algorithms import family_of
from hsm.health import State
from hsm.key_store import BACKED_UP, RULES
from hsm.lint import Extra
from hsm.root_mark import root_in
from softhsm import keep_spare, mend_tokens
from station.config import CaSection, Config, TokensSection
from station.config.certificates import load_certificate, load_issuer, roots_in
from station.errors import ConfigError, StationError

Opened = TypeVar("Opened", bound=Signer | TokenGroup)

LOG = logging.getLogger(__name__)


def open_token(ca: CaSection, uri: str, *, writable: bool = False) -> Signer:
    """Log in to one token, with the environment and the count of ``[ca]``. Blocks.

    Raises:
        HsmError: it can't be used.
    """
    return _whole(
        ca,
        lambda: Signer.open(TokenUri.parse(uri), environment=ca.environment, writable=writable, counts=ca.signatures),
    )


def open_signer(ca: CaSection, tokens: TokensSection | None = None) -> Signer | TokenGroup:
    """Log in to the tokens of ``[ca]``, or to others with its environment and its count. Blocks.

    Raises:
        HsmError: no token can be used.
    """
    which = tokens or ca.tokens
    if len(which.uris) == 1:
        return open_token(ca, which.uris[0])
    uris = [TokenUri.parse(uri) for uri in which.uris]
    return _whole(
        ca, lambda: TokenGroup.open(uris, environment=ca.environment, spread=which.spread, counts=ca.signatures)
    )


def _whole(ca: CaSection, login: Callable[[], Opened]) -> Opened:
    """Log in to tokens that are whole, and keep what makes them whole again."""
    environment = {**os.environ, **ca.environment}
    for path in mend_tokens(environment):
        LOG.warning("%s was left empty by a process that was killed; its spare copy is back in place", path)
    opened = login()
    try:
        for signer in opened.signers if isinstance(opened, TokenGroup) else (opened,):
            if signer.state is State.AWAKE:  # one that wakes up later is asked for the issuer's key only
                refuse_root(ca, signer)
    except BaseException:
        opened.close()
        raise
    keep_spare(environment)
    return opened


def refuse_root(ca: CaSection, signer: Signer) -> None:
    """See that a token holds no root's key. Blocks.

    Raises:
        ConfigError: it does (``config.root_token``).
        HsmError: the token can't be asked.
    """
    folders = dict.fromkeys((ca.certificate.parent, ca.root.parent))
    keys = (root.public_key() for folder in folders for root in roots_in(folder))
    label = root_in(signer, (key for key in keys if family_of(key) is not None))  # type: ignore[misc] # it knows no others
    if label is not None:
        raise ConfigError(
            f"token {signer.name!r} holds {label!r}, the key of a root, and root tokens are opened by "
            "'station ca ceremony' only; name another token, and put this one back into its safe",
            code="config.root_token",
        )


async def _open_in_time(ca: CaSection, tokens: TokensSection) -> Signer | TokenGroup:
    """Log in, in a thread; a human is asked for the PIN on the main thread: only there ctrl-C reaches the question."""
    sources = [TokenUri.parse(uri).pin_source for uri in tokens.uris]
    attended = any(source is not None and source.attended for source in sources)
    if not attended or threading.current_thread() is not threading.main_thread():
        return await asyncio.to_thread(open_signer, ca, tokens)
    asyncios = signal.signal(signal.SIGINT, signal.default_int_handler)  # its own only notes a ctrl-C, and waits on
    try:
        return open_signer(ca, tokens)
    finally:
        signal.signal(signal.SIGINT, asyncios)


def rules_of(tokens: TokensSection) -> Mapping[Attribute, bool]:
    """Return what the issuing key in these tokens must be."""
    return BACKED_UP if tokens.backed_up else RULES


@dataclass(frozen=True, slots=True)
class IssuingCa:
    """One issuing CA of a configuration, not opened."""

    tokens: TokensSection
    certificate: Path
    root: Path
    profiles: frozenset[str] = frozenset()
    """Names of the profiles that it signs; empty: all."""
    orders: frozenset[str] = frozenset()
    """Names of the orders that it signs for; empty: all."""


def issuing_cas(config: Config) -> tuple[IssuingCa, ...]:
    """Return the issuing CAs of a configuration, that of ``[ca]`` first."""
    ca = config.ca
    more = (IssuingCa(one.tokens, one.certificate, one.root, one.profiles, one.orders) for one in config.issuers)
    return IssuingCa(ca.tokens, ca.certificate, ca.root), *more


def choose_ca(config: Config, profile: str, certificate: Path | None = None) -> IssuingCa:
    """Return which issuing CA a command signs with: always the same, so that a command can be given again.

    It is the one whose certificate is named; else the first ``[[issuer]]`` that names the profile and no orders; else
    that of ``[ca]``.

    Raises:
        StationError: the certificate is that of none (``config.no_issuer``), or of one that signs other profiles only
            (``config.other_profiles``).
    """
    known = issuing_cas(config)
    if certificate is None:
        return next((one for one in known if profile in one.profiles and not one.orders), known[0])
    wanted = load_certificate(certificate)
    for one in known:
        if load_certificate(one.certificate) == wanted:
            if one.profiles and profile not in one.profiles:
                raise StationError(
                    f"{certificate} signs {', '.join(sorted(one.profiles))} only; add '{profile}' to its [[issuer]] "
                    "profiles",
                    code="config.other_profiles",
                )
            return one
    raise StationError(f"{certificate}: neither [ca] nor an [[issuer]] has this certificate", code="config.no_issuer")


@asynccontextmanager
async def opened_authority(
    ca: CaSection,
    tokens: TokensSection,
    *,
    issuer: x509.Certificate,
    chain: Sequence[x509.Certificate] = (),
    extra_lint: Extra | None = None,
) -> AsyncIterator[Authority]:
    """Open the tokens of one issuing CA, and see that they hold its key.

    Raises:
        HsmError: a token can't be used, or does not hold the key.
    """
    signer = await _open_in_time(ca, tokens)
    try:
        yield await Authority.open(signer, issuer=issuer, chain=chain, rules=rules_of(tokens), extra_lint=extra_lint)
    finally:
        signer.close()


@asynccontextmanager
async def opened_issuers(config: Config) -> AsyncIterator[Issuers]:
    """Open ``[ca]`` and each ``[[issuer]]``; the first in the list is that of ``[ca]``.

    Raises:
        ConfigError: a certificate is missing.
        HsmError: a token can't be used, or does not hold its issuer's key.
    """
    async with AsyncExitStack() as opened:
        issuers = []
        for one in issuing_cas(config):
            issuer, root = load_issuer(one.certificate), load_certificate(one.root)
            opening = opened_authority(config.ca, one.tokens, issuer=issuer, chain=(root,))
            issuers.append(Issuer(await opened.enter_async_context(opening), one.profiles, one.orders))
        yield Issuers(issuers)
