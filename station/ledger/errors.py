"""Why a ledger can't be kept, or does not hold what it should.

::

    LedgerError                 ledger.error
    ├── NoteInvalid             ledger.note_form, .note_unknown_key, .note_signature   a note is malformed or not signed
    ├── ProofInvalid            ledger.proof_form, .proof_wrong, .proof_no_pass        a proof is malformed or wrong
    ├── NotYetSealed            ledger.not_sealed      no checkpoint covers the event yet
    ├── LedgerForked            ledger.forked          another copy of the manifest is at work on the same token
    └── RolledBack              ledger.rolled_back, .anchor_invalid, .anchor_missing   it is not the newest manifest
"""

from station.errors import StationError


class LedgerError(StationError):
    """The ledger can't be kept."""

    code = "ledger.error"
    operator = "The station can't keep its ledger. Call the line engineer."


class NoteInvalid(LedgerError):
    """A checkpoint or a key is malformed, or the checkpoint is not signed by the key."""

    code = "ledger.note_form"


class ProofInvalid(LedgerError):
    """A proof is malformed, or does not prove what it says."""

    code = "ledger.proof_wrong"


class NotYetSealed(LedgerError):
    """No checkpoint covers the event yet."""

    code = "ledger.not_sealed"


class LedgerForked(LedgerError):
    """Another copy of the manifest wrote to the token since this one did."""

    code = "ledger.forked"
    operator = "Two copies of one manifest are at work. The line stops; call the security officer."


class RolledBack(LedgerError):
    """The manifest does not hold what was signed and kept outside of it."""

    code = "ledger.rolled_back"
    operator = "The manifest is not the one this station wrote last. Stop, and call the security officer."
