"""Which certificates a CRL is about, and where it is found.

======================  ==================================  ==========================================================
file                    at                                  tells
======================  ==================================  ==========================================================
``full.crl``            ``<url>/full.crl``                  all certificates of the issuer that are revoked
``delta.crl``           ``<url>/delta.crl``                 what changed since the complete CRL that it names
``shards/NAME.crl``     ``<url>/shards/NAME.crl``           all of one batch; its certificates name this URL
======================  ==================================  ==========================================================

A shard is critical about its scope (RFC 5280 5.2.5): a program that does not know IssuingDistributionPoint must refuse
it, rather than take a certificate of another batch for good.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Self

from hsm.errors import CrlError

FULL_FILE: Final = "full.crl"
DELTA_FILE: Final = "delta.crl"
SHARD_FOLDER: Final = "shards"

_SHARD: Final = re.compile(r"[0-9A-Za-z_][0-9A-Za-z._-]{0,63}")
"""As the journal has names of batches; fit for URLs and file names."""

_PLAIN_MOST: Final = 48
_DIGEST_DIGITS: Final = 8


@dataclass(frozen=True, slots=True)
class Scope:
    """Which CRL: the full one, the delta, or one shard."""

    kind: str
    shard: str | None = None

    def __str__(self) -> str:
        """Return it as the journal writes it."""
        return self.kind if self.shard is None else f"{self.kind}:{self.shard}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the scope with this name."""
        kind, _, shard = text.partition(":")
        return cls(kind, shard or None)

    @classmethod
    def of_shard(cls, shard: str) -> Self:
        """Return the scope of a shard.

        Raises:
            CrlError: ``crl.shard``: the name can't stand in a URL.
        """
        if not _SHARD.fullmatch(shard):
            raise CrlError(
                f"{shard!r} can't be the name of a shard: 1 to 64 letters, digits, '.', '_' and '-'", code="crl.shard"
            )
        return cls("shard", shard)

    @property
    def file(self) -> PurePosixPath:
        """Where it is, below the folder and below the URL."""
        if self.shard is not None:
            return PurePosixPath(SHARD_FOLDER, f"{self.shard}.crl")
        return PurePosixPath(FULL_FILE if self == FULL else DELTA_FILE)

    def url(self, base: str) -> str:
        """Return its URL below the one that all CRLs of the issuer share."""
        return f"{base.rstrip('/')}/{self.file}"


FULL: Final = Scope("full")
DELTA: Final = Scope("delta")


def shard_of(name: str) -> str:
    """Return the shard for a name of any kind, like a production order's: itself, if it can stand in a URL.

    Otherwise what can, and a digest that keeps two names apart: ``WO 1001`` becomes ``WO-1001-5f1a2b3c``.
    """
    if _SHARD.fullmatch(name):
        return name
    plain = re.sub(r"[^0-9A-Za-z_]+", "-", name).strip("-")[:_PLAIN_MOST]
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_DIGITS]
    return f"{plain}-{digest}" if plain else digest
