"""What an examination found: one line each, with what to do about it."""

from dataclasses import dataclass
from enum import StrEnum

from hsm.errors import JournalError
from station.errors import ManifestError
from station.ledger.errors import LedgerError


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """The station works, and somebody should look."""
    FAIL = "fail"
    """The station does not work, or must not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``station check`` or ``station doctor``."""

    check: str
    """What was looked at: a word or two, always the same."""
    level: Level
    text: str
    """What was found."""
    advice: str = ""
    """What to do; empty when there is nothing to do, or the text says it."""


def ok(check: str, text: str) -> Finding:
    """Return a good finding."""
    return Finding(check, Level.OK, text)


def warn(check: str, text: str, advice: str) -> Finding:
    """Return a finding that somebody should look at."""
    return Finding(check, Level.WARN, text, advice)


def fail(check: str, text: str, advice: str) -> Finding:
    """Return a bad finding."""
    return Finding(check, Level.FAIL, text, advice)


def unreadable(check: str, error: ManifestError | JournalError | LedgerError) -> Finding:
    """Return the finding for a record that can't be read; only in place of a foreign file one names another."""
    is_foreign = error.code.endswith(".foreign")
    return fail(check, str(error), f"name another file as {check}, or move this one away" if is_foreign else "")
