"""Opening the HSM token of a line."""

import logging
import os
from collections.abc import Mapping

from hsm import Signer, TokenUri
from softhsm import keep_spare, mend_tokens

LOG = logging.getLogger(__name__)


def open_token(uri: TokenUri, environment: Mapping[str, str]) -> Signer:
    """Log in to a token; blocks.

    A SoftHSM token of ours that a killed process left half written is mended first (``softhsm.spare``).

    Args:
        uri: which token, which module, where the PIN comes from.
        environment: what the module needs in its environment.

    Raises:
        HsmError: the token can't be used.
    """
    whole = {**os.environ, **environment}
    for path in mend_tokens(whole):
        LOG.warning("%s was left empty by a process that was killed; its spare copy is back in place", path)
    signer = Signer.open(uri, environment=environment)
    keep_spare(whole)
    return signer
