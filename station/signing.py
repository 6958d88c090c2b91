"""The CA of a station, opened: its tokens, and who signs what.

Every command that signs opens its tokens here, so that each signature is counted beside the CA's journal, and so that a
spare token stands in wherever the first one fails. A SoftHSM token of ours that a killed process left half written is
mended first (``softhsm.spare``).
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from pkcs11.constants import Attribute

from hsm import Authority, Issuer, Issuers, Signer, TokenGroup, TokenUri
from hsm.key_store import BACKED_UP, RULES
from softhsm import keep_spare, mend_tokens
from station.config import CaSection, Config, TokensSection
from station.config.certificates import load_certificate, load_issuer

LOG = logging.getLogger(__name__)


def open_signer(ca: CaSection, tokens: TokensSection | None = None) -> Signer | TokenGroup:
    """Log in to the tokens of ``[ca]``, or to others with its environment and its count. Blocks.

    Raises:
        HsmError: no token can be used.
    """
    which = tokens or ca.tokens
    uris = [TokenUri.parse(uri) for uri in which.uris]
    environment = {**os.environ, **ca.environment}
    for path in mend_tokens(environment):
        LOG.warning("%s was left empty by a process that was killed; its spare copy is back in place", path)
    signer: Signer | TokenGroup
    if len(uris) == 1:
        signer = Signer.open(uris[0], environment=ca.environment, counts=ca.signatures)
    else:
        signer = TokenGroup.open(uris, environment=ca.environment, spread=which.spread, counts=ca.signatures)
    keep_spare(environment)
    return signer


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


@asynccontextmanager
async def opened_issuers(config: Config) -> AsyncIterator[Issuers]:
    """Open ``[ca]`` and each ``[[issuer]]``; the first in the list is that of ``[ca]``.

    Raises:
        ConfigError: a certificate is missing.
        HsmError: a token can't be used, or does not hold its issuer's key.
    """
    ca = config.ca
    wanted = [(ca.tokens, ca.certificate, ca.root, frozenset[str](), frozenset[str]())]
    wanted += [(one.tokens, one.certificate, one.root, one.profiles, one.orders) for one in config.issuers]
    async with AsyncExitStack() as opened:
        issuers = []
        for tokens, certificate, root, profiles, orders in wanted:
            signer = await _open_in_time(ca, tokens)
            opened.callback(signer.close)
            authority = await Authority.open(
                signer,
                issuer=load_issuer(certificate),
                chain=(load_certificate(root),),
                rules=rules_of(tokens),
            )
            issuers.append(Issuer(authority, profiles, orders))
        yield Issuers(issuers)
