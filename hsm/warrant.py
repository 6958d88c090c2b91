"""The signer's own gate: leave to sign, asked for each signature, on the token's thread, right before the token.

A profile with ``order = "required"`` makes certificates that somebody ordered: an identity of a product, and not the
certificate of our own web server. The authority refuses to sign such a draft without a ``Warrant``, and asks it at each
try: a token that slept over the end of an order signs nothing when it wakes. Who calls the authority decides *what* to
ask for; whether it may be signed is not his to say.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from hsm.csr import Csr
from hsm.drafting import LintedTbs
from hsm.errors import WarrantError
from hsm.profiles import OrderRule

__all__ = ["Allot", "Allotment", "Warrant", "check_there"]


class Warrant(Protocol):
    """Leave to sign certificates; what it allows is its maker's matter."""

    def allow(self, draft: LintedTbs) -> None:
        """Return if this draft may be signed now.

        Called on the thread of the token that is about to sign: it may use that token (``Signer.is_here``), and must
        not wait for anything else.

        Raises:
            WarrantError: it may not.
        """


@dataclass(frozen=True, slots=True)
class Allotment:
    """What an order gives to one request."""

    fields: Mapping[str, str]
    """For the profile's templates, like ``product_serial``; nobody else may give them."""
    warrant: Warrant


Allot: TypeAlias = Callable[[Csr], Allotment]
"""Takes from an order what a request needs, durably; asked again for the same key, it gives the same."""


def check_there(draft: LintedTbs, warrant: Warrant | None) -> None:
    """Refuse a draft that needs a warrant, and has none.

    Raises:
        WarrantError: ``warrant.missing``.
    """
    if warrant is None and draft.profile.order is OrderRule.REQUIRED:
        raise WarrantError(
            f"certificates of profile {draft.profile.name!r} are signed under a production order only; give one "
            "(station order import, --order NAME)",
            code="warrant.missing",
        )
