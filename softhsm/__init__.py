"""How a SoftHSM token is made for development, tests and the demo.

SoftHSM keeps a PKCS#11 token in a folder. ``make_tokens`` makes such a folder, with its own ``softhsm2.conf``, so that
the tokens of the user who runs it are never touched. For a factory, put a real HSM in its place: ``docs/real-hsm.md``.

Open first: ``tokens.py``. ``child.py`` is the program that talks to the module while tokens are made; ``spare.py``
heals tokens after a ``kill -9`` in the middle of a login.

This package knows none of the others.
"""

from softhsm.spare import keep_spare, mend_tokens
from softhsm.tokens import SoftHsm, SoftHsmError, find_module, make_tokens

__all__ = ["SoftHsm", "SoftHsmError", "find_module", "keep_spare", "make_tokens", "mend_tokens"]
