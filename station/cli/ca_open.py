"""Opening the CA of a configuration: journal, token, authority, in the order in which a fault costs least."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from hsm import Authority
from hsm.journal import CaJournal
from hsm.lint import Extra
from station.config import Config
from station.config.certificates import load_certificate, load_issuer
from station.signing import open_signer, rules_of


@asynccontextmanager
async def opened_ca(config: Config, *, extra_lint: Extra | None = None) -> AsyncIterator[tuple[Authority, CaJournal]]:
    """Open the CA that a configuration names; the journal's lock keeps it one writer.

    Raises:
        StationError, HsmError: a file, the journal, the token or the key can't be used.
    """
    issuer, root = load_issuer(config.ca.certificate), load_certificate(config.ca.root)
    with (
        CaJournal.open(config.ca.journal) as journal,
        closing(await asyncio.to_thread(open_signer, config.ca)) as signer,
    ):
        rules = rules_of(config.ca.tokens)
        authority = await Authority.open(signer, issuer=issuer, chain=(root,), rules=rules, extra_lint=extra_lint)
        yield authority, journal
