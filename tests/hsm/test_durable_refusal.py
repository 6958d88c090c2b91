"""What an error of the disk is called."""

import errno
import os
import resource
import shutil
import sqlite3
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from hsm.durable.lock import WriterLock
from hsm.durable.refusal import refusal
from hsm.files import replace_file, write_new
from hsm.journal import JournalUnwritable
from hsm.journal.schema import JOURNAL


@pytest.mark.parametrize(
    ("said", "free", "code"),
    [
        (sqlite3.SQLITE_IOERR_SHMSIZE, 4096, "journal.disk_full"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, 1 << 30, "journal.io"),
        (sqlite3.SQLITE_CANTOPEN, 4096, "journal.disk_full"),
        (sqlite3.SQLITE_CANTOPEN, 1 << 30, "journal.read_only"),
    ],
)
def test_full_disk_on_which_sqlite_fails_otherwise_is_called_full(monkeypatch, tmp_path, said, free, code):
    """With no room for its -shm, SQLite says SQLITE_IOERR_SHMSIZE: nobody would think of space."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    error = sqlite3.OperationalError("refused")
    error.sqlite_errorcode = said
    assert refusal(JOURNAL, error, tmp_path / "ca.db").code == code


@pytest.mark.parametrize(
    ("reason", "code", "move"),
    [(errno.ENOSPC, "journal.disk_full", "make space"), (errno.EROFS, "journal.read_only", "check the rights")],
)
def test_lock_that_can_not_be_made_says_what_to_see_to(monkeypatch, tmp_path, reason, code, move):
    def refuse(*_arguments):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr("hsm.durable.lock.os.open", refuse)
    with pytest.raises(JournalUnwritable, match=move) as caught:
        WriterLock(tmp_path / "ca.db", JOURNAL)
    assert caught.value.code == code


@contextmanager
def no_file_may_grow():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("write", [write_new, replace_file])
def test_file_that_can_not_be_written_is_named(tmp_path, write):
    with pytest.raises(OSError, match="too large") as caught, no_file_may_grow():
        write(tmp_path / "a.pem", b"content")
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "a.pem"))
    assert not list(tmp_path.iterdir())
