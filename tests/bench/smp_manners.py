"""What SMP servers in the field are like, as data for ``smp_servers``."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Manners:
    """What one server is like. The defaults are those of a Zephyr application."""

    buffer: int = 2048
    """Bytes of a message with its length and CRC; a larger one is dropped without a word."""
    tells_buffer: bool = True
    """It has the command for that."""
    told_buffers: int = 4
    keeps: int = 4
    """Requests that it holds, the one at work included; more are dropped."""
    passes_over: bool = False
    """It says nothing to a command that it does not know."""
    version: int = 2
    """1: every answer holds ``rc``, and errors are nothing else."""
    work: float = 0.0
    """Seconds for each request."""
    erase: float = 0.0
    """Seconds for the first piece."""
    lags: bool = False
    """Each answer waits for the next request."""
    doubles: bool = False
    """Each answer comes twice."""
    swaps: bool = False
    """It takes the later of two requests that wait first."""
    loses: int = 0
    """Every so many pieces one is lost on the wire; 0: none."""
    loses_first: int = 0
    """So many first pieces are lost."""
    forgets_at: int | None = None
    """Once this offset is reached it is reset, and knows nothing of the upload; once."""
    refuses_offsets: bool = False
    """A wrong offset is an error, and not an answer with the right one."""
    says_more: bool = False
    """Fields that nobody knows."""
    chats: bool = False
    """Lines of log before each answer."""
    is_loader: bool = False
    """MCUboot's serial recovery: writes the first slot, has no flags and takes no wishes."""
    has_flags: bool = False
    """Of its loader: it calls the first slot the active one."""
    has_hashes: bool = True
    slot: int = 100_000
    """Bytes of a slot."""
    boots: bool = True
    """Runs what it was told to; otherwise the old image runs again."""
    tells_pending: bool = True
    refuses_downgrade: bool = False
    bootloader: str | None = None
    """Its version, if the server tells it."""
    boot: float = 0.05
    """Seconds that it is silent after a reset."""
    lingers: float = 0.0
    """Seconds after that in which a request keeps its loader from starting the image."""
    misses_resets: int = 0
    """So many of them do not arrive."""
    images: int = 1
    damages: bool = False
    """The slot holds other bytes than were sent, and it says so."""
    forgets_images: int = 0
    """So many of them are gone once they have come whole: what a bootloader does with one that it can't accept."""
    raw: bool = False
    """Framing."""


SERVERS: Final = {
    "zephyr": Manners(),
    "zephyr, one buffer": Manners(told_buffers=1, keeps=1, work=0.002),
    "zephyr, more told than kept": Manners(told_buffers=8, keeps=1, work=0.002),
    "raw": Manners(raw=True),
    "96 bytes": Manners(buffer=96),
    "128 bytes": Manners(buffer=128),
    "256 bytes, not told": Manners(buffer=256, tells_buffer=False),
    "96 bytes, not told": Manners(buffer=96, tells_buffer=False, passes_over=True),
    "1024 bytes, not told, one at a time": Manners(buffer=1024, tells_buffer=False, keeps=1, work=0.002),
    "passes over what it does not know": Manners(tells_buffer=False, passes_over=True),
    "mynewt, version 1": Manners(version=1, buffer=512),
    "version 1, wrong offsets are errors": Manners(version=1, buffer=512, refuses_offsets=True, loses=7),
    "mcuboot": Manners(is_loader=True, version=1, buffer=1024, tells_buffer=False),
    "mcuboot with params": Manners(is_loader=True, version=1, buffer=512, told_buffers=1),
    "mcuboot without hashes": Manners(is_loader=True, version=1, buffer=512, has_hashes=False),
    "mcuboot with flags": Manners(is_loader=True, has_flags=True, version=1, buffer=512),
    "mcuboot that waits for a download": Manners(is_loader=True, version=1, buffer=512, lingers=0.1),
    "misses the reset": Manners(misses_resets=1),
    "misses the reset, does not tell what waits": Manners(misses_resets=1, tells_pending=False),
    "slow erase": Manners(erase=1.0, keeps=2),
    "slow erase, one buffer": Manners(erase=1.0, keeps=1),
    "answers late by one": Manners(lags=True),
    "answers twice": Manners(doubles=True),
    "takes the later one first": Manners(swaps=True, work=0.002),
    "loses one in five": Manners(loses=5),
    "loses one in five, refuses offsets": Manners(loses=5, refuses_offsets=True),
    "loses the first one": Manners(loses_first=1),
    "loses the first one, answers late by one": Manners(loses_first=1, lags=True),
    "reset in the middle": Manners(forgets_at=9000),
    "reset in the middle, refuses offsets": Manners(forgets_at=9000, refuses_offsets=True),
    "reset in the middle, answers late by one": Manners(forgets_at=9000, lags=True),
    "says more than it should": Manners(says_more=True),
    "chats": Manners(chats=True),
    "does not tell what waits": Manners(tells_pending=False),
}
"""Each of them ends with the image running."""
