"""``[ledger]``: the key that signs checkpoints of the manifest, and how often."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from station.config.section import Section

INTERVAL: Final = 60
"""Seconds between two checkpoints of a line at work."""

MAX_INTERVAL: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class LedgerSection:
    """How the ledger is kept."""

    key: Path = Path("ca/ledger.pem")
    """Public half of the ledger key (PEM); the private one is in the token of ``[ca]``. No file: no checkpoints."""
    interval: int = INTERVAL
    """Seconds from one checkpoint to the next, where something happened meanwhile."""


def read_ledger(section: Section, folder: Path) -> LedgerSection:
    """Read the section; empty if it is left out."""
    value = LedgerSection(
        key=folder / section.text("key", "ca/ledger.pem", limit=4096),
        interval=section.integer("interval", 1, MAX_INTERVAL, default=INTERVAL),
    )
    section.close()
    return value
