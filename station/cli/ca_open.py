"""Opening the CA of a configuration: journal, token, authority, in the order in which a fault costs least."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hsm import Authority
from hsm.journal import CaJournal
from hsm.lint import Extra
from station.cli.ca_journal import PATIENCE, open_journal
from station.config import Config
from station.config.certificates import load_certificate, load_issuer
from station.signing import IssuingCa, opened_authority


@asynccontextmanager
async def opened_ca(
    config: Config, ca: IssuingCa, *, extra_lint: Extra | None = None, patience: float = PATIENCE
) -> AsyncIterator[tuple[Authority, CaJournal]]:
    """Open an issuing CA and the journal, whose lock keeps it one writer.

    Args:
        config: names journal and environment.
        ca: which one, from ``choose_ca``.
        extra_lint: asked when our own rules found nothing.
        patience: seconds to wait for another command that writes to the journal.

    Raises:
        StationError, HsmError: a file, the journal, the token or the key can't be used.
    """
    issuer, root = load_issuer(ca.certificate), load_certificate(ca.root)
    with open_journal(config, patience=patience) as journal:
        async with opened_authority(
            config.ca, ca.tokens, issuer=issuer, chain=(root,), extra_lint=extra_lint
        ) as authority:
            yield authority, journal
