"""In which manifest an order is used, as the token remembers it: no order is used twice with one token.

On import a note goes into each issuing token: ``order <uid>`` with the manifest's identity. A fresh manifest has
another identity, so the same order, imported there, is refused. A copy has the same identity; that it is not older than
the token knows is the ledger's matter. A token that keeps no notes leaves a row in the CA's journal instead, which is
worth less: a file can be left behind.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from hsm import HsmError, Signer, TokenGroup
from hsm.data_objects import read_notes, write_note
from hsm.journal import CaJournal, JournalReader
from station.manifest import OrderSeal
from station.orders.errors import OrderError

_FORMAT: Final = "station-order-use-1"


def bind(signer: Signer | TokenGroup, journal: Path, seal: OrderSeal, manifest: str) -> tuple[str, ...]:
    """Let the tokens remember in which manifest an order is used. Blocks.

    Args:
        signer: the issuing tokens.
        journal: the CA's.
        seal: of the order.
        manifest: identity of the manifest.

    Returns:
        Names of the tokens that keep no notes; the journal remembers for them.

    Raises:
        OrderError: a token, or the journal, knows it from another manifest (``order.replayed``).
        OrderError: a token is away (``order.token_away``): it would take the order for a new one in another manifest.
        HsmError: a token refuses.
    """
    if (away := token_away(signer)) is not None:
        raise OrderError(
            f"each token of [ca] has to remember the order, and one is away ({away}); plug it in and import again, "
            "or take it out of [ca] for good",
            code="order.token_away",
            operator="A token is missing. Call the line engineer.",
        )
    tokens = _tokens(signer)
    known = {token.name: _notes(token, seal) for token in tokens}
    _check(seal, manifest, [one for notes in known.values() for one in notes] + _row(journal, seal))
    refusing = []
    for token in tokens:
        if known[token.name]:
            continue
        value = {"format": _FORMAT, "order": seal.uid, "payload": seal.payload_sha256.hex(), "manifest": manifest}
        try:
            write_note(token, _label(seal), json.dumps(value).encode())
        except HsmError as error:
            if error.code != "token.no_notes":
                raise
            refusing.append(token.name)
    if refusing and not _row(journal, seal):
        with CaJournal.open(journal) as opened:
            opened.perform_blocking(partial(_remember, seal=seal, manifest=manifest))
    return tuple(refusing)


def check_bound(signer: Signer | TokenGroup, journal: Path, seal: OrderSeal, manifest: str) -> None:
    """Refuse an order that the tokens know from another manifest, or don't know at all. Blocks.

    Raises:
        OrderError: ``order.replayed``, or ``order.not_bound``.
        HsmError: a token refuses.
    """
    known = [one for token in _tokens(signer) for one in _notes(token, seal)] + _row(journal, seal)
    _check(seal, manifest, known)
    if not known:
        raise OrderError(
            "the token does not know this order: it was imported with another one; import the order's file again, "
            "which changes nothing in the manifest and tells the token",
            code="order.not_bound",
        )


def notes_kept(signer: Signer, seal: OrderSeal) -> bool:
    """Whether a token itself remembers the order; for ``station doctor``. Blocks."""
    return bool(_notes(signer, seal))


def token_away(signer: Signer | TokenGroup) -> HsmError | None:
    """Return why one of several tokens can't be asked now; None: all can."""
    if not isinstance(signer, TokenGroup):
        return None
    away = (error for one in signer.signers if (error := one.unavailable) is not None)
    return next(away, next(iter(signer.faults), None))


def _tokens(signer: Signer | TokenGroup) -> Sequence[Signer]:
    if isinstance(signer, TokenGroup):
        return [one for one in signer.signers if one.unavailable is None]
    return [signer]


def _label(seal: OrderSeal) -> str:
    return f"order {seal.uid}"


def _notes(token: Signer, seal: OrderSeal) -> list[str]:
    """Return the manifests that a token knows the order from; a note that can't be read is one of nobody's."""
    found = []
    for note in read_notes(token, _label(seal)):
        try:
            said = json.loads(note)
            found.append(str(said["manifest"]))
        except (ValueError, LookupError, TypeError):
            found.append("")
    return found


def _row(journal: Path, seal: OrderSeal) -> list[str]:
    if not journal.exists():
        return []
    try:
        with JournalReader(journal) as reader:
            return [row[0] for row in reader.rows("SELECT manifest FROM order_use WHERE uid = ?", seal.uid)]
    except HsmError as error:
        if error.code != "journal.older":
            raise
        return []  # it was never written to since orders are signed


def _check(seal: OrderSeal, manifest: str, known: Iterable[str]) -> None:
    for other in known:
        if other != manifest:
            raise OrderError(
                f"the token knows this order from another manifest ({other[:8] or 'unreadable'}…, this one is "
                f"{manifest[:8]}…): an order is used once. Go on with that manifest or with its newest backup, or ask "
                "for a new order",
                code="order.replayed",
                operator="This order was used elsewhere. Call the security officer.",
                order=seal.uid,
            )


def _remember(connection: sqlite3.Connection, at: str, *, seal: OrderSeal, manifest: str) -> None:
    connection.execute(
        "INSERT INTO order_use (uid, manifest, payload_sha256, at) VALUES (?, ?, ?, ?)",
        (seal.uid, manifest, seal.payload_sha256, at),
    )
