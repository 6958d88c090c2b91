"""``station.toml``: what it may say, where its mistakes are, and how a new one is made.

Open first: ``sections.py``, what the file means and what is refused; ``ca.py``, ``issuers.py`` and ``crl.py`` are the
sections of the CA; ``product.py``, ``ledger.py`` and ``life.py`` others. ``languages.py`` knows which driver speaks to
a board, ``certificates.py`` reads those that are named. ``section.py`` reads with ``hsm.toml``, which finds the line
number of a mistake; ``folder.py`` makes the folder of a new line.
"""

from station.config.ca import CaSection, profiles
from station.config.crl import CrlSection, span
from station.config.issuers import IssuerSection, TokensSection
from station.config.ledger import LedgerSection
from station.config.life import LifeSection, QuarantineSection
from station.config.product import ProductSection
from station.config.sections import (
    BAUD_RATES,
    MAX_REHEARSAL_BOARDS,
    Config,
    OrderSection,
    RehearsalSection,
    SlotConfig,
    StationSection,
    load,
    problems,
)

__all__ = [
    "BAUD_RATES",
    "MAX_REHEARSAL_BOARDS",
    "CaSection",
    "Config",
    "CrlSection",
    "IssuerSection",
    "LedgerSection",
    "LifeSection",
    "OrderSection",
    "ProductSection",
    "QuarantineSection",
    "RehearsalSection",
    "SlotConfig",
    "StationSection",
    "TokensSection",
    "load",
    "problems",
    "profiles",
    "span",
]
