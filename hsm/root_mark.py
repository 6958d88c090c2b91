"""The mark of a root's key: the first octets of its ``CKA_ID``.

A root's token is opened by ceremonies only. What a configuration says can't tell which token that is: a root may have a
certificate below another root, which looks like any issuer's. So the key itself bears the mark, from the moment it is
made, and its copies do too; whoever opens a token for the line's work looks for it first.

A key that an older version made, or another program, bears none: there the certificates that are known tell
(``root_in``).
"""

import secrets
from collections.abc import Iterable
from typing import Final

from cryptography import x509
from pkcs11.constants import Attribute, ObjectClass

from hsm.algorithms import PublicKey
from hsm.errors import KeyMissing, KeyUnfit
from hsm.key_rules import RULES, objects
from hsm.keys import AnyTokenKey
from hsm.request import KeyName
from hsm.signer import Signer
from hsm.token import Session

ROOT_MARK: Final = b"ca-root:"
_ID_OCTETS: Final = 16


def new_key_id(*, root: bool = False) -> bytes:
    """Return a ``CKA_ID`` for a new key, which no other key has."""
    mark = ROOT_MARK if root else b""
    return mark + secrets.token_bytes(_ID_OCTETS - len(mark))


def copy_key_id(key: AnyTokenKey) -> bytes:
    """Return the ``CKA_ID`` of a key's copy in another token: made of its public half, after the mark if it has one."""
    digest = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    return (ROOT_MARK + digest)[:_ID_OCTETS] if key.key_id.startswith(ROOT_MARK) else digest


def root_in(signer: Signer, roots: Iterable[PublicKey] = ()) -> str | None:
    """Return the label of a root's private key in a token, or None. Blocks.

    Args:
        signer: awake.
        roots: keys of roots that are known by their certificates.

    Raises:
        HsmError: the token can't be asked.
    """

    def marked(session: Session) -> str | None:
        for found in objects(session, {Attribute.CLASS: ObjectClass.PRIVATE_KEY}):
            if bytes(found[Attribute.ID] or b"").startswith(ROOT_MARK):
                return str(found[Attribute.LABEL])
        return None

    if (label := signer.call_blocking(marked)) is not None:
        return label
    for root in roots:
        try:
            return signer.find_blocking(KeyName.of(root, RULES)).label
        except KeyMissing:
            continue
        except KeyUnfit as error:  # it is there, and fit for nothing
            return str(error)
    return None
